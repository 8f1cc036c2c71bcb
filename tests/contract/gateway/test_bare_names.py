"""Programs that were made for a vendor's own API call its models by their bare names."""

from __future__ import annotations

import pytest

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
