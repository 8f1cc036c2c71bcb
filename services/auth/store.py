"""The domain's stores on Postgres: one method per statement, no decisions."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.postgres import UniqueViolation
from runtime.queries import load
from services.auth.api_keys import ApiKey, WorkingKey
from services.auth.domain import Account, EmailTaken, RefreshToken, User, UserNotFound
from services.auth.signing import StoredKey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    from runtime.context import Identity
    from runtime.postgres import Database, Transaction
    from services.auth.domain import NewSession
    from services.auth.throttle import Rule

QUERIES = load(Path(__file__).with_name("queries.sql"))


class PostgresStore:
    """Users and sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_user(self, password_hash: str, session: NewSession) -> None:
        """Stores a user, their organization and a session. Raises: EmailTaken."""
        user = session.user
        try:
            await self._database.fetch_row(
                "add_user",
                user.id,
                user.email,
                password_hash,
                session.created_at,
                user.org_id,
                user.role,
                session.id,
                session.refresh_sha256,
                session.refresh_expires_at,
            )
        except UniqueViolation as violation:
            if violation.constraint_name != "user_account_email_key":
                raise
            raise EmailTaken("Somebody has signed up with this e-mail address; sign in instead.") from None

    async def find_account(self, email: str) -> Account | None:
        """Returns the account with this e-mail address."""
        row = await self._database.fetch_row("find_account", email)
        return Account(_user(row), row["password_hash"]) if row else None

    async def add_session(self, session: NewSession, new_password_hash: str | None) -> None:
        """Stores a session and the moment of sign-in."""
        await self._database.fetch_row(
            "add_session",
            session.id,
            session.user.org_id,
            session.user.id,
            session.created_at,
            session.refresh_sha256,
            session.refresh_expires_at,
            new_password_hash,
        )

    @contextlib.asynccontextmanager
    async def refresh(self) -> AsyncIterator[PostgresRefreshUnit]:
        """Opens a transaction around one refresh token."""
        async with self._database.transaction() as transaction:
            yield PostgresRefreshUnit(transaction)

    async def revoke_session(self, session_id: str, now: datetime) -> None:
        """Revokes a session."""
        await self._database.fetch_row("revoke_session", session_id, now)

    async def find_user(self, user_id: str, org_id: str) -> User | None:
        """Returns a user as a member of an organization."""
        row = await self._database.fetch_row("find_user", user_id, org_id)
        return _user(row) if row else None

    async def find_open_session(self, session_id: str, user_id: str) -> User | None:
        """Returns whose session it is, unless it was revoked."""
        row = await self._database.fetch_row("find_open_session", session_id, user_id)
        return _user(row) if row else None

    async def add_api_key(self, caller: Identity, key: ApiKey, sha256: bytes, most: int) -> bool:
        """Stores an API key, unless there are `most` that work. Raises: UserNotFound."""
        async with self._database.transaction() as transaction:
            await transaction.fetch_row("lock_api_keys", caller.org_id, caller.user_id)
            row = await transaction.fetch_row(
                "add_api_key",
                key.id,
                caller.org_id,
                caller.user_id,
                key.name,
                key.prefix,
                sha256,
                list(key.scopes),
                key.created_at,
                key.expires_at,
                most,
            )
        if row is None or not row["member"]:
            raise UserNotFound("There is no such user any more.")
        return bool(row["added"])

    async def list_api_keys(self, caller: Identity, below: str | None, most: int) -> Sequence[ApiKey]:
        """Returns a user's API keys, youngest first."""
        rows = await self._database.fetch("list_api_keys", caller.org_id, caller.user_id, below, most)
        return [_api_key(row) for row in rows]

    async def revoke_api_key(self, caller: Identity, key_id: str, now: datetime) -> ApiKey | None:
        """Revokes an API key of a user's."""
        row = await self._database.fetch_row("revoke_api_key", key_id, caller.org_id, caller.user_id, now)
        return _api_key(row) if row else None

    async def use_api_key(self, sha256: bytes, now: datetime) -> WorkingKey | None:
        """Returns an API key that works, and notes that it was used."""
        row = await self._database.fetch_row("use_api_key", sha256, now)
        return _working_key(row) if row else None

    async def find_working_api_key(self, key_id: str, user_id: str, now: datetime) -> WorkingKey | None:
        """Returns an API key that works."""
        row = await self._database.fetch_row("find_working_api_key", key_id, user_id, now)
        return _working_key(row) if row else None


