"""Spans that cost little while their work is under way: what exporters read is made of them when it is read, in the exporter's thread."""

from __future__ import annotations

import os
import re
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from opentelemetry import context, propagate, trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, Tracer
from opentelemetry.sdk.trace import TracerProvider as SdkProvider
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping
    from contextvars import Token

    from opentelemetry.trace import Link, TracerProvider
    from opentelemetry.util.types import AnyValue, Attributes

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_BY_PARENT = (
    "remoteParentSampled:AlwaysOnSampler,remoteParentNotSampled:AlwaysOffSampler,"
    "localParentSampled:AlwaysOnSampler,localParentNotSampled:AlwaysOffSampler}"
)
"""How a sampler that does as was decided for the parent ends its description of itself."""
_EVERY_ROOT = "ParentBased{root:AlwaysOnSampler," + _BY_PARENT
"""The description of the one that takes every trace which begins here, as is the default."""
_UNSET = Status(StatusCode.UNSET)
_RANDOM = TraceFlags.RANDOM_TRACE_ID
_SAMPLED = TraceFlags.SAMPLED
_KNOWN = _SAMPLED | _RANDOM
_FLAGS = {value: TraceFlags(value) for value in (0, _SAMPLED, _RANDOM, _KNOWN)}
_LIMITS = SpanLimits()
_SCOPE = InstrumentationScope("parley", "")
(_SPAN_KEY,) = trace.set_span_in_context(trace.INVALID_SPAN, Context())
"""Where a context keeps its span."""
_variable = getattr(getattr(context, "_RUNTIME_CONTEXT", None), "_current_context", None)
_plain = _variable if isinstance(_variable, ContextVar) else None
current_context: Callable[[], Context] = _plain.get if _plain is not None else context.get_current
"""Returns the context of what runs: OpenTelemetry keeps it in a variable, unless the operator has chosen another keeper."""
attach: Callable[[Context], Token[Context]] = _plain.set if _plain is not None else context.attach
"""Makes a context the current one, until what this returns is given to `opentelemetry.context.detach`."""
_OTHER_HEADERS = bool(os.environ.get("OTEL_PROPAGATORS"))
"""Whether the operator has chosen how traces cross the wire."""


