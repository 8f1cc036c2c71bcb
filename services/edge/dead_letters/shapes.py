"""What the dead letters API gives."""

from typing import Annotated

from pydantic import BaseModel, Field

from parley.chat.v1 import chat_pb2
from services.edge.runs.shapes import Run


class DeadLetter(BaseModel):
    """A background run that was given up."""

    run: Run
    user_id: Annotated[str, Field(description="Whose it is.")]
    tries: Annotated[int, Field(description="How often it was tried.")]
    created_at: Annotated[str, Field(description="When it was given up.", json_schema_extra={"format": "date-time"})]

    @classmethod
    def of(cls, letter: chat_pb2.DeadLetter) -> "DeadLetter":
        """Converts what chat answers."""
        return cls(
            run=Run.of(letter.run),
            user_id=letter.user_id,
            tries=letter.tries,
            created_at=letter.create_time.ToJsonString(),
        )


class DeadLetterPage(BaseModel):
    """Dead letters, the newest first."""

    dead_letters: list[DeadLetter]
    next_page_token: Annotated[str, Field(description="Empty on the last page.")]
