"""What is told of a run that has ended here: in metrics, in its span and in the log. Never what anybody said in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from runtime import telemetry
from services.chat import metrics
from services.chat.domain import RunStatus

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from services.chat.domain import Run, Usage

log = structlog.stdlib.get_logger()


def report(
    run: Run,
    usage: Usage,
    reason: str,
    *,
    span: Span,
    label: str,
    answered_by: tuple[str, str],
    background: bool,
    duration_s: float,
    first_delta_s: float | None,
    events: int,
) -> None:
    """Tells of the end of a run.

    Args:
        run: With its final status.
        usage: What it has used.
        reason: Why it failed; empty: it has not.
        span: The run's span.
        label: The model's name in metrics, one of few.
        answered_by: Provider and model; empty where nobody has answered.
        background: It came out of the queue, and becomes a dead letter where it failed.
        duration_s: Since its answering began.
        first_delta_s: Until the first delta; None: there was none.
        events: Number of its last event.
    """
    provider, model = answered_by[0], answered_by[1] or "unknown"
    metrics.RUNS_ENDED.labels(run.status, reason).inc()
    if background and run.status in (RunStatus.FAILED, RunStatus.INTERRUPTED):
        metrics.DEAD_LETTERS.labels(reason or "RUN_INTERRUPTED").inc()
    metrics.TOKENS.labels(label, "input").inc(usage.input_tokens)
    metrics.TOKENS.labels(label, "output").inc(usage.output_tokens)
    span.set_attributes(
        {
            "gen_ai.response.model": model,
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "parley.run.status": run.status,
        }
    )
    if reason:
        telemetry.fail(span, reason)
    log.info(
        "run_ended",
        run_id=run.id,
        conversation_id=run.conversation_id,
        status=run.status,
        duration_ms=_ms(duration_s),
        first_delta_ms=None if first_delta_s is None else _ms(first_delta_s),
        events=events,
        **{
            "gen_ai.provider.name": provider,
            "gen_ai.response.model": model,
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
        },
        **({"reason": reason} if reason else {}),
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)