class PostgresOperators:
    """Who operates the platform."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set_operator(self, email: str, *, operator: bool) -> str | None:
        """Makes a user an operator, or none; returns their id, None where there is no such user."""
        row = await self._database.fetch_row("set_operator", email, operator)
        return str(row["id"]) if row else None


class PostgresRefreshUnit:
    """Statements around one refresh token."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def lock(self, sha256: bytes) -> RefreshToken | None:
        """Locks a refresh token and its session."""
        row = await self._transaction.fetch_row("lock_refresh_token", sha256)
        if row is None:
            return None
        return RefreshToken(
            str(row["session_id"]), row["expires_at"], row["spent_at"], row["session_revoked"], _user(row)
        )

    async def rotate(
        self, spent: bytes, successor: bytes, session_id: str, now: datetime, expires_at: datetime
    ) -> None:
        """Marks a token as spent and stores its successor."""
        await self._transaction.fetch_row("rotate_refresh_token", spent, successor, session_id, now, expires_at)

    async def revoke(self, session_id: str, now: datetime) -> None:
        """Revokes the session."""
        await self._transaction.fetch_row("revoke_session", session_id, now)


class PostgresAttempts:
    """Counters of attempts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count_attempt(self, rule: Rule, key: bytes, now: datetime) -> datetime | None:
        """Counts an attempt, unless the key has to wait; returns until when."""
        row = await self._database.fetch_row(
            "count_attempt",
            rule.kind,
            key,
            now,
            rule.limit,
            timedelta(seconds=rule.window_s),
            timedelta(seconds=rule.first_wait_s),
            timedelta(seconds=rule.longest_wait_s),
            timedelta(seconds=rule.memory_s),
        )
        return row["blocked_until"] if row else None

    async def forgive_attempt(self, rule: Rule, key: bytes) -> None:
        """Takes one attempt back."""
        await self._database.fetch_row("forgive_attempt", rule.kind, key, rule.limit)

    async def forget_attempts(self, rule: Rule, key: bytes) -> None:
        """Forgets all attempts of the key."""
        await self._database.fetch_row("forget_attempts", rule.kind, key)


class PostgresKeys:
    """Signing keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_keys(self) -> Sequence[StoredKey]:
        """Returns all keys."""
        return [_key(row) for row in await self._database.fetch("list_signing_keys")]

    @contextlib.asynccontextmanager
    async def change_keys(self) -> AsyncIterator[PostgresKeyUnit]:
        """Opens a transaction that nobody else changes keys beside."""
        async with self._database.transaction() as transaction:
            await transaction.fetch_row("lock_signing_keys")
            yield PostgresKeyUnit(transaction)


class PostgresKeyUnit:
    """Statements that change the signing keys."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def list(self) -> Sequence[StoredKey]:
        """Returns all keys."""
        return [_key(row) for row in await self._transaction.fetch("list_signing_keys")]

    async def add(self, key: StoredKey, others_retire_at: datetime) -> None:
        """Stores a key."""
        await self._transaction.fetch_row(
            "add_signing_key",
            key.kid,
            key.sealed,
            key.public_jwk,
            key.created_at,
            key.activates_at,
            others_retire_at,
        )


class PostgresRemains:
    """What has expired; each method removes one batch and returns how many rows that were."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def remove_refresh_tokens(self, expired_before: datetime, most: int) -> int:
        """Removes refresh tokens."""
        return await self._remove("remove_refresh_tokens", expired_before, most)

    async def remove_sessions(self, revoked_before: datetime, refreshed_before: datetime, most: int) -> int:
        """Removes sessions."""
        return await self._remove("remove_sessions", revoked_before, refreshed_before, most)

    async def remove_attempts(self, ended_before: datetime, most: int) -> int:
        """Removes counters of attempts."""
        return await self._remove("remove_attempts", ended_before, most)

    async def remove_api_keys(self, ended_before: datetime, most: int) -> int:
        """Removes API keys."""
        return await self._remove("remove_api_keys", ended_before, most)

    async def remove_signing_keys(self, retired_before: datetime) -> int:
        """Removes signing keys."""
        return await self._remove("remove_signing_keys", retired_before)

    async def _remove(self, query: str, *args: Any) -> int:
        row = await self._database.fetch_row(query, *args)
        return int(row["removed"]) if row else 0


def _user(row: Any) -> User:
    return User(
        str(row["id"]),
        row["email"],
        str(row["org_id"]),
        row["role"],
        row["created_at"],
        row["last_sign_in_at"],
        row.get("operator", False),
    )


def _key(row: Any) -> StoredKey:
    return StoredKey(
        row["kid"], row["private_key"], row["public_jwk"], row["created_at"], row["activates_at"], row["retires_at"]
    )


def _api_key(row: Any) -> ApiKey:
    return ApiKey(
        str(row["id"]),
        row["name"],
        row["prefix"],
        tuple(row["scopes"]),
        row["created_at"],
        row["expires_at"],
        row["last_used_at"],
        row["revoked_at"],
    )


def _working_key(row: Any) -> WorkingKey:
    return WorkingKey(str(row["key_id"]), tuple(row["scopes"]), row["expires_at"], _user(row))
