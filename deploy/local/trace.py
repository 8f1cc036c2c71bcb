"""`make trace`: shows where the last turn's waterfall is, and draws it in the terminal."""

from __future__ import annotations

import json
import shutil
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from deploy.local.home import Home

if TYPE_CHECKING:
    from deploy.local.settings import Settings

_TIMEOUT_S = 5


def trace(settings: Settings) -> int:
    """Prints the last turn's trace and returns the exit status: 1 where there is none to show."""
    home = Home(settings.home)
    run = home.read_run()
    if run is None:
        return _say(f"Parley does not run with {home.path}: start it with `make run`.")
    viewer = run["traces_url"]
    if viewer is None:
        return _say(
            "Traces go to the place that the environment names (OTEL_EXPORTER_OTLP_ENDPOINT or …_TRACES_ENDPOINT): look there."
        )
    width = shutil.get_terminal_size((120, 24)).columns
    try:
        latest = json.loads(_get(f"{viewer}/api/latest"))
        drawn = _get(f"{viewer}/api/traces/{latest['trace_id']}?format=text&width={width}")
    except urllib.error.HTTPError:
        return _say(f"No turn has been traced yet; send a message at {run['edge_url']}.")
    except OSError:
        return _say(f"The trace viewer at {viewer} does not answer.")
    sys.stdout.write(f"{latest['name']}  {viewer}/trace/{latest['trace_id']}\n\n{drawn}\n")
    return 0


def _get(url: str) -> str:
    # A proxy of the user's has no business on loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=_TIMEOUT_S) as answer:
        text: str = answer.read().decode()
        return text


def _say(text: str) -> int:
    sys.stderr.write(text + "\n")
    return 1
