"""The web page is its built files and nothing else."""

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.types import Scope

from services.edge.operation.page import Page


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    (tmp_path / "secret.txt").write_text("not yours")
    root = tmp_path / "dist"
    (root / "assets").mkdir(parents=True)
    (root / "index.html").write_text("<p>Hello")
    (root / "favicon.svg").write_text("<svg/>")
    (root / "assets" / "index-abc123.js").write_text("1")
    return root


async def get(page: Page, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    sent = []
    scope: Scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "root_path": "",
        "query_string": b"",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b""}

    async def send(message: object) -> None:
        sent.append(message)

    await Starlette(routes=page.routes())(scope, receive, send)
    start, body = sent
    return start["status"], {k.decode(): v.decode() for k, v in start["headers"]}, body["body"]  # type: ignore[index]


async def test_the_root_is_the_page_and_is_asked_for_anew_each_time(dist: Path) -> None:
    status, headers, body = await get(Page(dist), "/")
    assert (status, body) == (200, b"<p>Hello")
    assert headers["cache-control"] == "no-cache"
    assert headers["content-type"] == "text/html; charset=utf-8"


async def test_the_page_loads_nothing_from_elsewhere(dist: Path) -> None:
    policy = dict(
        part.strip().split(" ", 1) for part in (await get(Page(dist), "/"))[1]["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["img-src"] == "'self' data:"
    assert policy["frame-ancestors"] == "'none'"


async def test_assets_with_their_hash_in_the_name_are_kept_for_ever(dist: Path) -> None:
    _, headers, _ = await get(Page(dist), "/assets/index-abc123.js")
    assert headers["cache-control"] == "public, max-age=31536000, immutable"
    assert headers["content-type"].startswith(("text/javascript", "application/javascript"))


async def test_what_has_not_changed_is_not_sent_again(dist: Path) -> None:
    page = Page(dist)
    etag = (await get(page, "/"))[1]["etag"]
    status, _, body = await get(page, "/", if_none_match=etag)
    assert (status, body) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/../secret.txt", "/assets/../../secret.txt", "/%2e%2e/secret.txt", "//secret.txt", "/assets"]
)
async def test_nothing_outside_can_be_had(dist: Path, path: str) -> None:
    assert (await get(Page(dist), path))[0] == 404


async def test_a_page_that_is_not_built_says_how(tmp_path: Path) -> None:
    status, _, body = await get(Page(tmp_path), "/")
    assert status == 404
    assert b"make web" in body
