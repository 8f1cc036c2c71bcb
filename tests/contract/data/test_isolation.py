"""The database itself keeps users apart: whatever a statement asks for, it sees and changes the caller's own rows alone."""

import json
import re
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from runtime import postgres
from runtime.context import Identity
from services.data.composition import load_queries
from services.data.runs.domain import ActiveLimits, RequestLimits, RunStatus
from services.data.runs.keeping import FinishRequest, Keeping, Progress
from services.data.runs.starting import BeginRequest, OnConflict, Starting
from services.data.runs.store import PostgresRuns
from tests.contract.data.person import Person, Service, finish_request, text

TABLES = ("conversation", "message", "run")
_LETTERS = ("list_dead_letters", "retry_dead_letter", "drop_dead_letter")
CLAIMERS = {"claim_runs", "claim_runs_and_roles", "end_forsaken_runs", *_LETTERS}
"""The functions that look across tenants, as a role of their own."""


@pytest.fixture
async def session(stored: Any) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the service's role, in a transaction that is rolled back."""
    connection = await asyncpg.connect(stored.url)
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()


async def act_as(session: asyncpg.Connection, person: Person) -> None:
    claims = json.dumps({"org": person.org_id, "sub": person.user_id})
    await session.execute("SELECT set_config('request.jwt.claims', $1, true)", claims)


async def counts(session: asyncpg.Connection) -> dict[str, int]:
    return {table: await session.fetchval(f"SELECT count(*) FROM chat.{table}") for table in TABLES}


@pytest.fixture
async def victim(service: Service) -> Person:
    """Somebody with a conversation, a run and two messages."""
    person = service.person()
    await person.turn((await person.create("private")).id, "secret", "also secret")
    return person


# --- the catalogue: rules for every table there is, so that a new one cannot be forgotten


async def test_the_tables_are_the_ones_we_know(owner: asyncpg.Connection) -> None:
    rows = await owner.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'chat'::regnamespace AND relkind IN ('r', 'p')"
    )
    assert {row["relname"] for row in rows} >= {*TABLES, "pace"}


async def test_row_security_is_forced_on_every_table(owner: asyncpg.Connection) -> None:
    open_tables = await owner.fetch("""
        SELECT relname FROM pg_class
        WHERE relnamespace = 'chat'::regnamespace AND relkind IN ('r', 'p') AND NOT (relrowsecurity AND relforcerowsecurity)
    """)
    assert open_tables == []


async def test_every_table_has_a_policy_on_organization_and_user(owner: asyncpg.Connection) -> None:
    rows = await owner.fetch("""
        SELECT relname, polcmd, polpermissive, polroles, pg_get_expr(polqual, polrelid) AS using, polwithcheck
        FROM pg_class LEFT JOIN pg_policy ON polrelid = pg_class.oid
        WHERE relnamespace = 'chat'::regnamespace AND relkind IN ('r', 'p') AND polroles <> ARRAY['parley_claimer'::regrole::oid]
    """)
    assert {row["relname"] for row in rows} >= set(TABLES)
    for row in rows:
        using = row["using"] or ""
        assert "request.jwt.claims" in using, row["relname"]
        assert re.search(r"org_id = \( ?SELECT", using), row["relname"]
        assert re.search(r"user_id = \( ?SELECT", using), row["relname"]
        assert " OR " not in using
        # For every command and everybody; what is written must pass what is read by.
        assert (row["polcmd"], row["polroles"], row["polwithcheck"]) == (b"*", [0], None)


async def test_every_key_holds_the_organization(owner: asyncpg.Connection) -> None:
    """Primary keys begin with it; foreign and unique ones carry it."""
    rows = await owner.fetch("""
        SELECT conrelid::regclass::text AS table, conname, contype,
          ARRAY(SELECT attname::text FROM unnest(conkey) WITH ORDINALITY AS key (number, place)
                JOIN pg_attribute ON attrelid = conrelid AND attnum = number ORDER BY place) AS columns
        FROM pg_constraint
        WHERE connamespace = 'chat'::regnamespace AND contype IN ('p', 'u', 'f')
    """)
    assert {row["table"] for row in rows if row["contype"] == b"p"} == {f"chat.{table}" for table in (*TABLES, "pace")}
    for row in rows:
        assert "org_id" in row["columns"], row["conname"]
        assert row["contype"] != b"p" or row["columns"][0] == "org_id"


