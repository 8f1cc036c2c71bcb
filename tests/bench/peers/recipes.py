"""What is started of others, and how it is asked: each as its own documentation runs it in production, one process each."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.targets import Seat

ENVIRONMENTS = Path(__file__).resolve().parents[3] / ".parley" / "bench-peers"
"""Where `make bench-peers` installs them."""
_HERE = Path(__file__).parent
_LITELLM_KEY = "sk-bench"
_PORTKEY_PACKAGE = "portkey/node_modules/@portkey-ai/gateway"


class NotInstalled(Exception):
    """There is no environment for it."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to start one, and how to ask it.

    Attributes:
        argv: Its command; the first word is an absolute path.
        env: Its whole environment, but for PATH and HOME.
        files: Written into its working directory before it starts, by name.
        ready: Path that answers 200 as soon as it serves.
        seat: Whose key and which headers each request bears.
        version: Of what is measured.
    """

    argv: tuple[str, ...]
    env: dict[str, str]
    files: dict[str, str] = field(default_factory=dict)
    ready: str
    seat: Seat
    version: str


def litellm(provider: str, port: int, environments: Path = ENVIRONMENTS) -> Recipe:
    """Returns how to run LiteLLM's proxy: one worker, a key of its own, no database, nothing fetched at start.

    Args:
        provider: `host:port` of the provider that stands in for OpenAI.
        port: Where it listens, on loopback.
        environments: Where `make bench-peers` has put it.

    Raises: NotInstalled.
    """
    command = environments / "litellm" / "bin" / "litellm"
    packages = sorted((environments / "litellm").glob("lib/python*/site-packages/litellm-*.dist-info"))
    if not (command.exists() and packages):
        raise NotInstalled("litellm")
    config = {
        "model_list": [
            {
                "model_name": "bench-*",
                "litellm_params": {
                    "model": "openai/bench-*",
                    "api_base": f"http://{provider}/v1",
                    "api_key": "bench",
                },
            }
        ],
        "general_settings": {"master_key": _LITELLM_KEY},
        "litellm_settings": {"set_verbose": False, "telemetry": False, "request_timeout": 600},
    }
    options = {"--config": "config.yaml", "--host": "127.0.0.1", "--port": str(port), "--num_workers": "1"}
    local = ("MODEL_COST_MAP", "ANTHROPIC_BETA_HEADERS", "BLOG_POSTS", "AUTOROUTER_PRESETS", "POLICY_TEMPLATES")
    return Recipe(
        argv=(str(command), *(word for option in options.items() for word in option), "--telemetry", "False"),
        env={
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOG": "ERROR",
            "PYTHONUNBUFFERED": "1",
            **{f"LITELLM_LOCAL_{name}": "True" for name in local},
        },
        # JSON is YAML.
        files={"config.yaml": json.dumps(config)},
        ready="/health/readiness",
        seat=Seat(_LITELLM_KEY),
        version=packages[-1].name.removeprefix("litellm-").removesuffix(".dist-info"),
    )


def portkey(provider: str, port: int, environments: Path = ENVIRONMENTS) -> Recipe:
    """Returns how to run Portkey's gateway: told by each request's headers where to go. Likewise otherwise."""
    package = environments / _PORTKEY_PACKAGE
    node = shutil.which("node")
    if node is None or not package.exists():
        raise NotInstalled("portkey")
    return Recipe(
        argv=(
            node,
            "--require",
            str(_HERE / "portkey" / "loopback.cjs"),
            str(package / "build" / "start-server.js"),
            f"--port={port}",
            "--headless",
        ),
        env={"NODE_ENV": "production"},
        ready="/",
        seat=Seat("bench", headers=("x-portkey-provider: openai", f"x-portkey-custom-host: http://{provider}/v1")),
        version=str(json.loads((package / "package.json").read_text())["version"]),
    )


RECIPES = {"litellm": litellm, "portkey": portkey}
