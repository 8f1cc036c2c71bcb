"""The web page: the built files, read once, so that no request ever touches the file system."""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""What the page may load: itself. An answer's remote images and scripts are not."""

_NOT_BUILT = "The web page has not been built: run `make web`. The API works without it and is described at /docs.\n"
_HASHED = "/assets/"


@dataclass(frozen=True)
class _File:
    body: bytes
    headers: dict[str, str]

    def answer(self, request: Request) -> Response:
        if request.headers.get("if-none-match") == self.headers["etag"]:
            return Response(status_code=304, headers=self.headers)
        return Response(self.body, headers=self.headers)


class Page:
    """The files below a directory, each at its path.

    Args:
        root: Where `index.html` is; a directory without it serves a message instead.
    """

    def __init__(self, root: Path) -> None:
        self._files: dict[str, _File] = {}
        if (root / "index.html").is_file():
            for path in sorted(root.rglob("*")):
                if path.is_file():
                    self._files["/" + path.relative_to(root).as_posix()] = _read(path, root)

    def routes(self) -> list[Route]:
        """Returns a route for each file, and `/` for the page."""
        paths = ["/", *self._files]
        return [Route(path, self._answer, methods=["GET"]) for path in paths]

    async def _answer(self, request: Request) -> Response:
        path: str = request.scope["path"]
        found = self._files.get("/index.html" if path == "/" else path)
        if found is None:
            return Response(_NOT_BUILT, 404, media_type="text/plain")
        return found.answer(request)


def _read(path: Path, root: Path) -> _File:
    body = path.read_bytes()
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    hashed = ("/" + path.relative_to(root).as_posix()).startswith(_HASHED)
    headers = {
        "content-type": f"{kind}; charset=utf-8" if kind.startswith("text/") else kind,
        "cache-control": "public, max-age=31536000, immutable" if hashed else "no-cache",
        "content-security-policy": POLICY,
        "etag": f'"{hashlib.sha256(body).hexdigest()[:32]}"',
    }
    return _File(body, headers)
