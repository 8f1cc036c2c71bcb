"""The table of what runs: who depends on whom, and who is told what."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from deploy.local import topology
from deploy.local.addresses import SERVICES, Addresses, service_of, target
from deploy.local.home import Home
from deploy.local.ports import free_port
from deploy.local.unit import ProcessSpec

USER = {
    "PATH": "/usr/bin",
    "HOME": "/home/ada",
    "OPENAI_API_KEY": "planted",
    "ANTHROPIC_API_KEY": "planted",
    "SOME_OTHER_KEY": "planted",
    "PARLEY_DATABASE_URL": "postgresql://owner:planted@db/parley",
    "PARLEY_REDIS_URL": "redis://:planted@cache",
    "PARLEY_GATEWAY_ALIASES": "fast=openai/planted",
    "PARLEY_EDGE_CORS_ORIGINS": "http://localhost:5173",
    "OTEL_TRACES_SAMPLER": "always_on",
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def table(home: Home, environ: dict[str, str] = USER, port: int = 8080, replicas: int = 1) -> dict[str, ProcessSpec]:
    addresses = Addresses.choose("127.0.0.1", port, replicas)
    specs = [*topology.helpers(addresses, environ), *topology.services(home, addresses, environ)]
    return {spec.name: spec for spec in [*specs, *topology.migrations(home, environ)]}


def test_provider_keys_reach_the_gateway_alone(home: Home) -> None:
    specs = table(home)
    assert specs["gateway"].env["OPENAI_API_KEY"] == "planted"
    assert specs["gateway"].env["SOME_OTHER_KEY"] == "planted"
    for name, spec in specs.items():
        assert name == "gateway" or "planted" not in str(dict(spec.env)), name


def test_the_owner_s_database_is_told_to_migrations_alone(home: Home) -> None:
    for name, spec in table(home).items():
        owner = [key for key, value in spec.env.items() if "owner_database_url" in value]
        assert owner == (
            [f"PARLEY_{name[8:].upper()}_MIGRATION_DATABASE_URL_FILE"] if name.startswith("migrate-") else []
        ), name


def test_no_secret_stands_in_an_environment_only_paths_do(home: Home) -> None:
    specs = table(home)
    for secret in home.secrets.iterdir():
        assert all(secret.read_text() not in str(dict(spec.env)) for spec in specs.values()), secret.name


def test_a_service_gets_its_own_settings_and_those_of_all(home: Home) -> None:
    specs = table(home)
    assert specs["edge"].env["PARLEY_EDGE_CORS_ORIGINS"] == "http://localhost:5173"
    assert "PARLEY_EDGE_CORS_ORIGINS" not in specs["auth"].env
    assert specs["auth"].env["OTEL_TRACES_SAMPLER"] == "always_on"


@pytest.mark.parametrize("replicas", [1, 2])
def test_nobody_shares_an_address(home: Home, replicas: int) -> None:
    specs = table(home, replicas=replicas).values()
    listening = [spec.address for spec in specs if spec.address]
    listening += [spec.metrics_address for spec in specs if spec.metrics_address]
    assert len(set(listening)) == len(listening)


def test_instances_are_numbered_and_alike_but_for_where_they_listen(home: Home) -> None:
    specs = table(home, replicas=2)
    assert {name for name in specs if service_of(name) in SERVICES} == {
        f"{one}-{n}" for one in SERVICES for n in (1, 2)
    }
    for service in SERVICES:
        first, second = (dict(specs[f"{service}-{number}"].env) for number in (1, 2))
        own = {f"PARLEY_{service.upper()}_LISTEN", f"PARLEY_{service.upper()}_METRICS_LISTEN"}
        assert {name for name in first if first[name] != second[name]} == own


def test_calls_are_spread_over_all_instances(home: Home) -> None:
    specs = table(home, replicas=2)
    both = f"ipv4:{specs['chat-1'].address},{specs['chat-2'].address}"
    assert [specs[name].env["PARLEY_EDGE_CHAT_ADDRESS"] for name in ("edge-1", "edge-2")] == [both, both]


def test_a_name_tells_its_service() -> None:
    assert [service_of(name) for name in ("chat", "chat-2", "migrate-data", "redis")] == [
        *("chat", "chat", "migrate-data", "redis")
    ]
    assert target(("127.0.0.1:1",)) == "127.0.0.1:1"


def test_addresses_fit_together(home: Home) -> None:
    specs = table(home)
    assert specs["chat"].env["PARLEY_CHAT_DATA_ADDRESS"] == specs["data"].address
    assert specs["edge"].env["PARLEY_EDGE_CHAT_ADDRESS"] == specs["chat"].address
    assert specs["gateway"].env["PARLEY_GATEWAY_DEMO_BASE_URL"] == f"http://{specs['demo_provider'].address}/v1"
    assert specs["auth"].env["PARLEY_AUTH_CHAT_KEY_FILE"] == specs["chat"].env["PARLEY_CHAT_ACTOR_KEY_FILE"]


def test_the_edge_takes_the_port_that_was_asked_for(home: Home) -> None:
    assert table(home, port=8099)["edge"].env["PARLEY_EDGE_LISTEN"] == "127.0.0.1:8099"
    assert table(home, port=0)["edge"].address != "127.0.0.1:0"


def test_the_second_edge_takes_the_next_free_port(home: Home) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port + 1)):
        specs = table(home, port=port, replicas=2)
    assert specs["edge-1"].address == f"127.0.0.1:{port}"
    assert int(specs["edge-2"].address.rpartition(":")[2]) > port + 1


def test_an_edge_open_to_all_is_reached_over_loopback() -> None:
    assert Addresses.choose("0.0.0.0", 8099).local("edge") == "127.0.0.1:8099"


@pytest.mark.parametrize("replicas", [1, 3])
def test_nobody_waits_for_what_comes_later(home: Home, replicas: int) -> None:
    """Whoever is waited for stands before, so that the reverse is a safe order to stop in."""
    seen = {"postgres", "redis", "demo_provider", "migrate-auth", "migrate-data", "migrate-gateway"}
    specs = table(home, replicas=replicas)
    for name in (name for name in specs if service_of(name) in SERVICES):
        assert set(specs[name].after) <= seen
        seen.add(name)


def test_an_edge_that_is_ready_speaks_for_the_gateway_too(home: Home) -> None:
    """Which it does not ask, and which starts slowest: whoever sees a first `/readyz` sends turns."""
    specs = table(home, replicas=2)
    assert {"gateway-1", "gateway-2"} <= set(specs["edge-1"].after)


def test_traces_go_to_the_viewer_unless_the_user_sends_them_elsewhere(home: Home) -> None:
    own = table(home)
    assert own["chat"].env["OTEL_EXPORTER_OTLP_ENDPOINT"].startswith("http://127.0.0.1:")
    elsewhere = table(home, USER | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"})
    assert elsewhere["chat"].env["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector:4317"
    assert "trace_viewer" not in elsewhere


def test_a_proxy_is_never_asked_for_loopback(home: Home) -> None:
    specs = table(home, USER | {"http_proxy": "http://proxy:3128", "no_proxy": "intranet"})
    assert specs["gateway"].env["no_proxy"] == "intranet,127.0.0.1,localhost"
