"""Auth's OpenAPI 3.1 document, made from the models that the calls themselves use."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from beaconfire_auth.http import NewMember, NewRole, Refresh, SignIn, SignOut, SignUp
from beaconfire_kit import errors, openapi
from beaconfire_kit.authorization import HTTP_PATH, AuthorizeReply, HttpQuestion
from beaconfire_kit.openapi import ID, Call, list_of, object_of, reference
from beaconfire_kit.subjects import ID_PATTERN

ABOUT = (
    "Accounts, tokens and memberships. Rate limits, and how long tokens live, are in docs/reference/http.md. The calls "
    "of operators on the operations port are not here."
)
_KIND = {**ID, "description": "A kind of root in the catalogue, like `campaign`"}
_ROOT = {"type": "string", "pattern": f"^{ID_PATTERN}:{ID_PATTERN}$", "description": "A root, like `campaign:c1`"}
_TEXT = {"type": "string"}
_PATH = {"root": _ROOT, "user_id": ID}
_ABOUT_MEMBERS = (errors.BAD_REQUEST, errors.FORBIDDEN)
_OF_A_MEMBER = (*_ABOUT_MEMBERS, errors.NOT_FOUND, errors.CONFLICT, errors.TOO_MANY)


def document() -> dict[str, Any]:
    """The whole document."""
    return openapi.document(
        title="Beaconfire auth",
        about=ABOUT,
        bearer="An access token, of auth itself or of an outside issuer",
        calls=calls(),
        schemas=_schemas(),
    )


def calls() -> Iterator[Call]:
    """Every call of auth except the health endpoints and the document itself."""
    session, body = reference("Session"), reference
    limited = (errors.TOO_MANY,)
    yield Call(
        "post",
        "/auth/sign-up",
        "Create an account, and sign in",
        (*limited, errors.CONFLICT),
        session,
        201,
        body("SignUp"),
        is_open=True,
    )
    yield Call(
        "post",
        "/auth/sign-in",
        "Sign in",
        (*limited, errors.BAD_CREDENTIALS),
        session,
        body=body("SignIn"),
        is_open=True,
    )
    yield Call(
        "post",
        "/auth/refresh",
        "Exchange a refresh token for new tokens",
        (errors.TOKEN_INVALID,),
        session,
        body=body("Refresh"),
        is_open=True,
    )
    yield Call(
        "post",
        "/auth/sign-out",
        "Revoke a refresh token and all others of the same sign-in",
        (),
        None,
        204,
        body("SignOut"),
        is_open=True,
    )
    yield Call("get", "/auth/me", "Return the caller's account", (errors.NOT_FOUND,), object_of(user=reference("User")))
    yield Call(
        "get",
        "/auth/memberships",
        "List the caller's memberships",
        (errors.BAD_REQUEST,),
        object_of(memberships={"type": "array", "items": object_of(root=_ROOT, role=reference("Role"))}),
        parameters=({"name": "kind", "in": "query", "schema": _KIND},),
    )
    yield Call(
        "post",
        HTTP_PATH,
        "Return what the token's owner may see; services use this while the broker is away",
        (),
        reference("AuthorizeReply"),
        body=body("HttpQuestion"),
    )
    yield from _members()
    yield Call(
        "get",
        "/.well-known/jwks.json",
        "Return the keys that verify access tokens (RFC 7517)",
        (),
        object_of(keys={"type": "array", "items": object_of(kid=_TEXT, kty=_TEXT)}),
        headers={"Cache-Control": {"description": "How long the keys may be cached", "schema": _TEXT}},
        is_open=True,
    )


def _members() -> Iterator[Call]:
    members = "/auth/roots/{root}/members"
    member = object_of(member=reference("Member"))
    yield Call(
        "get",
        members,
        "List the members of a root (members)",
        _ABOUT_MEMBERS,
        object_of(members=list_of("Member")),
        path_schemas=_PATH,
    )
    yield Call(
        "post",
        members,
        "Add a member (owners)",
        _OF_A_MEMBER,
        member,
        201,
        reference("NewMember"),
        path_schemas=_PATH,
    )
    yield Call(
        "put",
        f"{members}/{{user_id}}",
        "Give a member another role (owners)",
        _OF_A_MEMBER,
        member,
        body=reference("NewRole"),
        path_schemas=_PATH,
    )
    yield Call(
        "delete",
        f"{members}/{{user_id}}",
        "Remove a member (owners, and members themselves)",
        _OF_A_MEMBER,
        None,
        204,
        path_schemas=_PATH,
    )


def _schemas() -> dict[str, Any]:
    """Every model."""
    sent: list[type[BaseModel]] = [SignUp, SignIn, Refresh, SignOut, NewMember, NewRole, HttpQuestion]
    modes: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        *((model, "validation") for model in sent),
        (AuthorizeReply, "serialization"),
    ]
    _, found = models_json_schema(modes, by_alias=True, ref_template=openapi.REFERENCE)
    user = object_of(id=ID, name=_TEXT, email=_TEXT)
    answers = {
        "User": user,
        "Session": object_of(
            user=reference("User"),
            accessToken=_TEXT,
            expiresInS={"type": "integer", "description": "The lifetime of the access token, in seconds"},
            refreshToken=_TEXT,
        ),
        "Member": object_of(userId=ID, name=_TEXT, email=_TEXT, role=reference("Role")),
    }
    return {**found["$defs"], **answers}
