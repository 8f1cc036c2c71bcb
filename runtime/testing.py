"""What tests need of the platform: a loopback server, keys and access tokens, a clock that stands still."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from runtime.identity import ALGORITHM, ISSUER, USER_AUDIENCE, Verifier
from runtime.server import Server, Servicer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Clock:
    """A clock that moves only when told; call it for the time in seconds."""

    def __init__(self, now: float | None = None) -> None:
        self.now = time.time() if now is None else now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Moves the clock on."""
        self.now += seconds


class Issuer:
    """Signs access tokens the way auth does, with a key of its own."""

    def __init__(self, kid: str = "test-key") -> None:
        self.kid = kid
        self._key = Ed25519PrivateKey.generate()

    def jwks(self) -> str:
        """Returns the public key set as JSON text."""
        entry = jwt.get_algorithm_by_name(ALGORITHM).to_jwk(self._key.public_key(), as_dict=True)
        return json.dumps({"keys": [{**entry, "kid": self.kid, "alg": ALGORITHM, "use": "sig"}]})

    def token(self, user_id: str | None = None, *, ttl_s: float = 900, **claims: Any) -> str:
        """Returns an access token; `claims` override what a fresh user's token holds."""
        now = time.time()
        body = {
            "iss": ISSUER,
            "aud": USER_AUDIENCE,
            "sub": user_id or str(uuid.uuid4()),
            "org": str(uuid.uuid4()),
            "role": "owner",
            "session_id": str(uuid.uuid4()),
            "iat": int(now),
            "exp": int(now + ttl_s),
            **claims,
        }
        return jwt.encode(body, self._key, algorithm=ALGORITHM, headers={"kid": self.kid})

    def verifier(self, audience: str) -> Verifier:
        """Returns a verifier that trusts this issuer alone."""

        async def fetch() -> str:
            return self.jwks()

        return Verifier(fetch, audience=audience)


@contextlib.asynccontextmanager
async def loopback(service: str, *servicers: Servicer, verifier: Verifier | None = None) -> AsyncIterator[str]:
    """Serves on a free loopback port for the length of the block and gives its address."""
    server = Server(service, "127.0.0.1:0", servicers, verifier=verifier)
    await server.start()
    await server.set_ready(ready=True)
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        await server.stop(0)
