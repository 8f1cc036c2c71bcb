"""Requests made from the API's description, right and wrong ones, find no answer that the description does not promise."""

import asyncio
import sys

import pytest

from tests.e2e.person import Person
from tests.e2e.system import System

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
)


@pytest.mark.timeout(240)
async def test_no_request_that_fits_or_breaks_the_description_is_answered_otherwise(
    stack: System, person: Person
) -> None:
    """Signing out is left out: it would end the session the rest needs; and the live conversation, which never ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{stack.edge_url}/openapi.json"),
        *("--header", f"authorization: Bearer {person.access_token}"),
        *("--checks", ",".join(CHECKS)),
        *("--phases", "examples,coverage,fuzzing"),
        *("--max-examples", "15"),
        *("--exclude-path", "/auth/v1/logout"),
        *("--exclude-path", "/v1/conversations/{conversation_id}/events"),
        *("--seed", "1"),
        *("--generation-database", "none"),
        *("--request-timeout", "20"),
        "--continue-on-failure",
        "--no-color",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