async def test_the_services_role_is_nobody_special(owner: asyncpg.Connection) -> None:
    role = await owner.fetchrow("""
        SELECT rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication AS special,
          EXISTS (SELECT FROM pg_auth_members WHERE member = pg_roles.oid) AS member,
          EXISTS (SELECT FROM pg_class WHERE relowner = pg_roles.oid)
            OR EXISTS (SELECT FROM pg_proc WHERE proowner = pg_roles.oid)
            OR EXISTS (SELECT FROM pg_namespace WHERE nspowner = pg_roles.oid) AS owns
        FROM pg_roles WHERE rolname = 'parley_data'
    """)
    assert role is not None
    assert tuple(role) == (False, False, False)


async def test_the_services_role_reaches_its_own_schema_alone(owner: asyncpg.Connection) -> None:
    rows = await owner.fetch("""
        SELECT nspname FROM pg_namespace
        WHERE has_schema_privilege('parley_data', oid, 'USAGE') AND nspname NOT IN ('pg_catalog', 'information_schema', 'public')
    """)
    assert [row["nspname"] for row in rows] == ["chat"]
    assert (
        await owner.fetch("""
        SELECT oid::regclass FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm') AND has_table_privilege('parley_data', oid, 'SELECT')
    """)
        == []
    )
    assert await owner.fetchval("SELECT NOT has_schema_privilege('parley_data', 'chat', 'CREATE')")


async def test_functions_act_as_their_caller_and_look_names_up_in_one_place(owner: asyncpg.Connection) -> None:
    rows = await owner.fetch("""
        SELECT proname, prosecdef, proconfig, has_function_privilege('public', oid, 'EXECUTE') AS open, proowner::regrole::text AS owner
        FROM pg_proc WHERE pronamespace = 'chat'::regnamespace
    """)
    assert {row["proname"] for row in rows} >= {"start_run", "start_run_in_pace", "keep_run", "end_run", *CLAIMERS}
    for row in rows:
        assert (row["prosecdef"], row["open"]) == (row["proname"] in CLAIMERS, False), row["proname"]
        assert (row["owner"] == "parley_claimer") == (row["proname"] in CLAIMERS), row["proname"]
        assert "search_path=pg_catalog, pg_temp" in row["proconfig"], row["proname"]


async def test_the_claimers_role_is_nobody_special_and_nobody_logs_in_as_it(owner: asyncpg.Connection) -> None:
    role = await owner.fetchrow("""
        SELECT rolcanlogin, rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication AS special,
          has_schema_privilege(oid, 'chat', 'CREATE') AS creates,
          EXISTS (SELECT FROM pg_class WHERE relowner = pg_roles.oid) AS owns,
          pg_has_role('parley_data', oid, 'MEMBER') AS lent
        FROM pg_roles WHERE rolname = 'parley_claimer'
    """)
    assert role is not None
    assert tuple(role) == (False, False, False, False, False)


async def test_the_claimer_can_read_and_write_nothing_that_anybody_said(owner: asyncpg.Connection) -> None:
    rows = await owner.fetch("""
        SELECT attrelid::regclass::text AS table, attname::text AS column,
          has_column_privilege('parley_claimer', attrelid, attnum, 'SELECT') AS reads,
          has_column_privilege('parley_claimer', attrelid, attnum, 'UPDATE') AS writes,
          has_table_privilege('parley_claimer', attrelid, 'INSERT, DELETE, TRUNCATE') AS more
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        WHERE relnamespace = 'chat'::regnamespace AND relkind IN ('r', 'p') AND attnum > 0 AND NOT attisdropped
    """)
    assert not any(row["more"] for row in rows)
    reads = {(row["table"], row["column"]) for row in rows if row["reads"] and row["table"] != "chat.run"}
    writes = {(row["table"], row["column"]) for row in rows if row["writes"] and row["table"] != "chat.run"}
    assert reads == {("chat.message", "org_id"), ("chat.message", "id"), ("chat.message", "run_id")}
    assert writes == {("chat.message", "state")}
    of_runs = {row["column"] for row in rows if row["table"] == "chat.run"}
    assert of_runs - {row["column"] for row in rows if row["table"] == "chat.run" and row["reads"]} == {
        "content_sha256",
        "position",
    }
    kept = {
        "org_id",
        "id",
        "user_id",
        "conversation_id",
        "user_message_id",
        "answer_message_id",
        "content_sha256",
        "model",
    }
    assert not kept & {row["column"] for row in rows if row["table"] == "chat.run" and row["writes"]}


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM chat.claim_runs($1, 'me', '6 s', '0 s', 100, 0, 0)",
        "SELECT * FROM chat.claim_runs_and_roles($1, 'me', '6 s', '0 s', 100, 0, 0)",
        "SELECT * FROM chat.end_forsaken_runs($1, '0 s', 0)",
    ],
)
@pytest.mark.parametrize("role", ["owner", "admin", "member", "", None])
async def test_only_a_service_claims_and_ends_other_peoples_runs(
    session: asyncpg.Connection, victim: Person, statement: str, role: str | None
) -> None:
    """The database asks by itself, whatever the service has let through."""
    claims = {"org": victim.org_id, "sub": victim.user_id} | ({} if role is None else {"role": role})
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await session.execute(statement, json.dumps(claims))


