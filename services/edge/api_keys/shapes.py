"""What the API keys API takes and gives."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from parley.auth.v1 import auth_pb2
from services.edge.conversations.shapes import without_nul

_DAY_S = 86_400
Scope = Annotated[
    Literal["models", "chat", "admin"],
    Field(
        description="`models`: calling models; `chat`: conversations and runs too; `admin`: all of that with the role of its user."
    ),
]


class NewApiKey(BaseModel):
    """A key to be made."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(without_nul)]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=3)] = ["models"]
    expires_in: Annotated[
        int | None,
        Field(ge=60, le=3650 * _DAY_S, description="Its life in seconds; without it the key ends when it is revoked."),
    ] = None


class ApiKey(BaseModel):
    """A key, without its secret."""

    id: str
    name: str
    prefix: Annotated[str, Field(description="What it begins with.")]
    scopes: list[str]
    created_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    expires_at: Annotated[str | None, Field(json_schema_extra={"format": "date-time"})]
    last_used_at: Annotated[str | None, Field(json_schema_extra={"format": "date-time"})]
    revoked_at: Annotated[str | None, Field(json_schema_extra={"format": "date-time"})]

    @classmethod
    def of(cls, key: auth_pb2.ApiKey) -> "ApiKey":
        """Converts what auth answers."""
        return cls(
            id=key.id,
            name=key.name,
            prefix=key.prefix,
            scopes=list(key.scopes),
            created_at=key.create_time.ToJsonString(),
            expires_at=key.expire_time.ToJsonString() if key.HasField("expire_time") else None,
            last_used_at=key.last_used_time.ToJsonString() if key.HasField("last_used_time") else None,
            revoked_at=key.revoke_time.ToJsonString() if key.HasField("revoke_time") else None,
        )


class MadeApiKey(ApiKey):
    """A key that has just been made."""

    key: Annotated[str, Field(description="The key itself, told here and never again.")]


class ApiKeyPage(BaseModel):
    """Keys, the youngest first."""

    api_keys: list[ApiKey]
    next_page_token: Annotated[str, Field(description="Empty on the last page.")]
