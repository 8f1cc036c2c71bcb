"""The table of what runs: every process of Parley on one machine, with its command, environment and order."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from deploy.local import health, secret_files
from deploy.local.addresses import SERVICES, instances, service_of, target
from deploy.local.settings import ROOT
from deploy.local.unit import ProcessSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy.local.addresses import Addresses
    from deploy.local.home import Home

HELPERS = ("postgres", "redis", "demo_provider", "trace_viewer")

# What a process is allowed to see of the user's environment. A list of the good, not of the bad: the names under which
# people keep their keys are not to be known beforehand. The gateway alone gets everything, for the keys are for it.
_PASSED_ON = frozenset(
    "HOME LANG LOGNAME PATH SSL_CERT_DIR SSL_CERT_FILE TMPDIR TZ USER VIRTUAL_ENV".split()  # noqa: SIM905 - one line
)
_PASSED_ON_PREFIXES = ("LC_", "OTEL_")
_LAUNCHER_ONLY = {"PARLEY_DATABASE_URL", "PARLEY_DATABASE_URL_FILE", "PARLEY_REDIS_URL", "PARLEY_REDIS_URL_FILE"}
_DRAIN_S = 10
_AFTER_DRAIN_S = 5

_CALLS = {
    "auth": (),
    "data": ("auth",),
    "gateway": ("auth",),
    "chat": ("auth", "data", "gateway"),
    "edge": ("auth", "data", "chat", "gateway"),
}
_OWN = {
    "auth": {"ENCRYPTION_KEY_FILE": "auth_encryption_key", "CHAT_KEY_FILE": "chat_actor_key"},
    "data": {},
    "gateway": {"ENCRYPTION_KEYS_FILE": "gateway_encryption_keys", "REDIS_URL_FILE": "redis_url"},
    "chat": {"REDIS_URL_FILE": "redis_url", "ACTOR_KEY_FILE": "chat_actor_key"},
    "edge": {},
}
_AFTER = {
    "auth": ("migrate-auth",),
    "data": ("migrate-data", "auth"),
    "gateway": ("migrate-gateway", "redis", "demo_provider"),
    "chat": ("auth", "data", "redis"),
    # The gateway starts slowest, and the edge's `/readyz`, which does not ask it, is taken for the whole system's.
    "edge": ("auth", "gateway"),
}


def is_migrated(service: str) -> bool:
    """Says whether the service has a schema of its own."""
    return (ROOT / "services" / service / "migrations").is_dir()


def migrations(home: Home, environ: Mapping[str, str]) -> list[ProcessSpec]:
    """Returns the commands that bring the schemas up to date."""
    return [
        ProcessSpec(
            name=f"migrate-{service}",
            argv=(sys.executable, "-m", f"services.{service}", "migrate"),
            # Not as the service: the gateway's would hold everybody's keys.
            env=_environment(f"migrate-{service}", environ)
            | {f"PARLEY_{service.upper()}_MIGRATION_DATABASE_URL_FILE": str(home.secrets / "owner_database_url")},
            address="",
            check=health.http_ok,
            after=("postgres",),
        )
        for service in SERVICES
        if is_migrated(service)
    ]


def services(home: Home, addresses: Addresses, environ: Mapping[str, str]) -> list[ProcessSpec]:
    """Returns the instances of the five services in the order in which they depend on one another; they are stopped in the reverse."""
    for name, make in (
        ("auth_encryption_key", secret_files.key_32),
        ("gateway_encryption_keys", secret_files.key_32),
        ("chat_actor_key", secret_files.password),
    ):
        secret_files.read_or_make(home.secrets / name, make)
    return [_service(name, home, addresses, environ) for name in addresses.listen]


def _service(name: str, home: Home, addresses: Addresses, environ: Mapping[str, str]) -> ProcessSpec:
    service = service_of(name)
    prefix = f"PARLEY_{service.upper()}_"
    own = _OWN[service] | {f"{callee.upper()}_ADDRESS": target(addresses.of(callee)) for callee in _CALLS[service]}
    if is_migrated(service):
        own["DATABASE_URL_FILE"] = f"parley_{service}_url"
    if service == "gateway":
        own["DEMO_BASE_URL"] = f"http://{addresses.demo_provider}/v1"
        # On a machine of one's own whoever runs it is its operator. What the services are told stays out of reach.
        own["SECRET_DIRECTORIES"] = environ.get("PARLEY_GATEWAY_SECRET_DIRECTORIES", "/")
    env = {
        f"{prefix}DRAIN_GRACE_S": str(_DRAIN_S),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{addresses.trace_receiver}",
        **_environment(service, environ),
        f"{prefix}LISTEN": addresses.listen[name],
        f"{prefix}METRICS_LISTEN": addresses.metrics[name],
        **{prefix + key: str(home.secrets / value) if key.endswith("_FILE") else value for key, value in own.items()},
    }
    replicas = len(addresses.of(service))
    return ProcessSpec(
        name=name,
        argv=(sys.executable, "-m", f"services.{service}"),
        env=env,
        address=addresses.local(name),
        metrics_address=addresses.metrics[name],
        check=health.edge_ready if service == "edge" else health.grpc_serving,
        after=tuple(
            one for first in _AFTER[service] for one in (instances(first, replicas) if first in SERVICES else (first,))
        ),
        drain_s=float(env[f"{prefix}DRAIN_GRACE_S"]) + _AFTER_DRAIN_S,
    )


def helpers(addresses: Addresses, environ: Mapping[str, str]) -> list[ProcessSpec]:
    """Returns the demo provider, and the trace viewer where the user sends traces nowhere else."""
    demo = ProcessSpec(
        name="demo_provider",
        argv=(sys.executable, "-m", "deploy.local.demo_provider", "--listen", addresses.demo_provider),
        env=_environment("demo_provider", environ),
        address=addresses.demo_provider,
        check=health.http_ok,
        drain_s=2,
    )
    viewer = ProcessSpec(
        name="trace_viewer",
        argv=(
            *(sys.executable, "-m", "deploy.local.trace_viewer"),
            *("--listen", addresses.trace_viewer, "--receive", addresses.trace_receiver),
        ),
        env=_environment("trace_viewer", environ),
        address=addresses.trace_viewer,
        check=health.http_ok,
        drain_s=2,
    )
    return [demo] if sends_traces_elsewhere(environ) else [demo, viewer]


def sends_traces_elsewhere(environ: Mapping[str, str]) -> bool:
    """Says whether the user has named a place for traces."""
    return bool(environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))


def _environment(process: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Returns what a process sees of the user's environment, and where it finds the code."""
    own = f"PARLEY_{process.upper()}_"
    if process == "gateway":
        others = tuple(f"PARLEY_{service.upper()}_" for service in SERVICES if service != process)
        seen = {
            name: value for name, value in environ.items() if not name.startswith(others) and name not in _LAUNCHER_ONLY
        }
    else:
        seen = {
            name: value
            for name, value in environ.items()
            if name in _PASSED_ON or name.startswith((*_PASSED_ON_PREFIXES, own))
        }
    if not seen.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        seen.pop("OTEL_EXPORTER_OTLP_ENDPOINT", None)  # empty is as good as not said
    # The processes talk over loopback, where a proxy of the user's has no business.
    for name in ("no_proxy", "NO_PROXY"):
        seen[name] = ",".join(filter(None, (environ.get(name), "127.0.0.1,localhost")))
    return seen | {"PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}", "PYTHONUNBUFFERED": "1"}
