"""No provider is where clouds tell machines their credentials, however that is written and whatever name leads there."""

from __future__ import annotations

import aiohttp
import pytest
from aiohttp.resolver import ThreadedResolver

from services.gateway.providers.addresses import GuardedResolver, is_special
from services.gateway.providers.connections import open_session


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "fe80::1%eth0",
        "::ffff:169.254.169.254",
        "64:ff9b::169.254.169.254",
        "2002:a9fe:a9fe::",
        "fd00:ec2::254",
        "100.100.100.200",
        "0.0.0.0",
        "0",
        "::",
        "224.0.0.1",
    ],
)
def test_special_addresses_are_known_in_every_form(host: str) -> None:
    assert is_special(host)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "fd00::1", "8.8.8.8", "example.org", ""]
)
def test_others_are_not(host: str) -> None:
    assert not is_special(host)


@pytest.fixture
def leads_to(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What every name leads to."""
    addresses: list[str] = []

    async def resolve(self: object, host: str, port: int = 0, family: int = 0) -> list[dict[str, object]]:
        return [{"hostname": host, "host": one, "port": port, "family": 2, "proto": 0, "flags": 0} for one in addresses]

    monkeypatch.setattr(ThreadedResolver, "resolve", resolve)
    return addresses


async def test_of_what_a_name_leads_to_only_the_others_are_asked(leads_to: list[str]) -> None:
    leads_to += ["169.254.169.254", "127.0.0.1"]
    assert [one["host"] for one in await GuardedResolver().resolve("models.example.org")] == ["127.0.0.1"]


async def test_a_name_that_leads_nowhere_else_is_not_followed(leads_to: list[str]) -> None:
    leads_to.append("169.254.169.254")
    async with open_session(connections=1) as session:
        with pytest.raises(aiohttp.ClientConnectorDNSError):
            await session.get("http://models.example.org/v1")
