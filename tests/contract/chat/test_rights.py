"""A run that a service goes on with may do no more than the credential it was begun with, however much its user may."""

from __future__ import annotations

from services.chat.delegation import identity_of
from tests.contract.chat.screen import Screen
from tests.contract.chat.world import Person, World


def roles_asked_with(world: World) -> list[str]:
    """Returns the roles with which models were called."""
    return [identity_of(token).role for token in world.gateway.tokens]


async def test_a_queued_run_of_a_narrow_credential_stays_narrow(world: World, ada: Person) -> None:
    """Its user owns the organization; the program that submitted it had the rights of a member."""
    program = await world.as_member(ada)
    async with world.chat() as chat:
        await Screen().read(ada.watch(chat, (await program.submit(chat)).id))
        await Screen().read(ada.watch(chat, (await ada.submit(chat)).id))
    assert roles_asked_with(world) == ["member", "owner"]


async def test_a_run_of_a_narrow_credential_that_is_taken_over_stays_narrow(world: World, ada: Person) -> None:
    program = await world.as_member(ada)
    run = await program.begin_elsewhere(owner="gone", lease_s=0.05)
    async with world.chat(suspicion_s=0.1) as chat:
        await Screen().read(ada.watch(chat, run.id))
    assert roles_asked_with(world) == ["member"]


async def test_a_tool_of_a_narrow_run_is_as_narrow(world: World, ada: Person) -> None:
    """What the run's user might have called, the run is not offered."""
    program = await world.as_member(ada)
    async with world.chat(tools=("tests.contract.chat.effects:RULE",)) as chat:
        await Screen().read(ada.watch(chat, (await program.submit(chat)).id))
        await Screen().read(ada.watch(chat, (await ada.submit(chat)).id))
    assert [[tool.name for tool in request.tools] for request in world.gateway.requests] == [[], ["rule"]]
