"""Which providers are reached through a proxy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.gateway.providers.connections import proxy_for


@pytest.fixture(autouse=True)
def proxies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3129")
    monkeypatch.setenv("NO_PROXY", "inner.example")
    proxy_for.cache_clear()
    yield
    proxy_for.cache_clear()


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("https://api.openai.com/v1", "http://proxy.example:3128"),
        ("http://outer.example/v1", "http://proxy.example:3129"),
        ("https://llm.inner.example/v1", None),
        ("http://127.0.0.1:11434", None),
        ("http://[::1]:8000/v1", None),
        ("http://localhost:8000/v1", None),
    ],
)
def test_a_provider_is_reached_as_the_usual_variables_say(url: str, proxy: str | None) -> None:
    assert proxy_for(url) == proxy
