"""The forms in which e-mail addresses, network addresses and peers are compared."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidArgument
from services.auth.domain import EMAIL_MAX_CHARS, normal_email
from services.auth.servicer import peer_address
from services.auth.throttle import network


def accepted(form: Callable[[str], str], text: str, field: str) -> str | None:
    """The form of a text; None where it is refused, with the field named."""
    metadata: dict[str, str] = {}
    try:
        return form(text)
    except InvalidArgument as refused:
        metadata = refused.metadata
    assert metadata == {"field": field}
    return None


@given(st.text(max_size=300) | st.emails())
def test_a_normal_address_is_its_own_normal_form(text: str) -> None:
    normal = accepted(normal_email, text, "email")
    if normal is None:
        return
    assert normal_email(normal) == normal
    assert len(normal) <= EMAIL_MAX_CHARS
    assert normal == normal.strip().lower()


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("ada@example.org", "ada@example.org"),
        ("\t Ada.Lovelace+x@Mail.Example.ORG \n", "ada.lovelace+x@mail.example.org"),
        ("JOSE\u0301@example.org", "jos\u00e9@example.org"),
    ],
)
def test_an_address_has_one_form(written: str, normal: str) -> None:
    assert normal_email(written) == normal


@given(st.text(max_size=80) | st.ip_addresses().map(str))
def test_a_network_is_its_own_network_or_no_address(text: str) -> None:
    found = accepted(network, text, "client_address")
    assert found is None or found.endswith("/64") or network(found) == found


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_whom_an_address_stands_for(address: str, expected: str) -> None:
    assert network(address) == expected


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("ipv4:192.0.2.1:5000", "192.0.2.1"),
        ("ipv6:[2001:db8::1]:5000", "2001:db8::1"),
        ("ipv6:%5B::1%5D:5000", "::1"),
        ("unix:", "127.0.0.1"),
        ("", "127.0.0.1"),
    ],
)
def test_a_peer_is_an_address_or_this_machine(peer: str, expected: str) -> None:
    assert peer_address(peer) == expected
    assert network(peer_address(peer))
