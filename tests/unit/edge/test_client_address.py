"""Who asks, seen through trusted proxies and nobody else's word."""

import pytest

from runtime.config import ConfigError
from services.edge.client_address import ClientAddress


def address(trusted: tuple[str, ...], peer: str | None, *forwarded: str) -> str:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    return ClientAddress(trusted).of({"client": (peer, 1) if peer else None, "headers": headers})


def test_without_trusted_proxies_it_is_the_peer_whatever_is_claimed() -> None:
    assert address((), "203.0.113.9", "198.51.100.1") == "203.0.113.9"


def test_a_peer_that_is_not_trusted_is_not_believed() -> None:
    assert address(("10.0.0.0/8",), "203.0.113.9", "198.51.100.1") == "203.0.113.9"


def test_behind_a_trusted_proxy_it_is_whom_that_saw() -> None:
    assert address(("10.0.0.0/8",), "10.1.2.3", "198.51.100.1") == "198.51.100.1"


def test_it_is_the_last_hop_that_is_not_ours() -> None:
    """What a client writes into the header itself stands further left and is not believed."""
    assert address(("10.0.0.0/8",), "10.1.2.3", "1.1.1.1, 198.51.100.1, 10.9.9.9") == "198.51.100.1"


def test_several_headers_are_one_list() -> None:
    assert address(("10.0.0.0/8",), "10.1.2.3", "1.1.1.1", "198.51.100.1, 10.9.9.9") == "198.51.100.1"


def test_a_hop_that_is_no_address_ends_the_list() -> None:
    assert address(("10.0.0.0/8",), "10.1.2.3", "198.51.100.1, nonsense") == "10.1.2.3"


def test_if_all_are_ours_it_is_the_first() -> None:
    assert address(("10.0.0.0/8",), "10.1.2.3", "10.0.0.1, 10.0.0.2") == "10.0.0.1"


def test_ipv6_is_known() -> None:
    assert address(("fd00::/8",), "fd00::1", "2001:db8::5") == "2001:db8::5"


def test_a_connection_without_an_address_has_none() -> None:
    assert address(("10.0.0.0/8",), None, "198.51.100.1") == ""


def test_a_proxy_that_is_no_address_is_a_fault_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match="TRUSTED_PROXIES"):
        ClientAddress(("proxy.example",))
