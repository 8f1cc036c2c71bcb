"""Aliases that operators keep, beside and in place of the environment's."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from parley.gateway.v1 import provider_pb2 as pb
from tests.contract.gateway.admin.conftest import Operator, StartOperator
from tests.contract.gateway.admin.test_providers import refused
from tests.fakes.llm_provider import Fault, ScriptedProvider, Stall


@pytest.fixture
async def operator(start_operator: StartOperator, provider: ScriptedProvider) -> Operator:
    """An operator of a gateway whose provider is OpenAI, played by the scripted one."""
    return await start_operator({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": f"{provider.base_url}/v1"})


async def test_an_alias_counts_at_once_and_tells_what_it_is(operator: Operator, provider: ScriptedProvider) -> None:
    made = await operator.alias("clever", "openai/gpt-4o", pb.Target(model="fast", weight=2, rank=1))
    await operator.gateway.chat(model="clever")

    assert [(one.model, one.weight, one.rank) for one in made.targets] == [("openai/gpt-4o", 1, 0), ("fast", 2, 1)]
    assert (made.origin, made.default) == (pb.ORIGIN_STORED, False)
    assert provider.requests[0].body["model"] == "gpt-4o"
    assert "clever" in {model.name for model in await operator.gateway.models()}


async def test_the_ranks_are_asked_in_turn(operator: Operator, provider: ScriptedProvider) -> None:
    await operator.alias("a", pb.Target(model="openai/second", rank=2), pb.Target(model="openai/first", rank=1))
    provider.script(Fault(status=503))

    await operator.gateway.chat(model="a")

    assert [request.body["model"] for request in provider.requests] == ["first", "second"]


@pytest.mark.parametrize("method", ["Create", "Update"])
async def test_an_alias_that_would_lead_back_to_itself_is_refused(operator: Operator, method: str) -> None:
    await operator.alias("a", "fast")
    await operator.alias("b", "a")

    if method == "Create":
        await refused("ALIAS_LOOP", "targets", operator.alias("c", "openai/gpt-4o", "c"))
    else:
        await refused("ALIAS_LOOP", "targets", operator.alias("a", "openai/gpt-4o", "b", method="Update"))


async def test_a_target_must_be_somebody_s(operator: Operator) -> None:
    await refused("MODEL_NOT_FOUND", "targets[1].model", operator.alias("a", "fast", "nobody/m"))


async def test_the_environment_s_are_listed_and_can_be_overridden(
    operator: Operator, provider: ScriptedProvider
) -> None:
    listed = (await operator.list_aliases()).aliases
    assert [(one.name, one.origin, one.default) for one in listed] == [
        ("fast", pb.ORIGIN_ENVIRONMENT, True),
        ("power", pb.ORIGIN_ENVIRONMENT, False),
    ]
    await refused("ALIAS_EXISTS", "", operator.alias("fast", "openai/gpt-4o"))

    changed = await operator.alias("fast", "openai/other", method="Update")
    await operator.gateway.chat()
    await operator.delete_alias("fast")
    await operator.gateway.chat()

    assert changed.origin == pb.ORIGIN_STORED
    assert [request.body["model"] for request in provider.requests] == ["other", "gpt-4o-mini"]
    await refused("ALIAS_OF_ENVIRONMENT", "", operator.delete_alias("fast"))


async def test_the_default_alias_comes_before_any_default_provider(
    operator: Operator, provider: ScriptedProvider
) -> None:
    await operator.create(default_model="providers")
    await operator.set_default("mine")
    await operator.alias("mine-too", "openai/aliases", default=True)

    await operator.gateway.chat()
    await operator.alias("mine-too", "openai/aliases", method="Update")
    await operator.gateway.chat()

    assert [request.body["model"] for request in provider.requests] == ["aliases", "providers"]


async def test_an_alias_that_another_names_stays(operator: Operator) -> None:
    await operator.alias("a", "fast")
    await operator.alias("b", "a")

    await refused("ALIAS_IN_USE", "", operator.delete_alias("a"))
    await operator.delete_alias("b")
    await operator.delete_alias("a")
    await refused("ALIAS_NOT_FOUND", "", operator.get_alias("a"))


async def test_what_is_not_there_is_not_found(operator: Operator) -> None:
    for method in (operator.get_alias, operator.delete_alias):
        await refused("ALIAS_NOT_FOUND", "", method("x"))
    await refused("ALIAS_NOT_FOUND", "", operator.alias("x", "fast", method="Update"))


async def test_an_alias_s_deadlines_hold(operator: Operator, provider: ScriptedProvider) -> None:
    timeouts = pb.ProviderTimeouts(first_token=Duration(nanos=200_000_000))
    made = await operator.alias("quick", "openai/gpt-4o", timeouts=timeouts)
    provider.script(Stall(headers=False))

    assert made.timeouts == timeouts
    await refused("FIRST_TOKEN_TIMEOUT", "", operator.gateway.chat(model="quick"))


@pytest.mark.parametrize(
    ("field", "name", "targets"),
    [
        ("name", "Upper", ["fast"]),
        ("name", "", ["fast"]),
        ("targets", "a", []),
        ("targets", "a", ["fast"] * 33),
        ("targets[0].model", "a", [""]),
        ("targets[0].weight", "a", [pb.Target(model="fast", weight=1001)]),
        ("targets[0].rank", "a", [pb.Target(model="fast", rank=-1)]),
    ],
)
async def test_a_refusal_names_the_field(operator: Operator, field: str, name: str, targets: list[Any]) -> None:
    await refused("INVALID_ARGUMENT", field, operator.alias(name, *targets))


async def test_a_list_comes_in_pages(operator: Operator) -> None:
    first = await operator.list_aliases(page_size=1)
    rest = await operator.list_aliases(page_token=first.next_page_token)

    assert [one.name for one in (*first.aliases, *rest.aliases)] == ["fast", "power"]
    assert not rest.next_page_token


async def test_aliases_of_aliases_are_bounded(operator: Operator) -> None:
    """A few that each name the next one many times would keep every instance busy for ever, and after a restart again."""
    await operator.create()
    await operator.alias("a", *["mine/m"] * 16)
    await operator.alias("b", *["a"] * 16)
    await refused("INVALID_ARGUMENT", "targets", operator.alias("c", "b", "b"))
    await operator.alias("c", "b")
    await refused("INVALID_ARGUMENT", "targets", operator.alias("a", *["mine/m"] * 17, method="Update"))
    await operator.gateway.chat(model="c")
