"""Sign-up, sign-in, refresh, sign-out, the current user and the public keys."""

from typing import Annotated, Literal, TypeVar

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from parley.auth.v1 import auth_pb2
from services.edge.calls import OpenRoute, SignedInRoute
from services.edge.client_address import ClientAddress
from services.edge.clients import Services
from services.edge.description import BEARER, responses
from services.edge.identity.shapes import Keys, PasswordGrant, RefreshGrant, Session, SignUp, User

G = TypeVar("G", bound=BaseModel)
GrantType = Annotated[Literal["password", "refresh_token"], Query(description="What the body holds.")]
_TOKEN_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"anyOf": [PasswordGrant.model_json_schema(), RefreshGrant.model_json_schema()]}
            }
        },
    }
}


class IdentityRoutes:
    """The paths below `/auth/v1`, and the keys.

    Args:
        services: The services behind.
        client_address: Tells auth's throttle who asks.
    """

    def __init__(self, services: Services, client_address: ClientAddress) -> None:
        self._services = services
        self._auth = services.auth
        self._client_address = client_address

    def routers(self) -> list[APIRouter]:
        """Returns the routes: those for anyone and those for a signed-in user."""
        anyone = APIRouter(route_class=OpenRoute, tags=["Identity"])
        anyone.add_api_route(
            "/auth/v1/signup",
            self.sign_up,
            methods=["POST"],
            response_model=Session,
            summary="Sign up",
            responses=responses(409, 429, body=True, signed_in=False),
        )
        anyone.add_api_route(
            "/auth/v1/token",
            self.open_session,
            methods=["POST"],
            response_model=Session,
            summary="Sign in, or refresh a session",
            responses=responses(429, body=True, signed_in=False),
            openapi_extra=_TOKEN_BODY,
        )
        anyone.add_api_route(
            "/.well-known/jwks.json",
            self.keys,
            methods=["GET"],
            response_model=Keys,
            summary="Get the keys that access tokens are signed with",
            responses=responses(signed_in=False),
        )
        # Where GoTrue has them.
        anyone.add_api_route("/auth/v1/.well-known/jwks.json", self.keys, methods=["GET"], include_in_schema=False)
        signed_in = APIRouter(route_class=SignedInRoute, tags=["Identity"])
        signed_in.add_api_route(
            "/auth/v1/logout",
            self.sign_out,
            methods=["POST"],
            status_code=204,
            summary="Sign out",
            responses=responses(),
            openapi_extra=BEARER,
        )
        signed_in.add_api_route(
            "/auth/v1/user",
            self.current_user,
            methods=["GET"],
            response_model=User,
            summary="Get the current user",
            responses=responses(404),
            openapi_extra=BEARER,
        )
        return [anyone, signed_in]

    async def sign_up(self, body: SignUp, request: Request) -> Response:
        """Creates a user with a personal organization and opens a session."""
        message = auth_pb2.SignUpRequest(
            email=body.email, password=body.password, client_address=self._client_address.of(request.scope)
        )
        response = await self._services.call(self._auth.SignUp, message)
        return _answer(Session.of(response.session))

    async def open_session(
        self, grant_type: GrantType, request: Request, body: Annotated[dict[str, object], Body()]
    ) -> Response:
        """Opens a session for an e-mail address and a password, or renews one for its refresh token."""
        if grant_type == "password":
            password = _grant(PasswordGrant, body)
            message = auth_pb2.SignInRequest(
                email=password.email,
                password=password.password,
                client_address=self._client_address.of(request.scope),
            )
            response = await self._services.call(self._auth.SignIn, message)
        else:
            refresh = _grant(RefreshGrant, body)
            response = await self._services.call(
                self._auth.RefreshSession, auth_pb2.RefreshSessionRequest(refresh_token=refresh.refresh_token)
            )
        return _answer(Session.of(response.session))

    async def sign_out(self) -> Response:
        """Revokes the session. Its access token lapses by itself."""
        await self._services.call(self._auth.SignOut, auth_pb2.SignOutRequest())
        return Response(status_code=204)

    async def current_user(self) -> Response:
        """Returns the user the access token belongs to."""
        response = await self._services.call(self._auth.GetCurrentUser, auth_pb2.GetCurrentUserRequest())
        return _answer(User.of(response.user))

    async def keys(self) -> Response:
        """Returns the public keys as a JSON Web Key Set."""
        headers = {"cache-control": "public, max-age=300"}
        return Response(await self._services.jwks(), headers=headers, media_type="application/json")


def _grant(model: type[G], body: dict[str, object]) -> G:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        raise RequestValidationError([dict(one, loc=("body", *one["loc"])) for one in faults]) from None


def _answer(shape: Session | User) -> Response:
    return Response(shape.model_dump_json(), media_type="application/json")
