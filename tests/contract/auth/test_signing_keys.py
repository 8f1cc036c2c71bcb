"""Keys come, overlap and go without a token that is refused on the way."""

import asyncio
import base64
import json

import jwt
import pytest

from runtime.config import ConfigError, Secret
from services.auth.signing import READ_EVERY
from tests.contract.auth.conftest import DAY_S, Auth, StartAuth

OVERLAP_S = 900
READ_S = READ_EVERY.total_seconds()


def kid_of(access_token: str) -> str:
    return str(jwt.get_unverified_header(access_token)["kid"])


async def published(auth: Auth) -> list[str]:
    """Ids of the published keys, youngest first, once the instance has read them again."""
    auth.clock.advance(READ_S)
    return [key["kid"] for key in await auth.jwks()]


async def test_the_first_start_makes_one_key_that_signs_at_once(auth: Auth) -> None:
    [key] = await auth.jwks()
    assert {**key, "x": "", "kid": ""} == {
        "kty": "OKP",
        "crv": "Ed25519",
        "alg": "EdDSA",
        "use": "sig",
        "x": "",
        "kid": "",
    }
    assert kid_of((await auth.sign_up()).access_token) == key["kid"]


async def test_instances_that_start_at_once_agree_on_one_key(start_auth: StartAuth) -> None:
    one = await start_auth(prepare=False)
    others = [await start_auth(beside=one, prepare=False) for _ in range(3)]
    await asyncio.gather(*(instance.upkeep.prepare() for instance in (one, *others)))
    assert await one.owner.fetchval("SELECT count(*) FROM auth.signing_key") == 1
    session = await one.sign_up()
    for instance in others:
        assert (await instance.current_user(session.access_token)).id == session.user.id


async def test_a_private_key_is_stored_encrypted_and_never_published(auth: Auth) -> None:
    row = await auth.owner.fetchrow("SELECT private_key, public_jwk FROM auth.signing_key")
    assert row is not None
    assert len(row["private_key"]) == 12 + 32 + 16
    assert "d" not in json.loads(row["public_jwk"])
    assert all("d" not in key for key in await auth.jwks())


async def test_the_next_key_is_published_before_it_signs(auth: Auth) -> None:
    [old] = await published(auth)
    auth.clock.advance(30 * DAY_S - OVERLAP_S - READ_S - 1)
    await auth.upkeep.once()
    assert await published(auth) == [old]
    await auth.upkeep.once()
    new, still = await published(auth)
    assert still == old
    auth.clock.advance(OVERLAP_S - READ_S - 1)
    assert kid_of((await auth.sign_up()).access_token) == old
    auth.clock.advance(1)
    assert kid_of((await auth.sign_in()).access_token) == new


async def test_the_previous_key_stays_until_its_last_token_has_ended(auth: Auth) -> None:
    """The longest-lived token, a delegated one, is made at the last moment and is good to its end."""
    [old] = await published(auth)
    await auth.sign_up()
    auth.clock.advance(30 * DAY_S - OVERLAP_S)
    await auth.upkeep.once()
    auth.clock.advance(OVERLAP_S - READ_S)
    session = await auth.sign_in()
    auth.clock.advance(READ_S - 1)
    delegated = await auth.exchange(session.access_token, ttl_s=3600)
    assert kid_of(delegated.access_token) == old
    auth.clock.advance(3599)
    await auth.upkeep.once()
    assert (await auth.verifier("data").verify(delegated.access_token)).user_id == session.user.id
    auth.clock.advance(301)
    assert old not in await published(auth)
    await auth.upkeep.once()
    assert await auth.owner.fetchval("SELECT count(*) FROM auth.signing_key") == 1


async def test_a_verifier_that_fetched_just_before_publication_never_refuses(auth: Auth) -> None:
    """It asks again after five minutes at the latest, or at once for a key it does not know."""
    session = await auth.sign_up()
    auth.clock.advance(30 * DAY_S - OVERLAP_S)
    verifier = auth.verifier("data")
    session = await auth.sign_in()
    await verifier.verify(session.access_token)
    await auth.upkeep.once()
    kids = set()
    for _ in range(40):
        auth.clock.advance(60)
        session = await auth.refresh(session.refresh_token)
        kids.add(kid_of(session.access_token))
        await verifier.verify(session.access_token)
    assert len(kids) == 2


async def test_an_instance_notices_what_another_published(start_auth: StartAuth) -> None:
    one = await start_auth()
    other = await start_auth(beside=one)
    one.clock.advance(30 * DAY_S - OVERLAP_S)
    await one.upkeep.once()
    assert await published(other) == await published(one)
    assert len(await published(other)) == 2
    one.clock.advance(OVERLAP_S)
    assert kid_of((await one.sign_up()).access_token) == kid_of((await other.sign_in()).access_token)


async def test_instances_that_rotate_at_once_publish_one_key(start_auth: StartAuth) -> None:
    one = await start_auth()
    other = await start_auth(beside=one)
    one.clock.advance(31 * DAY_S)
    await asyncio.gather(*(instance.upkeep.once() for instance in (one, other, one, other)))
    assert await one.owner.fetchval("SELECT count(*) FROM auth.signing_key") == 2


async def test_a_key_that_is_overdue_signs_until_its_successor_does(auth: Auth) -> None:
    """After a month in which no instance ran."""
    [old] = await published(auth)
    auth.clock.advance(60 * DAY_S)
    await auth.upkeep.once()
    new, _ = await published(auth)
    assert kid_of((await auth.sign_up()).access_token) == old
    auth.clock.advance(OVERLAP_S)
    assert kid_of((await auth.sign_in()).access_token) == new


async def test_another_encryption_key_is_noticed_at_the_start(start_auth: StartAuth) -> None:
    one = await start_auth()
    stranger = await start_auth(beside=one, prepare=False, encryption_key=Secret(base64.b64encode(b"x" * 32).decode()))
    with pytest.raises(ConfigError, match="PARLEY_AUTH_ENCRYPTION_KEY"):
        await stranger.upkeep.prepare()
