"""What the runs API takes and gives."""

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from parley.chat.v1 import chat_pb2
from services.edge.description import one_of
from services.edge.problems import InvalidRequest
from services.edge.runs.sse import status_name

Status = Literal["queued", "running", "completed", "cancelled", "failed", "interrupted", "limited"]

_BRANCHES = ("regenerate_message_id", "continue_message_id")


def _says_something(message: str) -> str:
    if not message.strip():
        raise PydanticCustomError("blank", "must not be only white space.")
    if "\x00" in message:
        raise PydanticCustomError("nul", "must not hold the character U+0000.")
    return message


Words = Annotated[
    str,
    Field(
        min_length=1,
        max_length=10_000,
        description="Not only white space.",
        examples=["Why is the sky blue?"],
        json_schema_extra={"pattern": r"\S"},
    ),
    AfterValidator(_says_something),
]


class _Turn(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    model: Annotated[
        str | None,
        Field(
            max_length=200,
            description="Alias, or a model with or without its provider (`openai/gpt-4o`, `gpt-4o`), listed or not; the default if there is none.",
        ),
    ] = None
    client_message_id: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=128,
            description="Your own id for this message: sent again with the same id it is the same run.",
        ),
    ] = None
    on_conflict: Annotated[
        Literal["reject", "enqueue", "interrupt"] | None,
        Field(
            description=(
                "While as many of your runs are active as may be: `reject` it with 409 `concurrent_request`, the default; `enqueue` it until "
                "they have ended; or `interrupt` the one that is being answered in this conversation (where there is none, your newest one), as "
                "if it were stopped, and begin then. What waits in the queue and what is answered in the background is never stopped by this."
            )
        ),
    ] = None


class NewTurn(_Turn):
    """A message to be answered, in a conversation or in a new one."""

    message: Words
    conversation_id: Annotated[UUID | None, Field(description="Makes a conversation if there is none.")] = None


class NewRun(_Turn):
    """A message to be answered, or an answer to be given anew or gone on with."""

    model_config = ConfigDict(
        json_schema_extra=one_of(
            (("message",), _BRANCHES),
            (("regenerate_message_id",), ("message", "edit_message_id", "continue_message_id")),
            (("continue_message_id",), ("message", "edit_message_id", "regenerate_message_id")),
        )
    )

    message: Words | None = None
    edit_message_id: Annotated[
        UUID | None, Field(description="Your message that `message` stands in for, as a branch of its own.")
    ] = None
    regenerate_message_id: Annotated[
        UUID | None, Field(description="The answer that is given anew, to the same message; without `message`.")
    ] = None
    continue_message_id: Annotated[
        UUID | None,
        Field(
            description="The interrupted, cancelled or limited answer that is gone on with: what stands is kept; without `message`."
        ),
    ] = None

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        """Raises: InvalidRequest, which pydantic lets through: it names the field."""
        given = [name for name in ("message", *_BRANCHES) if getattr(self, name) is not None]
        if not given:
            raise InvalidRequest([("message", "is required, unless an answer is regenerated or continued.")])
        if len(given) > 1:
            raise InvalidRequest([(given[1], f"cannot go with {given[0]}; leave one of them out.")])
        if self.edit_message_id is not None and self.message is None:
            raise InvalidRequest([("edit_message_id", f"cannot go with {given[0]}; it needs `message`.")])
        return self


def request_of(body: NewTurn | NewRun, conversation_id: str = "") -> dict[str, Any]:
    """Returns the fields that chat's requests for a new run share; the conversation may be named by the body."""
    if isinstance(body, NewTurn) and body.conversation_id is not None:
        conversation_id = str(body.conversation_id)
    fields: dict[str, Any] = {
        "conversation_id": conversation_id,
        "message": body.message or "",
        "client_message_id": body.client_message_id or "",
        "model": body.model or "",
    }
    if body.on_conflict is not None:
        fields["on_conflict"] = _ON_CONFLICT[body.on_conflict]
    if isinstance(body, NewRun):
        for name in ("edit_message_id", *_BRANCHES):
            if (branch := getattr(body, name)) is not None:
                fields[name] = str(branch)
    return fields


class Run(BaseModel):
    """Where a run stands."""

    id: str
    conversation_id: str
    user_message_id: str
    message_id: Annotated[str, Field(description="The answer.")]
    model: Annotated[str, Field(description="Asked for; empty: the default.")]
    response_model: Annotated[str, Field(description="The one that answered; empty until that is known.")]
    status: Status
    error_code: Annotated[str | None, Field(description="Why it failed.")]
    created_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    ended_at: Annotated[str | None, Field(json_schema_extra={"format": "date-time"})]

    @classmethod
    def of(cls, run: chat_pb2.Run) -> "Run":
        """Converts what chat answers."""
        return cls.model_validate(
            {
                "id": run.id,
                "conversation_id": run.conversation_id,
                "user_message_id": run.user_message_id,
                "message_id": run.message_id,
                "model": run.model,
                "response_model": run.response_model,
                "status": status_name(run.status),
                "error_code": run.error_reason.lower() or None,
                "created_at": run.create_time.ToJsonString(),
                "ended_at": run.end_time.ToJsonString() if run.HasField("end_time") else None,
            }
        )


class Submitted(BaseModel):
    """A run that is answered in the background."""

    conversation_id: str
    message_id: Annotated[str, Field(description="The answer.")]
    run_id: str
    status: Annotated[
        Literal["processing", "completed", "cancelled", "failed", "interrupted", "limited"],
        Field(description="`processing`, unless the same message was sent before and its run has ended."),
    ]

    @classmethod
    def of(cls, run: chat_pb2.Run) -> "Submitted":
        """Converts what chat answers."""
        processing = run.status in {chat_pb2.RUN_STATUS_QUEUED, chat_pb2.RUN_STATUS_RUNNING}
        return cls.model_validate(
            {
                "conversation_id": run.conversation_id,
                "message_id": run.message_id,
                "run_id": run.id,
                "status": "processing" if processing else status_name(run.status),
            }
        )


_ON_CONFLICT = {
    "reject": chat_pb2.ON_CONFLICT_REJECT,
    "enqueue": chat_pb2.ON_CONFLICT_ENQUEUE,
    "interrupt": chat_pb2.ON_CONFLICT_INTERRUPT,
}
