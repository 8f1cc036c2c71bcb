"""What the runs API takes and gives."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from parley.chat.v1 import chat_pb2
from services.edge.runs.sse import status_name


def _says_something(message: str) -> str:
    if not message.strip():
        raise PydanticCustomError("blank", "must not be only white space.")
    if "\x00" in message:
        raise PydanticCustomError("nul", "must not hold the character U+0000.")
    return message


class NewRun(BaseModel):
    """A message to be answered."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    message: Annotated[
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
    model: Annotated[
        str | None, Field(max_length=200, description="Model or alias; the default alias if there is none.")
    ] = None
    client_message_id: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=128,
            description="Your own id for this message: sent again with the same id it is the same run.",
        ),
    ] = None


class NewTurn(NewRun):
    """A message to be answered, in a conversation or in a new one."""

    conversation_id: Annotated[UUID | None, Field(description="Makes a conversation if there is none.")] = None


class Run(BaseModel):
    """Where a run stands."""

    id: str
    conversation_id: str
    user_message_id: str
    message_id: Annotated[str, Field(description="The answer.")]
    model: str
    status: Literal["running", "completed", "cancelled", "failed", "interrupted", "limited"]
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
                "status": status_name(run.status),
                "error_code": run.error_reason.lower() or None,
                "created_at": run.create_time.ToJsonString(),
                "ended_at": run.end_time.ToJsonString() if run.HasField("end_time") else None,
            }
        )
