"""How often a finished answer is tried to be stored."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from opentelemetry.trace import INVALID_SPAN

from runtime.context import Identity
from runtime.errors import ParleyError, ResourceExhausted, Unavailable
from services.chat import keeping
from services.chat.asking import FinishReason, Model, ModelCall, ModelDelta, ModelFinished, TextDelta
from services.chat.delegation import Credential
from services.chat.domain import Done, Part, Run, RunStatus, Stored, Usage
from services.chat.ports import Begun, Ending, NewRun
from services.chat.prompt import Prompt
from services.chat.turn import Pace, Turn

RUN = Run("r", "c", "u", "m", "fast", RunStatus.RUNNING, "", datetime.now(UTC), None)


class Saying:
    """A gateway, and an auth that is not needed."""

    async def chat(self, call: ModelCall, *, token: str) -> AsyncGenerator[list[ModelDelta], None]:
        yield [TextDelta("Hello"), ModelFinished(FinishReason.STOP, Usage(1, 1))]

    async def list_models(self, *, token: str) -> Sequence[Model]:
        raise NotImplementedError

    async def delegate(self, *, token: str) -> str:
        raise NotImplementedError


class Storing:
    """The part of data that ends runs; refuses in turn, then takes."""

    def __init__(self, *refusals: ParleyError) -> None:
        self.refusals = list(refusals)
        self.tries = 0
        self.taken = False

    async def finish_run(self, ending: Ending, *, token: str) -> Run:
        self.tries += 1
        if self.refusals:
            raise self.refusals.pop(0)
        self.taken = True
        return replace(RUN, status=ending.status)

    async def begin_run(self, new: NewRun, *, token: str) -> Begun:
        raise NotImplementedError

    async def checkpoint_run(
        self, run_id: str, *, fence: int, parts: Sequence[Part], last_seq: int, lease_s: float, token: str
    ) -> None:
        raise NotImplementedError

    async def get_run(self, run_id: str, *, token: str) -> Stored:
        raise NotImplementedError


def said_by(service: str, error: ParleyError) -> ParleyError:
    error.domain = f"{service}.parley"
    return error


@pytest.mark.parametrize(
    ("refusal", "tries", "taken"),
    [
        (ResourceExhausted("The service failed."), 1, False),
        (said_by("data", ResourceExhausted("Busy.")), 2, True),
        (Unavailable("away"), 2, True),
    ],
    ids=["too large for the transport", "data is busy", "data is away"],
)
async def test_an_answer_is_tried_again_unless_it_is_too_large_to_send(
    monkeypatch: pytest.MonkeyPatch, refusal: ParleyError, tries: int, taken: bool
) -> None:
    monkeypatch.setattr(keeping, "_FINISH_PAUSE_S", 0.001)
    data, world = Storing(refusal), Saying()
    identity = Identity("user", "org", "owner", "session", None, {}, time.time() + 900)
    run = Turn(
        Begun(RUN, 1, "Hello?", datetime.now(UTC), (), existing=False),
        Prompt("", (), "Hello?"),
        caller=identity,
        credential=Credential(world, "own", expires_at=identity.expires_at),
        data=data,
        gateway=world,
        pace=Pace(10, 1, finish_patience_s=2, finish_retry_for_s=600),
        label="fast",
        request_id="",
        started_at=time.perf_counter(),
        span=INVALID_SPAN,
    )
    run.begin()
    await run.live()
    assert (data.tries, data.taken) == (tries, taken)
    assert isinstance(run.log.after(0)[-1].kind, Done)