class RecordedSpan(Span):
    """Notes what it is told; nothing is checked or copied before somebody reads it. What it is told after its end is lost.

    Args:
        name: Low-cardinality name.
        tracer: Knows the resource and the processors.
        span_context: Its own ids.
        parent: Those of its parent; None: there is none.
        kind: Role of this side.
        attributes: Known at the start; must not change afterwards.

    Attributes:
        ids: Its own ids.
    """

    __slots__ = (
        "_ended_at",
        "_events",
        "_kind",
        "_known",
        "_links",
        "_name",
        "_parent",
        "_said",
        "_started_at",
        "_status",
        "_tracer",
        "ids",
    )

    def __init__(
        self,
        name: str,
        tracer: Tracer,
        span_context: SpanContext,
        *,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: Attributes,
    ) -> None:
        self._name = name
        self._tracer = tracer
        self.ids = span_context
        self._parent = parent
        self._kind = kind
        self._known = attributes
        # Most spans are told little, and a live stream holds two of them.
        self._said: dict[str, AnyValue] | None = None
        self._events: tuple[tuple[str, Attributes, int], ...] = ()
        self._links: tuple[Link, ...] = ()
        self._status = _UNSET
        self._ended_at: int | None = None
        self._started_at = time.time_ns()

    @property
    def status(self) -> Status:
        """What has been said of how it went."""
        return self._status

    def get_span_context(self) -> SpanContext:
        """Returns its ids."""
        return self.ids

    def is_recording(self) -> bool:
        """Returns whether it has not ended."""
        return self._ended_at is None

    def set_attribute(self, key: str, value: AnyValue) -> None:
        """Notes an attribute; the last of a name holds."""
        if self._ended_at is not None:
            return
        if self._said is None:
            self._said = {key: value}
        else:
            self._said[key] = value

    def set_attributes(self, attributes: Mapping[str, AnyValue]) -> None:
        """Notes several."""
        if self._ended_at is None:
            self._said = {**(self._said or {}), **attributes}

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """Notes that something happened: now, where no time is given, in nanoseconds since the epoch."""
        if self._ended_at is None:
            self._events += ((name, attributes, timestamp or time.time_ns()),)

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """Notes a span of another trace, or another branch of this one, that has to do with it."""
        if self._ended_at is None and (context.is_valid or attributes or context.trace_state):
            self._links += (trace.Link(context, attributes),)

    def update_name(self, name: str) -> None:
        """Gives it another name."""
        if self._ended_at is None:
            self._name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Says how it went; OK stands whatever comes after, and nothing can be unsaid."""
        told = status if isinstance(status, Status) else Status(status, description)
        if self._ended_at is None and self._status.status_code is not StatusCode.OK and not told.is_unset:
            self._status = told

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,  # noqa: ARG002 - part of the interface
    ) -> None:
        """Notes an exception by its class alone: its text, and its stack, may hold what a user wrote."""
        name = type(exception).__qualname__
        self.add_event("exception", {"exception.type": name, **(attributes or {})}, timestamp)

    def end(self, end_time: int | None = None) -> None:
        """Ends it, and hands it to the processors."""
        if self._ended_at is None:
            self._ended_at = end_time or time.time_ns()
            self._tracer.span_processor.on_end(EndedSpan(self))

    def fields(self) -> dict[str, Any]:
        """Returns what `ReadableSpan` takes, within the limits that OpenTelemetry's variables set."""
        own, event = _LIMITS.max_span_attributes, _LIMITS.max_event_attributes
        return {
            "name": self._name,
            "context": self.ids,
            "parent": self._parent,
            "resource": self._tracer.resource,
            "attributes": _bounded(
                {**(self._known or {}), **(self._said or {})}, own, _LIMITS.max_span_attribute_length
            ),
            "events": BoundedList.from_seq(
                _LIMITS.max_events,
                [
                    Event(name, _bounded(attributes, event, _LIMITS.max_attribute_length), at)
                    for name, attributes, at in self._events
                ],
            ),
            "links": BoundedList.from_seq(_LIMITS.max_links, self._links),
            "kind": self._kind,
            "status": self._status,
            "start_time": self._started_at,
            "end_time": self._ended_at,
            "instrumentation_scope": _SCOPE,
        }


class EndedSpan(ReadableSpan):
    """A span that has ended, as processors and exporters know it; all but its ids is made when one of them asks for it.

    Args:
        recorded: The span.
    """

    def __init__(self, recorded: RecordedSpan) -> None:
        # What `ReadableSpan` sets up is missing until somebody asks `__getattr__` for the first of it.
        self._recorded = recorded
        self._made = False

    @property
    def context(self) -> SpanContext:
        """Its ids, which a processor wants at once."""
        return self._recorded.get_span_context()

    def get_span_context(self) -> SpanContext:
        """Returns its ids."""
        return self._recorded.get_span_context()

    def __getattr__(self, name: str) -> Any:
        """Makes the rest."""
        if self._made:
            raise AttributeError(name)
        super().__init__(**self._recorded.fields())
        self._made = True
        return getattr(self, name)


