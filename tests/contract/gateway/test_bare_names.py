"""Programs that were made for a vendor's own API call its models by their bare names."""

from __future__ import annotations

import pytest

from parley.gateway.v1 import gateway_pb2 as pb
from runtime.channel import unary
from runtime.errors import NotFound
from tests.contract.gateway.conftest import Gateway, MakeGateway

VENDORS = {"OPENAI_API_KEY": "sk-test", "ANTHROPIC_API_KEY": "sk-test", "GEMINI_API_KEY": "sk-test"}


def provider_of(gateway: Gateway, name: str) -> str | None:
    route = gateway.registry.names.route(name)
    return None if route is None else route.ranks[0][0].deployment.key.partition("/")[0]


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("gpt-4o", "openai"),
        ("o3-mini", "openai"),
        ("claude-opus-4-1", "anthropic"),
        ("gemini-2.5-flash-lite", "gemini"),
        ("grok-4", None),  # there is no key for it
        ("no-such-model", None),
        ("", "openai"),
    ],
)
async def test_a_vendor_s_model_need_not_be_listed(make_gateway: MakeGateway, name: str, provider: str | None) -> None:
    assert provider_of(await make_gateway(VENDORS), name) == provider


async def test_nor_one_that_makes_vectors(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(VENDORS)
    [[(provider, model)]] = gateway.registry.names.embedding_models("text-embedding-3-large")
    assert (provider.name, model) == ("openai", "text-embedding-3-large")


async def test_a_compatible_server_has_what_it_has(gateway: Gateway) -> None:
    """Its models may be anybody's: a name that it does not list is not taken for its own."""
    assert provider_of(gateway, "gpt-5.2-pro") is None


async def test_an_alias_comes_before_a_vendor(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(VENDORS, aliases={"gpt-4": "anthropic/claude-sonnet-5"})
    assert provider_of(gateway, "gpt-4") == "anthropic"


@pytest.mark.parametrize(
    ("name", "listed", "provider", "model"),
    [
        ("fast", "fast", "openai", "gpt-4o-mini"),
        ("", "fast", "openai", "gpt-4o-mini"),
        ("gpt-4o-mini", "openai/gpt-4o-mini", "openai", "gpt-4o-mini"),
        ("openai/gpt-4o", "openai/gpt-4o", "openai", "gpt-4o"),
        ("claude-opus-4-1", "claude-opus-4-1", "anthropic", "claude-opus-4-1"),
    ],
)
async def test_who_asks_is_told_what_a_call_would_get(
    make_gateway: MakeGateway, name: str, listed: str, provider: str, model: str
) -> None:
    gateway = await make_gateway(VENDORS)
    token = gateway.issuer.token()
    answer = await unary(gateway.stub.GetModel, pb.GetModelRequest(name=name), timeout_s=5, token=token)
    found = answer.model
    assert (found.name, found.provider, found.provider_model) == (listed, provider, model)
    assert found.context_window_tokens > 0
    assert found.tools


async def test_who_asks_for_what_is_not_there_is_told_so(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(VENDORS)
    for name in ("no-such-model", "nobody/gpt-4o", "grok-4"):
        with pytest.raises(NotFound) as raised:
            await unary(gateway.stub.GetModel, pb.GetModelRequest(name=name), timeout_s=5, token=gateway.issuer.token())
        assert raised.value.code == "MODEL_NOT_FOUND"
