"""Running counters of a day's budgets in Redis: one script and one round trip lets a call in, over all scopes at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from services.gateway.usage.domain import KINDS, TokenBudgetExceeded, read_call
from services.gateway.usage.scripts import Script, Scripts

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence
    from datetime import date

    from redis.asyncio import Redis

    from services.gateway.usage.domain import Limits, OpenCall
    from services.gateway.usage.store import DayState

# Whose keys are remembered.
_DAYS = 8
_KEPT_S = 3 * 86_400

# KEYS: the day's counters, the day's open calls, the budgets that were set. They share a slot.
_RESERVE = Script("""
local counted = redis.call('HMGET', KEYS[1], 'ready', ARGV[4], ARGV[5], ARGV[6])
local set = redis.call('HMGET', KEYS[3], 'ready', ARGV[4], ARGV[5], ARGV[6])
if not counted[1] or not set[1] then return -1 end
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return 0 end
local asked = tonumber(ARGV[2])
for place = 1, 3 do
  local most = set[1 + place] or ARGV[6 + place]
  if most ~= '' then
    local current = tonumber(counted[1 + place] or '0')
    if current + asked > tonumber(most) then return {place, tostring(current), most} end
  end
end
for place = 1, 3 do redis.call('HINCRBY', KEYS[1], ARGV[3 + place], ARGV[2]) end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
return 0
""")
# A call that is not known ended before this was rebuilt, and is in what it was rebuilt from.
_SETTLE = Script("""
local told = redis.call('HGET', KEYS[2], ARGV[1])
if not told then return redis.call('HEXISTS', KEYS[1], 'ready') - 1 end
local held = cjson.decode(told).tokens
for place = 1, 3 do redis.call('HINCRBY', KEYS[1], ARGV[2 + place], ARGV[2] - held) end
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
""")
_REBUILD = Script("""
if redis.call('HEXISTS', KEYS[1], 'ready') == 1 then return 0 end
local state = cjson.decode(ARGV[1])
redis.call('DEL', KEYS[1], KEYS[2])
for _, pair in ipairs(state.totals) do redis.call('HINCRBY', KEYS[1], pair[1], pair[2]) end
for _, held in ipairs(state.open) do
  for place = 2, 4 do redis.call('HINCRBY', KEYS[1], held[place], held[5]) end
  redis.call('HSET', KEYS[2], held[1], held[6])
