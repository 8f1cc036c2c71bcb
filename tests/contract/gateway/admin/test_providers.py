"""Providers that operators keep: what they may be, who sees what, and when it counts."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest
import structlog
from google.protobuf.duration_pb2 import Duration

from parley.gateway.v1 import provider_pb2 as pb
from runtime import errors
from tests.contract.gateway.admin.conftest import API_KEY, Operator, StartOperator
from tests.fakes.llm_provider import Cut, Fault, Garbage, ScriptedProvider, Stall


async def refused(reason: str, field: str, call: Any) -> None:
    with pytest.raises(errors.ParleyError) as raised:
        await call
    assert (raised.value.code, raised.value.metadata.get("field", "")) == (reason, field)


async def test_a_provider_answers_as_soon_as_it_is_kept(operator: Operator, provider: ScriptedProvider) -> None:
    await refused("NO_PROVIDER_CONFIGURED", "", operator.gateway.chat())

    made = await operator.create(api_key=API_KEY)
    reply = await operator.gateway.chat(model="mine/m")

    assert (made.name, made.origin, made.enabled) == ("mine", pb.ORIGIN_STORED, True)
    assert made.create_time == made.update_time
    assert reply.finished is not None
    assert provider.requests[0].headers["authorization"] == f"Bearer {API_KEY}"


async def test_keys_are_told_to_nobody(operator: Operator) -> None:
    with structlog.testing.capture_logs() as lines:
        made = await operator.create(api_key=API_KEY)
        listed = (await operator.list()).providers
        read = await operator.get()
    owner = await asyncpg.connect(operator.stored.owner_url)
    try:
        rows = await owner.fetch("SELECT * FROM gateway.provider")
    finally:
        await owner.close()

    assert {one.api_key for one in (made, read, *listed)} == {"sk-…4f2a"}
    assert API_KEY not in str(lines)
    assert API_KEY not in str([dict(row) for row in rows])
    assert API_KEY.encode() not in rows[0]["secrets"]


async def test_a_masked_key_stands_for_the_one_that_is_kept(operator: Operator, provider: ScriptedProvider) -> None:
    await operator.create(api_key=API_KEY)

    await operator.update(api_key="sk-…4f2a", models=pb.ProviderModels(names=["n"]))
    await operator.gateway.chat(model="mine/n")

    assert provider.requests[-1].headers["authorization"] == f"Bearer {API_KEY}"
    await refused("INVALID_ARGUMENT", "api_key", operator.update(api_key="sk-…0000"))


async def test_what_is_not_named_stays(operator: Operator) -> None:
    before = await operator.create(api_key=API_KEY, default_model="m", embedding_model="e")

    after = await operator.update(models=pb.ProviderModels(names=["m", "n"]))

    assert list(after.models) == ["m", "n"]
    after.ClearField("models")
    before.ClearField("models")
    for one in (before, after):
        one.ClearField("update_time")
    assert after == before


async def test_other_instances_know_within_a_second(start_operator: StartOperator) -> None:
    one = await start_operator()
    other = await start_operator(beside=one)
    await one.create()

    async with asyncio.timeout(1):
        await _answers(other, "mine/m")
    await one.delete()
    async with asyncio.timeout(1):
        await _lists(other, "mine/m", there=False)


async def test_a_provider_that_is_off_takes_no_calls(operator: Operator) -> None:
    await operator.create()
    await operator.update(enabled=False)

    await refused("NO_PROVIDER_CONFIGURED", "", operator.gateway.chat(model="mine/m"))
    await operator.update(enabled=True)
    await operator.gateway.chat(model="mine/m")


async def test_the_default_answers_calls_that_name_nothing(
    start_operator: StartOperator, provider: ScriptedProvider
) -> None:
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": f"{provider.base_url}/v1"}
    operator = await start_operator(environ)
    await operator.create(default_model="chosen")

    await operator.set_default("mine")
    await operator.gateway.chat()
    default = (await operator.get()).default
    await operator.set_default("")
    await operator.gateway.chat()

    assert default
    assert [request.body["model"] for request in provider.requests] == ["chosen", "gpt-4o-mini"]


async def test_a_default_needs_a_model(operator: Operator) -> None:
    await operator.create(models=[])

    await refused("NO_DEFAULT_MODEL", "", operator.set_default("mine"))
    await refused("NO_DEFAULT_MODEL", "", operator.set_default("mine", embeddings=True))
    await operator.update(embedding_model="e")
    await operator.set_default("mine", embeddings=True)
    assert (await operator.get()).default_embeddings


async def test_the_environment_s_are_listed_and_left_alone(
    start_operator: StartOperator, provider: ScriptedProvider
) -> None:
    environ = {"OPENAI_API_KEY": API_KEY, "OPENAI_BASE_URL": f"{provider.base_url}/v1"}
    operator = await start_operator(environ)

    found = await operator.get("openai")

    assert (found.origin, found.api_key, found.type) == (pb.ORIGIN_ENVIRONMENT, "sk-…4f2a", "openai")
    await refused("PROVIDER_OF_ENVIRONMENT", "", operator.update("openai", enabled=False))
    await refused("PROVIDER_OF_ENVIRONMENT", "", operator.delete("openai"))
    await refused("PROVIDER_EXISTS", "", operator.create(name="openai"))


async def test_a_list_comes_in_pages(operator: Operator) -> None:
    for number in range(5):
        await operator.create(name=f"p{number}", enabled=False)

    first = await operator.list(page_size=3)
    rest = await operator.list(page_size=3, page_token=first.next_page_token)

    assert [one.name for one in first.providers] == ["p0", "p1", "p2"]
    assert [one.name for one in rest.providers] == ["p3", "p4"]
    assert not rest.next_page_token
    await refused("INVALID_ARGUMENT", "page_token", operator.list(page_token="?"))


async def test_what_is_not_there_is_not_found(operator: Operator) -> None:
    for call in (
        operator.get("x"),
        operator.update("x"),
        operator.delete("x"),
        operator.test("x"),
        operator.set_default("x"),
    ):
        await refused("PROVIDER_NOT_FOUND", "", call)


async def test_a_provider_that_an_alias_names_stays(operator: Operator) -> None:
    await operator.create()
    await operator.alias("a", "mine/m")

    await refused("PROVIDER_IN_USE", "", operator.delete())
    await operator.delete_alias("a")
    await operator.delete()


async def test_only_an_operator_may(operator: Operator) -> None:
    operator.operator = False

    for call in (
        operator.create(),
        operator.get(),
        operator.list(),
        operator.update(),
        operator.delete(),
        operator.set_default("mine"),
        operator.test(),
        operator.alias("a", "mine/m"),
        operator.get_alias("a"),
        operator.list_aliases(),
        operator.alias("a", "mine/m", method="Update"),
        operator.delete_alias("a"),
    ):
        await refused("PERMISSION_DENIED", "", call)


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("name", {"name": "Mine"}),
        ("name", {"name": "x" * 65}),
        ("name", {"name": "parley"}),
        ("type", {"type": "nonsense"}),
        ("base_url", {"base_url": ""}),
        ("base_url", {"base_url": "ftp://example.org"}),
        ("base_url", {"base_url": "file:///etc/passwd"}),
        ("base_url", {"base_url": "http://user:word@example.org/v1"}),
        ("base_url", {"base_url": "http://169.254.169.254/latest"}),
        ("base_url", {"base_url": "http://[::ffff:169.254.169.254]/"}),
        ("base_url", {"base_url": "http://metadata.google.internal/v1"}),
        ("base_url", {"base_url": "http://0.0.0.0/v1"}),
        ("base_url", {"base_url": "http://example.org/v1?key=1"}),
        ("base_url", {"base_url": "http://2852039166/latest"}),
        ("base_url", {"base_url": "http://0xa9fea9fe/latest"}),
        ("base_url", {"base_url": "http://169.254.43518/latest"}),
        ("base_url", {"base_url": "http://[64:ff9b::a9fe:a9fe]/"}),
        ("base_url", {"base_url": "http://[2002:a9fe:a9fe::1]/"}),
        ("api_key", {"api_key": "sk-…4f2a"}),
        ("api_key", {"api_key": "sk\x00"}),
        ("api_key", {"api_key": "env:PARLEY_GATEWAY_DATABASE_URL"}),
        ("api_key", {"api_key": "env:no name"}),
        ("api_key", {"api_key": "file:relative"}),
        ("api_key", {"api_key": "file:/proc/self/environ"}),
        ("api_key", {"api_key": "file:/run/../proc/self/environ"}),
        ("api_key", {"api_key": "file:/etc/passwd"}),
        ("api_key", {"api_key": "file:/run/secrets/kubernetes.io/serviceaccount/token"}),
        ("api_key", {"api_key": "env:VAULT_TOKEN_KEY"}),
        ("api_key", {"api_key": "env:DATABASE_URL"}),
        ("api_key", {"api_key": "sk-1\nx-admin: yes"}),
        ("api_key", {"api_key": "vault:secret/x"}),
        ("settings", {"settings": {"api_base": "http://example.org"}}),
        ("settings.access_key_id", {"settings": {"access_key_id": "x" * 20_000}}),
        ("settings.endpoint", {"settings": {"endpoint": "http://169.254.169.254/"}}),
        ("settings.region", {"settings": {"region": "example.org/?"}}),
        ("settings.organization", {"settings": {"organization": "o\nx-admin: yes"}}),
        ("settings.vertex_credentials", {"settings": {"vertex_credentials": "/etc/passwd"}}),
        ("settings.vertex_credentials", {"settings": {"vertex_credentials": '{"type": "external_account"}'}}),
        (
            "settings.vertex_credentials",
            {"settings": {"vertex_credentials": '{"type": "service_account", "token_uri": "http://169.254.169.254/"}'}},
        ),
        ("models", {"models": ["m"] * 501}),
        ("models[1]", {"models": ["m", "a b"]}),
        ("default_model", {"default_model": "a b"}),
        ("timeouts.gap", {"timeouts": pb.ProviderTimeouts(gap=Duration(seconds=4000))}),
    ],
)
async def test_a_refusal_names_the_field(operator: Operator, field: str, fields: dict[str, Any]) -> None:
    await refused("INVALID_ARGUMENT", field, operator.create(**fields))


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (None, ""),
        (Fault(status=401), "PROVIDER_AUTH_FAILED"),
        (Fault(status=404), "MODEL_NOT_FOUND"),
        (Fault(status=429), "PROVIDER_RATE_LIMITED"),
        (Garbage(b"<html>PROVIDER-SECRET-WORDS</html>", content_type="text/html"), "PROVIDER_PROTOCOL_ERROR"),
        (Cut(after_bytes=0), "PROVIDER_UNAVAILABLE"),
    ],
    ids=str,
)
async def test_a_test_call_tells_why_not(
    operator: Operator, provider: ScriptedProvider, behaviour: Any, reason: str
) -> None:
    await operator.create()
    if behaviour is not None:
        provider.script(behaviour)

    verdict = await operator.test()

    assert (verdict.ok, verdict.reason) == (not reason, reason)
    assert bool(verdict.message) == bool(reason)
    assert "PROVIDER-SECRET-WORDS" not in verdict.message


async def test_a_test_call_is_in_the_ledger(operator: Operator) -> None:
    """It costs like any other."""
    await operator.create()
    assert (await operator.test()).ok

    owner = await asyncpg.connect(operator.stored.owner_url)
    async with asyncio.timeout(5):
        while not (rows := await owner.fetch("SELECT * FROM gateway.usage_call")):  # noqa: ASYNC110 - another's
            await asyncio.sleep(0.02)
    await owner.close()
    assert [(row["model"], row["outcome"], row["estimated"]) for row in rows] == [("m", "completed", False)]
    assert rows[0]["input_tokens"] > 0


async def test_a_test_call_tells_that_nobody_is_there(operator: Operator) -> None:
    await operator.create(base_url="http://127.0.0.1:9/v1")

    assert (await operator.test()).reason == "PROVIDER_UNAVAILABLE"


async def test_a_provider_that_is_off_can_be_tried(operator: Operator) -> None:
    await operator.create(enabled=False)

    assert (await operator.test()).ok


async def test_a_server_is_asked_for_its_models(operator: Operator) -> None:
    await operator.create(models=[])

    async with asyncio.timeout(5):
        await _lists(operator, "mine/scripted", there=True)


@pytest.mark.parametrize(
    ("kind", "path", "header"),
    [
        ("openai", "/v1/chat/completions", "authorization"),
        ("anthropic", "/v1/messages", "x-api-key"),
        ("azure", "/v1/openai/deployments/m/chat/completions", "api-key"),
        ("openrouter", "/v1/chat/completions", "authorization"),
        ("mistral", "/v1/chat/completions", "authorization"),
    ],
)
async def test_every_type_is_asked_in_its_way(
    operator: Operator, provider: ScriptedProvider, kind: str, path: str, header: str
) -> None:
    await operator.create(type=kind, api_key=API_KEY, settings={"api_version": "2024-10-21"} if kind == "azure" else {})

    reply = await operator.gateway.chat(model="mine/m")

    assert reply.finished is not None
    assert provider.requests[0].path == path
    assert provider.requests[0].headers[header].removeprefix("Bearer ") == API_KEY


async def test_openai_s_organization_is_sent_along(operator: Operator, provider: ScriptedProvider) -> None:
    await operator.create(type="openai", settings={"organization": "org-1"})

    await operator.gateway.chat(model="mine/m")

    assert provider.requests[0].headers["openai-organization"] == "org-1"


async def test_a_provider_s_deadlines_hold(operator: Operator, provider: ScriptedProvider) -> None:
    await operator.create(timeouts=pb.ProviderTimeouts(first_token=Duration(nanos=200_000_000)))
    provider.script(Stall(headers=False))

    await refused("FIRST_TOKEN_TIMEOUT", "", operator.gateway.chat(model="mine/m"))


async def _answers(operator: Operator, model: str) -> None:
    while True:
        try:
            await operator.gateway.chat(model=model)
        except errors.ParleyError:
            await asyncio.sleep(0.01)
        else:
            return


async def _lists(operator: Operator, model: str, *, there: bool) -> None:
    while True:
        if (model in {one.name for one in await operator.gateway.models()}) is there:
            return
        await asyncio.sleep(0.01)