class Recorder:
    """Starts spans as a tracer does.

    Processors are told of the end of a span and not of its start.

    Args:
        provider: Whose tracer it is; one that is not the SDK's records nothing.

    Attributes:
        provider: The same.
        lasting: No other provider will take its place in this process.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self.provider = provider
        self._tracer = provider.get_tracer(_SCOPE.name)
        sampler = self._tracer.sampler.get_description() if isinstance(self._tracer, Tracer) else ""
        self._by_parent = sampler.endswith(_BY_PARENT)
        self._every_root = sampler == _EVERY_ROOT
        # A provider of the SDK is set once and stays.
        self.lasting = isinstance(provider, SdkProvider)

    def start(self, name: str, parent: SpanContext | None, kind: SpanKind, attributes: Attributes) -> Span:
        """Starts a span; one that is not sampled holds ids only."""
        tracer = self._tracer
        if not isinstance(tracer, Tracer):
            return tracer.start_span(name, _below(parent), kind, attributes)
        if parent is None:
            if not self._every_root:
                return self._decide(tracer, name, parent, kind, attributes)
            ids = tracer.id_generator
            flags = _KNOWN if ids.is_trace_id_random() else _SAMPLED
            root = SpanContext(ids.generate_trace_id(), ids.generate_span_id(), False, _FLAGS[flags])
            return RecordedSpan(name, tracer, root, parent=None, kind=kind, attributes=attributes)
        if not self._by_parent:
            return self._decide(tracer, name, parent, kind, attributes)
        # A tuple, read as one: its properties are calls.
        trace_id, _, _, flags, state, _ = parent
        span_context = SpanContext(
            trace_id, tracer.id_generator.generate_span_id(), False, _FLAGS[flags & _KNOWN], state
        )
        if not flags & _SAMPLED:
            return NonRecordingSpan(span_context)
        return RecordedSpan(name, tracer, span_context, parent=parent, kind=kind, attributes=attributes)

    def _decide(
        self, tracer: Tracer, name: str, parent: SpanContext | None, kind: SpanKind, attributes: Attributes
    ) -> Span:
        ids = tracer.id_generator
        trace_id = ids.generate_trace_id() if parent is None else parent.trace_id
        random = ids.is_trace_id_random() if parent is None else parent.trace_flags.random_trace_id
        result = tracer.sampler.should_sample(_below(parent), trace_id, name, kind, attributes)
        decision: Any = result.decision
        flags = _FLAGS[(_RANDOM if random else 0) | (_SAMPLED if decision.is_sampled() else 0)]
        span_context = SpanContext(trace_id, ids.generate_span_id(), False, flags, result.trace_state)
        if not decision.is_recording():
            return NonRecordingSpan(span_context)
        return RecordedSpan(name, tracer, span_context, parent=parent, kind=kind, attributes=result.attributes)


def recorder() -> Recorder:
    """Returns the one of this process."""
    global _recorder  # noqa: PLW0603 - as there is one provider a process, which may be set after a span or two
    if _recorder is not None and _recorder.lasting:
        return _recorder
    provider = trace.get_tracer_provider()
    if _recorder is None or _recorder.provider is not provider:
        _recorder = Recorder(provider)
    return _recorder


_recorder: Recorder | None = None


def may_name_a_trace(headers: Container[bytes]) -> bool:
    """Says whether it is worth looking for a caller's span in incoming headers, lower-case names."""
    return _OTHER_HEADERS or b"traceparent" in headers


def parent_in(headers: Mapping[str, str]) -> SpanContext | None:
    """Returns the ids of the span that incoming headers, lower-case names, speak of; None: of none, or none that is well formed."""
    given = headers.get("traceparent", "")
    if not given and not _OTHER_HEADERS:
        return None
    if _OTHER_HEADERS or "tracestate" in headers or not (match := _TRACEPARENT.fullmatch(given)):
        found = trace.get_current_span(propagate.extract(headers)).get_span_context()
    else:
        flags = int(match[3], 16)
        found = SpanContext(int(match[1], 16), int(match[2], 16), True, _FLAGS.get(flags) or TraceFlags(flags))
    return found if found[5] else None  # whether it is valid, which as a property is a call


def current(within: Context) -> SpanContext | None:
    """Returns the ids of a context's span; None: there is none."""
    span = within.get(_SPAN_KEY)
    if type(span) is RecordedSpan:  # nearly all are, and what is made here has ids
        return span.ids
    ids = span.get_span_context() if isinstance(span, Span) else None
    return ids if ids is not None and ids.is_valid else None


def below(within: Context, span: Span) -> Context:
    """Returns a context with another span."""
    return Context({**within, _SPAN_KEY: span})


def outgoing_headers() -> dict[str, str]:
    """Returns the W3C trace headers that a call to another process carries."""
    within = current_context()
    ids = current(within)
    if _OTHER_HEADERS or len(within) > 1 or (ids is not None and ids[4]):  # the trace's state
        # Other propagators have a say, or there is more to carry, such as baggage.
        headers: dict[str, str] = {}
        propagate.inject(headers)
        return headers
    if ids is None:
        return {}
    trace_id, span_id, _, flags, _, _ = ids
    return {"traceparent": f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}"}


def _below(parent: SpanContext | None) -> Context:
    return Context() if parent is None else trace.set_span_in_context(NonRecordingSpan(parent), Context())


def _bounded(attributes: Attributes, most: int | None, longest: int | None) -> BoundedAttributes:
    return BoundedAttributes(most, attributes, immutable=True, max_value_len=longest)
