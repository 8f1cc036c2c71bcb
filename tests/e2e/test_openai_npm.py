"""OpenAI's own npm package, unchanged, against the whole system; what is tested stands in `tests/clients/openai.test.mjs`."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from tests.e2e.person import Person
from tests.e2e.system import System

CLIENTS = Path(__file__).parents[1] / "clients"
NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="there is no node here")
@pytest.mark.skipif(not (CLIENTS / "node_modules/openai").is_dir(), reason="run `npm ci` in tests/clients first")
@pytest.mark.timeout(120)
async def test_the_npm_package_works_unchanged(stack: System, person: Person) -> None:
    made = (await person.http.post("/v1/api-keys", json={"name": "npm", "scopes": ["models", "chat"]})).json()
    told = {
        "PATH": os.environ["PATH"],
        "PARLEY_BASE_URL": f"{stack.edge_url}/openai/v1",
        "PARLEY_API_KEY": made["key"],
        "PROVIDER_URL": stack.provider.base_url,
    }
    assert NODE is not None
    node = await asyncio.create_subprocess_exec(
        *(NODE, "--test", "--test-reporter=spec", "openai.test.mjs"),
        cwd=CLIENTS,
        env=told,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await node.communicate()
    finally:
        if node.returncode is None:
            node.kill()
            await node.wait()
    assert node.returncode == 0, said.decode()
