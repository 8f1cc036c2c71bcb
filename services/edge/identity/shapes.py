"""What the identity API takes and gives: GoTrue's shapes, as far as we have what they say."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from parley.auth.v1 import auth_pb2

Email = Annotated[
    str, Field(min_length=3, max_length=254, examples=["ada@example.com"], json_schema_extra={"format": "email"})
]


class _Request(BaseModel):
    # supabase-js sends more than we ask for.
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class SignUp(_Request):
    """A new user."""

    email: Email
    password: Annotated[str, Field(min_length=8, max_length=128, examples=["correct horse battery"])]


class PasswordGrant(_Request):
    """An e-mail address and its password."""

    email: Email
    password: Annotated[str, Field(min_length=1, max_length=128, examples=["correct horse battery"])]


class RefreshGrant(_Request):
    """A refresh token, which is single use."""

    refresh_token: Annotated[str, Field(min_length=1, max_length=512)]


class Membership(BaseModel):
    """Where the session acts."""

    org_id: str
    org_role: str


class User(BaseModel):
    """A person who can sign in."""

    id: str
    aud: Literal["authenticated"] = "authenticated"
    role: Literal["authenticated"] = "authenticated"
    email: str
    created_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    last_sign_in_at: Annotated[str | None, Field(json_schema_extra={"format": "date-time"})]
    app_metadata: Membership
    user_metadata: dict[str, str] = {}

    @classmethod
    def of(cls, user: auth_pb2.User) -> "User":
        """Converts what auth answers."""
        return cls(
            id=user.id,
            email=user.email,
            created_at=user.create_time.ToJsonString(),
            last_sign_in_at=user.last_sign_in_time.ToJsonString() if user.HasField("last_sign_in_time") else None,
            app_metadata=Membership(org_id=user.org_id, org_role=user.role),
        )


class Session(BaseModel):
    """A session and the credentials that speak for it."""

    access_token: Annotated[str, Field(description="Send it as `authorization: Bearer …`.")]
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - a word
    expires_in: Annotated[int, Field(description="Seconds from now.")]
    expires_at: Annotated[int, Field(description="Seconds since the epoch.")]
    refresh_token: Annotated[str, Field(description="Opaque, single use.")]
    user: User

    @classmethod
    def of(cls, session: auth_pb2.Session) -> "Session":
        """Converts what auth answers."""
        return cls(
            access_token=session.access_token,
            expires_in=session.expires_in.seconds,
            expires_at=session.expire_time.seconds,
            refresh_token=session.refresh_token,
            user=User.of(session.user),
        )


class Keys(BaseModel):
    """A JSON Web Key Set, RFC 7517."""

    keys: list[dict[str, object]]
