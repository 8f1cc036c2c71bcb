"""The viewer's HTTP side: JSON for programs, one page that needs no outside host for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deploy.local.trace_viewer import waterfall

if TYPE_CHECKING:
    from deploy.local.http_server import Request, Response
    from deploy.local.trace_viewer.store import Trace, TraceStore

_PAGE = Path(__file__).with_name("page.html")
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:"


class Pages:
    """The pages and what stands behind them.

    - `GET /` and `/trace/<id>`: the page; `/latest` leads to the newest turn's;
    - `GET /api/traces`: `{"traces": [summary, …]}`, newest first;
    - `GET /api/traces/<id>`, `/api/latest`: a whole waterfall; `?format=text&width=120` draws it.
    """

    def __init__(self, store: TraceStore) -> None:
        self._store = store

    async def handle(self, request: Request, response: Response) -> None:
        """Answers one request; what it does not know is left to the server's 404."""
        path = request.path
        if request.method != "GET":
            return
        if path == "/healthz":
            response.send_json(200, {"status": "ok"})
        elif path == "/latest":
            latest = self._store.latest()
            place = "/" if latest is None else f"/trace/{latest.trace_id}"
            response.send(302, "", "text/plain", {"location": place, "cache-control": "no-store"})
        elif path == "/" or path.startswith("/trace/"):
            response.send(200, _PAGE.read_bytes(), "text/html; charset=utf-8", {"content-security-policy": _POLICY})
        elif path == "/api/traces":
            response.send_json(200, {"traces": [waterfall.summary(trace) for trace in self._store.newest_first()]})
        elif path == "/api/latest":
            self._trace(self._store.latest(), request, response)
        elif path.startswith("/api/traces/"):
            self._trace(self._store.get(path.rpartition("/")[2]), request, response)

    def _trace(self, trace: Trace | None, request: Request, response: Response) -> None:
        if trace is None:
            response.send_json(404, {"error": "There is no such trace; only the last ones are kept."})
        elif request.query.get("format") == "text":
            width = request.query.get("width", "")
            drawn = waterfall.text(trace, int(width) if width.isdecimal() else 120)
            response.send(200, drawn, "text/plain; charset=utf-8")
        else:
            response.send_json(200, waterfall.detail(trace))