async def test_a_read_as_the_claimer_is_refused_by_the_database(owner: asyncpg.Connection, victim: Person) -> None:
    async with owner.transaction():
        await owner.execute("SET LOCAL ROLE parley_claimer")
        assert await owner.fetchval("SELECT count(id) FROM chat.message") >= 2
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with owner.transaction():
                await owner.fetch("SELECT parts FROM chat.message")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with owner.transaction():
                await owner.fetch("SELECT title FROM chat.conversation")


# --- what statements see and change


async def test_without_claims_there_is_nothing(session: asyncpg.Connection, victim: Person) -> None:
    assert await counts(session) == dict.fromkeys(TABLES, 0)


@pytest.mark.parametrize("left_over", ["", "{}", '{"org": null, "sub": null}'])
async def test_claims_that_name_nobody_show_nothing(
    session: asyncpg.Connection, victim: Person, left_over: str
) -> None:
    """A setting that ended with an earlier transaction reads as an empty text."""
    await session.execute("SELECT set_config('request.jwt.claims', $1, true)", left_over)
    assert await counts(session) == dict.fromkeys(TABLES, 0)


async def test_claims_end_with_their_transaction(stored: Any, victim: Person) -> None:
    connection = await asyncpg.connect(stored.url)
    try:
        async with connection.transaction():
            await act_as(connection, victim)
            assert await counts(connection) == {"conversation": 1, "message": 2, "run": 1}
        assert await counts(connection) == dict.fromkeys(TABLES, 0)
    finally:
        await connection.close()


async def test_claims_end_with_the_functions_that_set_them(stored: Any, service: Service) -> None:
    """On a connection that the next caller is given, too."""
    queries = load_queries() | {"count": "SELECT count(*) FROM chat.message"}
    person = service.person()
    caller = Identity(person.user_id, person.org_id, "owner", "", None, {}, 0)
    async with postgres.connect(stored.url, queries, max_connections=1) as database:
        starting = Starting(PostgresRuns(database), service.clock, message_max_chars=10)
        keeping = Keeping(PostgresRuns(database), service.clock)
        unbound = ActiveLimits(0, 0, 0)
        request = BeginRequest(
            "", "", "hello", "", "chat-1", 1, 0, 0, False, 1, OnConflict.REJECT, unbound, RequestLimits(9), None
        )
        run = (await starting.begin(caller, request)).run
        assert await seen(database) == 0
        await keeping.checkpoint(caller, Progress(run.id, 1, (), 1), lease_s=1)
        assert await seen(database) == 0
        await keeping.load(caller, run.id, fence=1, history_max_messages=1, history_max_tokens=1)
        assert await seen(database) == 0
        await keeping.cancel(caller, run.id)
        assert await seen(database) == 0
        await keeping.finish(caller, FinishRequest(run.id, 1, RunStatus.COMPLETED, "", (), None, "", 2))
        assert await seen(database) == 0


async def seen(database: postgres.Database) -> int:
    row = await database.fetch_row("count")
    assert row is not None
    return int(row["count"])


@pytest.mark.parametrize("shared", ["nothing", "org", "user_id"])
async def test_a_strangers_statements_see_and_change_nothing(
    service: Service, session: asyncpg.Connection, victim: Person, shared: str
) -> None:
    """Also a fellow member of the organization, and the same user acting in another organization."""
    claims = {} if shared == "nothing" else {shared: victim.org_id if shared == "org" else victim.user_id}
    await act_as(session, service.person(**claims))
    assert await counts(session) == dict.fromkeys(TABLES, 0)
    assert await session.execute("UPDATE chat.conversation SET title = 'mine'") == "UPDATE 0"
    assert await session.execute("UPDATE chat.message SET state = 'failed'") == "UPDATE 0"
    assert await session.execute("UPDATE chat.run SET fence = 9") == "UPDATE 0"
    assert await session.execute("DELETE FROM chat.conversation") == "DELETE 0"


