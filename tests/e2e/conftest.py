"""The whole system for the end-to-end tests: real stores, five real processes, a scripted provider over HTTP, a collector of spans."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from deploy.local.addresses import SERVICES
from deploy.local.settings import Settings
from deploy.local.stack import Stack
from tests.e2e.operators import operate
from tests.e2e.person import Person
from tests.e2e.spans import Spans
from tests.e2e.system import ALLOWED_ORIGIN, PROVIDER_KEY, System
from tests.fakes.llm_provider import ScriptedProvider

_KEPT = ("PATH", "LANG", "HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "TMPDIR")
_SETTINGS = {
    # Cheap hashes and no throttle in the way: what is tested here is not how long a password takes.
    "PARLEY_AUTH_HASH_MEMORY_KIB": "64",
    "PARLEY_AUTH_HASH_ITERATIONS": "1",
    "PARLEY_AUTH_SIGN_UPS_PER_HOUR": "1000000",
    "PARLEY_AUTH_ADDRESS_ATTEMPTS": "1000000",
    # One person starts more turns here than people do.
    **{f"PARLEY_CHAT_REQUESTS_PER_{window}": "0" for window in ("MINUTE", "HOUR", "DAY")},
    # More than is ever used: it is kept count all the same.
    **{f"PARLEY_GATEWAY_{scope}_TOKENS_PER_DAY": "1000000000000" for scope in ("USER", "ORGANIZATION", "GLOBAL")},
    "PARLEY_EDGE_CORS_ORIGINS": ALLOWED_ORIGIN,
    "PARLEY_EDGE_HEARTBEAT_S": "0.5",
    "PARLEY_GATEWAY_FIRST_TOKEN_TIMEOUT_S": "1.5",
    "PARLEY_GATEWAY_GAP_TIMEOUT_S": "1.5",
    "PARLEY_GATEWAY_RETRY_BACKOFF_S": "0.01",
    # One provider plays for all tests: what it asks for in one is not to be heeded in the next.
    "PARLEY_GATEWAY_COOLDOWN_MAX_S": "0",
    "PARLEY_GATEWAY_OLLAMA_PROBE": "false",
    "OTEL_TRACES_SAMPLER": "parentbased_always_on",
}


@pytest.fixture(scope="session")
async def stack() -> AsyncIterator[System]:
    """The whole system, once for all tests; each test brings its own people."""
    home = Path(tempfile.mkdtemp(prefix="parley-e2e-"))
    home.chmod(0o711)  # an embedded Postgres may run as somebody else
    try:
        async with Spans.collect() as spans, ScriptedProvider(api_key=PROVIDER_KEY) as provider:
            environ = {name: os.environ[name] for name in _KEPT if name in os.environ} | _SETTINGS
            environ |= {
                "OPENAI_API_KEY": PROVIDER_KEY,
                "OPENAI_BASE_URL": f"{provider.base_url}/v1",
                "OTEL_EXPORTER_OTLP_ENDPOINT": spans.endpoint,
            }
            async with Stack(Settings(home=str(home), port=0), ephemeral=True, environ=environ) as running:
                yield System(
                    edge_url=running.edge_url,
                    provider=provider,
                    services={name: running.members[name].unit.address for name in SERVICES},
                    logs_dir=running.home.logs,
                    spans=spans,
                    stack=running,
                )
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
async def newcomer(stack: System) -> AsyncIterator[Callable[[], Awaitable[Person]]]:
    """Signs people up; they hang up at the end of the test."""
    people = []

    async def sign_up() -> Person:
        person = await Person.sign_up(stack.edge_url)
        people.append(person)
        return person

    yield sign_up
    for person in people:
        await person.close()


@pytest.fixture
async def person(newcomer: Callable[[], Awaitable[Person]]) -> Person:
    """Somebody who has just signed up."""
    return await newcomer()


@pytest.fixture
async def operator(stack: System, newcomer: Callable[[], Awaitable[Person]]) -> Person:
    """Somebody who operates the platform."""
    person = await newcomer()
    await operate(stack, person)
    return person
