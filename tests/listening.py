"""Ends servers of tests that clients may still be connecting to."""

import asyncio

_TURNS = 5  # from the kernel's word that somebody is there to the protocol that is told of it


async def stop(server: asyncio.Server) -> None:
    """Closes a server, after what it has just accepted has become a connection like any other.

    asyncio itself forgets, and never closes, what it accepts in the turn of the loop in which the server is closed (seen in 3.11).
    """
    loop = asyncio.get_running_loop()
    for listening in server.sockets:
        loop.remove_reader(listening.fileno())
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    server.close()