end
redis.call('HSET', KEYS[1], 'ready', 1)
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
return 1
""")
_ADOPT = Script("""
if redis.call('HEXISTS', KEYS[1], 'ready') == 0 or redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[3]) == 0 then return 0 end
for place = 1, 3 do redis.call('HINCRBY', KEYS[1], ARGV[3 + place], ARGV[2]) end
return 1
""")
_LIMIT = Script("""
redis.call('DEL', KEYS[3])
for _, pair in ipairs(cjson.decode(ARGV[1])) do redis.call('HSET', KEYS[3], pair[1], pair[2]) end
redis.call('HSET', KEYS[3], 'ready', 1)
return 1
""")


class NotReady(Exception):
    """Redis does not know of the day: it is new, or Redis was emptied."""


class RedisCounters:
    """The counters.

    Every method raises one of `scripts.AWAY` when Redis is away. They are in order: a call that is settled was let in before.

    Args:
        redis: Client.
        prefix: Of every key.

    Attributes:
        scripts: To be kept running.
    """

    def __init__(self, redis: Redis, prefix: str = "parley:{budget}") -> None:
        self._redis = redis
        self._prefix = prefix
        self._named: dict[date, tuple[str, str, str]] = {}
        self.scripts = Scripts(redis)

    async def reserve(self, call: OpenCall, defaults: Limits) -> None:
        """Holds a call's tokens back, unless they are.

        Raises: TokenBudgetExceeded; NotReady.
        """
        await self.answer(call, self.ask(call, defaults))

    def ask(self, call: OpenCall, defaults: Limits) -> asyncio.Future[Any]:
        """Begins what `reserve` does; `answer` ends it."""
        limits = ["" if most is None else most for most in defaults.each()]
        args = (call.id, call.tokens, msgspec.json.encode(call.reservation()), *call.scopes, *limits)
        return self.scripts.run(_RESERVE, self._keys(call.day), args)

    async def answer(self, call: OpenCall, asked: asyncio.Future[Any]) -> None:
        """Reads what Redis says to `ask`.

        Raises: TokenBudgetExceeded; NotReady.
        """
        answer: int | list[Any] = await asked
        if not isinstance(answer, int):
            place, current, most = answer
            raise TokenBudgetExceeded(KINDS[place - 1], int(float(current)), int(most), call.started_at)
        if answer < 0:
            raise NotReady

    async def settle(self, call_id: str, day: date, scopes: Sequence[str], tokens: int) -> None:
        """Counts what a call has used in place of what was held back for it.

        Raises: NotReady.
        """
        self.settled(await self.tell(call_id, day, scopes, tokens))

    def tell(self, call_id: str, day: date, scopes: Sequence[str], tokens: int) -> asyncio.Future[Any]:
        """Begins what `settle` does; `settled` reads its answer."""
        return self.scripts.run(_SETTLE, self._keys(day), (call_id, tokens, *scopes))

    def settled(self, answer: Any) -> None:
        """Reads what Redis says to `tell`.

        Raises: NotReady.
        """
        if answer < 0:
            raise NotReady

    async def forget(self, day: date) -> None:
        """Makes a day unknown: something was counted elsewhere meanwhile."""
        await self._redis.hdel(self._keys(day)[0], "ready")

    async def ready(self, day: date) -> bool:
        """Tells whether a day is known."""
        return bool(await self._redis.hexists(self._keys(day)[0], "ready"))

    async def rebuild(self, day: date, state: DayState) -> bool:
        """Takes over what Postgres knows of a day, unless the day is known; returns whether it did."""
        told = {
            "totals": list(state.totals.items()),
            "open": [[call.id, *call.scopes, call.tokens, json.dumps(call.reservation())] for call in state.open],
        }
        return bool(await self.scripts.run(_REBUILD, self._keys(day), (json.dumps(told), _KEPT_S)))

    async def adopt(self, call: OpenCall) -> None:
        """Holds the tokens of a call back that was let in elsewhere, unless they are."""
        args = (call.id, call.tokens, json.dumps(call.reservation()), *call.scopes)
        await self.scripts.run(_ADOPT, self._keys(call.day), args)

    async def limit(self, day: date, budgets: Mapping[str, int | None]) -> None:
        """Takes over the budgets that were set."""
        told = [[scope, "" if most is None else most] for scope, most in budgets.items()]
        await self.scripts.run(_LIMIT, self._keys(day), (json.dumps(told),))

    async def open_calls(self, day: date) -> Sequence[OpenCall]:
        """Returns the calls for which something is held back."""
        told: Any = await self._redis.hgetall(self._keys(day)[1])
        return [read_call(json.loads(each)) for each in told.values()]

    async def used(self, day: date, scope: str) -> int | None:
        """Returns what a scope has used by what is counted here, without what is held back; None where the day is not known."""
        counters, opened, _ = self._keys(day)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hmget(counters, ["ready", scope])
            pipe.hgetall(opened)
            (ready, tokens), told = await pipe.execute()
        calls = [read_call(json.loads(each)) for each in told.values()]
        return int(tokens or 0) - sum(call.tokens for call in calls if scope in call.scopes) if ready else None

    async def current(self, day: date, scope: str) -> int | None:
        """Returns what a scope has used and holds back; None where that is not known."""
        counters = self._keys(day)[0]
        ready, tokens = await self._redis.hmget(counters, ["ready", scope])
        return int(tokens or 0) if ready else None

    def _keys(self, day: date) -> tuple[str, str, str]:
        if (keys := self._named.get(day)) is None:
            if len(self._named) >= _DAYS:
                self._named.clear()
            keys = f"{self._prefix}:tokens:{day}", f"{self._prefix}:open:{day}", f"{self._prefix}:limits"
            self._named[day] = keys
        return keys