CONVERSATION = """
    INSERT INTO chat.conversation (org_id, user_id, id, title, created_at, updated_at) VALUES ($1, $2, $3, '', now(), now())
"""
MESSAGE = """
    INSERT INTO chat.message
      (org_id, user_id, conversation_id, id, run_id, position, role, state, parts, text_bytes, created_at)
    VALUES ($1, $2, $3, gen_random_uuid(), gen_random_uuid(), 99, 'user', 'complete', '[]', 0, now())
"""
RUN = """
    INSERT INTO chat.run
      (org_id, user_id, conversation_id, id, user_message_id, answer_message_id, content_sha256, model, status, owner,
       lease_expires_at, fence, created_at)
    VALUES ($1, $2, $3, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), sha256(''), '', 'running', '', now(), 1, now())
"""


@pytest.mark.parametrize("statement", [CONVERSATION, MESSAGE, RUN], ids=TABLES)
async def test_nobody_writes_in_anothers_name(
    service: Service, session: asyncpg.Connection, victim: Person, statement: str
) -> None:
    stranger = service.person(org=victim.org_id)
    await act_as(session, stranger)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await session.execute(statement, victim.org_id, victim.user_id, str(uuid.uuid4()))


@pytest.mark.parametrize("statement", [MESSAGE, RUN], ids=["message", "run"])
async def test_nobody_writes_into_anothers_conversation(
    service: Service, session: asyncpg.Connection, victim: Person, statement: str
) -> None:
    """Not even in its own name: the foreign key carries the user."""
    theirs = (await victim.create()).id
    stranger = service.person(org=victim.org_id)
    await act_as(session, stranger)
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await session.execute(statement, stranger.org_id, stranger.user_id, theirs)


@pytest.mark.parametrize("statement", [CONVERSATION, MESSAGE, RUN], ids=TABLES)
async def test_nothing_is_written_without_claims(session: asyncpg.Connection, victim: Person, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await session.execute(statement, victim.org_id, victim.user_id, str(uuid.uuid4()))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE chat.conversation SET user_id = gen_random_uuid()",
        "UPDATE chat.message SET conversation_id = gen_random_uuid()",
        "UPDATE chat.run SET org_id = gen_random_uuid()",
        "DELETE FROM chat.message",
        "DELETE FROM chat.run",
        "TRUNCATE chat.conversation CASCADE",
        "ALTER TABLE chat.run NO FORCE ROW LEVEL SECURITY",
        "DROP POLICY run_is_the_callers ON chat.run",
        "SET LOCAL ROLE postgres",
        "SELECT * FROM parley.migration",
    ],
)
async def test_the_services_role_may_not(session: asyncpg.Connection, victim: Person, statement: str) -> None:
    """Whose a row is never changes, messages and runs go with their conversation alone, and nobody lifts a policy."""
    await act_as(session, victim)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await session.execute(statement)


async def test_claims_are_read_once_a_statement(session: asyncpg.Connection, victim: Person) -> None:
    """In the plan the setting stands in a sub-plan of its own, not in the filter that each row passes."""
    await act_as(session, victim)
    for table in TABLES:
        rows = await session.fetch(f"EXPLAIN (VERBOSE) SELECT created_at FROM chat.{table}")
        plan = [row[0].strip() for row in rows]
        assert any(line.startswith("InitPlan") for line in plan)
        per_row = [line for line in plan if line.startswith(("Filter", "Index Cond", "Recheck Cond"))]
        assert per_row
        assert not any("current_setting" in line for line in per_row)


# --- statements and schema fit


@pytest.mark.parametrize("name", sorted(load_queries()))
async def test_every_statement_fits_the_schema(session: asyncpg.Connection, name: str) -> None:
    await session.prepare(load_queries()[name])


async def test_a_run_is_leased_until_it_ends(session: asyncpg.Connection, service: Service) -> None:
    person = service.person()
    await person.begin()
    await act_as(session, person)
    for change in ("status = 'completed'", "ended_at = now()", "lease_expires_at = NULL"):
        with pytest.raises(asyncpg.CheckViolationError):
            async with session.transaction():
                await session.execute(f"UPDATE chat.run SET {change}")


async def test_no_database_text_is_answered(service: Service, stored: Any, owner: asyncpg.Connection) -> None:
    person = service.person()
    await person.turn((await person.create()).id, "hello", "hi")
    await owner.execute("ALTER FUNCTION chat.end_run RENAME TO end_run_away")
    try:
        begun = await person.begin()
        refusal = await person.refusal(finish_request(begun.run.id, text("x")))
    finally:
        await owner.execute("ALTER FUNCTION chat.end_run_away RENAME TO end_run")
    assert (refusal.code, refusal.message, refusal.metadata) == ("INTERNAL", "internal error", {})
