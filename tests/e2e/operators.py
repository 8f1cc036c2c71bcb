"""Operators of the platform, as the command line makes them."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from tests.conftest import ROOT
from tests.e2e.person import PASSWORD

if TYPE_CHECKING:
    from tests.e2e.person import Person
    from tests.e2e.system import System


async def operate(stack: System, person: Person, verb: str = "grant") -> None:
    """Says on the command line who operates the platform; the person signs in anew."""
    user = (await person.http.get("/auth/v1/user")).json()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.auth", "operator", verb, user["email"]),
        cwd=ROOT,
        env={
            "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}",
            "PARLEY_AUTH_DATABASE_URL_FILE": str(stack.stack.home.secrets / "parley_auth_url"),
        },
    )
    assert await process.wait() == 0
    signed_in = await person.http.post(
        "/auth/v1/token?grant_type=password", json={"email": user["email"], "password": PASSWORD}
    )
    person.http.headers["authorization"] = f"Bearer {signed_in.json()['access_token']}"
