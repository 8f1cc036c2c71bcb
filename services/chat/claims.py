"""Runs that nobody owns are taken here: out of the queue, given back by an instance that drains, left behind by one that died."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from runtime import telemetry
from runtime.context import request_id as current_request_id
from runtime.errors import FailedPrecondition, NotFound, ParleyError, PermissionDenied
from services.chat import metrics, taking
from services.chat.delegation import Standing, identity_of
from services.chat.domain import UnknownModel
from services.chat.ports import ClaimKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Span

    from services.chat.asking import Model
    from services.chat.host import Host
    from services.chat.ports import Auth, Begun, Claim, Data, Tail
    from services.chat.rules import Rules

log = structlog.stdlib.get_logger()

_MOST_AT_ONCE = 100
_BATCH_S = 0.02
"""Between two looks, however often somebody pokes: what comes together is taken together."""
_EXPECT_FOR_S = 60.0
_TRY_AGAIN_S = 0.2
_MORE_LEFT_BEHIND_S = 0.1
"""Between two looks while there are more runs without an owner than one look takes: all of an instance's do not come at once."""
_LEASE_SHARE = 0.6
"""Part of the lease in which a claimed run must get going; then it is left to lapse."""


class Claims:
    """Looks about once a second, and at once when poked, for as many runs as there is room for.

    Args:
        data: Where runs are claimed.
        auth: Gives out tokens of users who are not there.
        tail: Where the logs of claimed runs are.
        host: Makes them live here.
        rules: What and how much.
        arrived: Told of each run that has become live here.
    """

    def __init__(
        self, *, data: Data, auth: Auth, tail: Tail, host: Host, rules: Rules, arrived: Callable[[str], None]
    ) -> None:
        self._data = data
        self._auth = auth
        self._tail = tail
        self._host = host
        self._rules = rules
        self._arrived = arrived
        self._poked = asyncio.Event()
        self._from_queue = 0
        self._claimed = 0
        self._expecting_until = float("-inf")
        self._stopped = False
        self._looking = asyncio.Lock()
        self._away = False

    def poke(self) -> None:
        """There is something in the queue."""
        self._expecting_until = time.monotonic() + _EXPECT_FOR_S
        self._poked.set()

    def run_ended(self) -> None:
        """A run has ended here: another of its user may begin. Nobody looks while nothing has been queued for a while."""
        if time.monotonic() < self._expecting_until:
            self._poked.set()

    async def stop(self) -> None:
        """Claims nothing more; returns once a look that was under way has ended. What it still finds is given back."""
        self._stopped = True
        self._poked.set()
        async with self._looking:
            pass

    async def run(self) -> None:
        """Claims until it is stopped."""
        while not self._stopped:
            self._poked.clear()
            looked_at = time.monotonic()
            async with self._looking:
                again_in_s = await self._look()
            if again_in_s:
                try:
                    async with asyncio.timeout(again_in_s):
                        await self._poked.wait()
                except TimeoutError:
                    pass
            await asyncio.sleep(max(looked_at + _BATCH_S - time.monotonic(), 0))
        await asyncio.Event().wait()  # work that ends is begun anew

    async def _look(self) -> float:
        """Claims once; returns in how many seconds to look again."""
        rules = self._rules
        every_s = rules.claim_every_s * random.uniform(0.8, 1.2)  # noqa: S311 - instances shall not look in step
        # Somebody waits for what another instance has left behind: it takes no place of the queue's, and none from it.
        room = min(
            rules.max_background_runs - self._from_queue, rules.max_live_runs - len(self._host.live), _MOST_AT_ONCE
        )
        if room <= 0:
            return every_s
        alive_until = asyncio.get_running_loop().time() + rules.pace.lease_s * _LEASE_SHARE
        try:
            claimed = await self._data.claim_runs(
                rules.owner,
                lease_s=rules.pace.lease_s,
                suspicion_s=rules.suspicion_s,
                max_runs=room,
                limits=rules.limits,
                token=await self._auth.service_token(),
            )
        except ParleyError as error:
            metrics.CLAIM_FAILURES.labels(error.code).inc()
            if not self._away:
                self._away = True
                log.warning("nothing_can_be_claimed", reason=error.code)
            return every_s
        if self._away:
            self._away = False
            log.info("claiming_again")
        for claim in claimed.claims:
            metrics.CLAIMS.labels(claim.kind).inc()
            queued = claim.kind is ClaimKind.QUEUED
            self._count(1, queued=queued)
            self._host.spawn(self._go_on(claim, alive_until), done=partial(self._forget, queued=queued))
        if len(claimed.claims) == room:
            if all(claim.kind is not ClaimKind.QUEUED for claim in claimed.claims):
                return _MORE_LEFT_BEHIND_S
            return every_s if room < _MOST_AT_ONCE else 0
        if claimed.next_due_at is not None:
            # By the database's clock: should ours be ahead of it, this is a look too early and no more.
            return min(every_s, max(claimed.next_due_at - time.time(), _BATCH_S))
        return every_s

    def _count(self, change: int, *, queued: bool) -> None:
        self._claimed += change
        self._from_queue += change if queued else 0
        metrics.CLAIMED_ACTIVE.set(self._claimed)

    def _forget(self, *, queued: bool) -> None:
        self._count(-1, queued=queued)
        self.run_ended()

    async def _go_on(self, claim: Claim, alive_until: float) -> None:
        """Brings a claimed run to its end; leaves it to lapse where it does not get going by a moment of the loop's clock."""
        request_id = uuid.uuid4().hex
        current_request_id.set(request_id)
        attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.request.model": claim.model or "default",
            "gen_ai.conversation.id": claim.conversation_id,
            "parley.run.id": claim.run_id,
            "parley.run.claim": claim.kind,
        }
        started_at = time.perf_counter()
        with telemetry.span("invoke_agent", attributes=attributes) as span:
            log.info(
                "run_claimed",
                run_id=claim.run_id,
                kind=claim.kind,
                fence=claim.fence,
                previous_owner=claim.previous_owner,
            )
            if (old := self._host.live.get(claim.run_id)) is not None:
                old.supersede()  # it was this instance that had been silent
            try:
                async with asyncio.timeout_at(alive_until):
                    begun, model, token = await self._load(claim)
                    taken = await self._tail.take(claim.org_id, claim.run_id, fence=claim.fence)
            except (NotFound, FailedPrecondition, PermissionDenied) as error:
                # Its user is gone, it has been deleted, or it has another owner by now.
                self._drop(span, claim, error.code)
                return
            except TimeoutError:
                self._drop(span, claim, "DEADLINE_EXCEEDED")
                return
            if self._stopped:
                await self._give_back(begun, token)
                return
            found = taking.found(begun, taken)
            if begun.tries <= 1 and claim.kind is ClaimKind.QUEUED:
                metrics.QUEUE_WAIT_SECONDS.observe(max(time.time() - begun.run.created_at.timestamp(), 0))
            turn = self._host.begin(
                replace(begun, unseen_events=found.unseen_events),
                caller=identity_of(token),
                credential=Standing(self._auth, claim.user_id, claim.org_id, token, role_at_most=claim.begun_as),
                model=model,
                request_id=request_id,
                span=span,
                started_at=started_at,
                log=found.log,
            )
            self._host.keep(turn, sent_seq=found.sent_seq)
            self._arrived(claim.run_id)
            await self._host.bring_to_end(turn)

    async def _load(self, claim: Claim) -> tuple[Begun, Model | None, str]:
        """Returns a claimed run, what is known of its model, and a token for it; tries again while somebody is away."""
        while True:
            try:
                token = await self._auth.delegate_for(claim.user_id, claim.org_id, role_at_most=claim.begun_as)
                try:
                    model = await self._host.models.find(claim.model, token=token)
                except UnknownModel:  # as the gateway will say, for the run's watchers to see
                    model = None
                begun = await self._data.load_run(
                    claim,
                    history_max_messages=self._rules.history_max_messages,
                    history_max_tokens=self._host.history_tokens(model, ""),
                    token=token,
                )
            except (NotFound, FailedPrecondition, PermissionDenied):
                raise
            except ParleyError as error:
                log.warning("claimed_run_waits", run_id=claim.run_id, reason=error.code)
                await asyncio.sleep(_TRY_AGAIN_S)
            else:
                return begun, model, token

    async def _give_back(self, begun: Begun, token: str) -> None:
        """Gives a run back that was claimed while this instance began to leave."""
        try:
            await self._data.release_run(
                begun.run.id, fence=begun.fence, parts=begun.answer, usage=None, last_seq=begun.last_seq, token=token
            )
        except ParleyError as error:  # its lease will lapse
            log.warning("claimed_run_left", run_id=begun.run.id, reason=error.code)

    def _drop(self, span: Span, claim: Claim, reason: str) -> None:
        telemetry.fail(span, reason)
        metrics.CLAIM_FAILURES.labels(reason).inc()
        log.warning("claimed_run_dropped", run_id=claim.run_id, reason=reason)
