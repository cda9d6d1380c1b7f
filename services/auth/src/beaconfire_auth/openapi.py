"""Auth's OpenAPI 3.1 document, made from the models that the calls themselves use."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from beaconfire_auth.http import NewMember, NewRole, Refresh, SignIn, SignOut, SignUp
from beaconfire_kit import errors, openapi
from beaconfire_kit.authorization import HTTP_PATH, AuthorizeReply, HttpQuestion
from beaconfire_kit.backend import MAX_PAGE, MemberChange, MemberChanges, NewRoot, Revocation
from beaconfire_kit.openapi import ID, Call, list_of, object_of, reference
from beaconfire_kit.subjects import ID_PATTERN

ABOUT = (
    "Accounts, tokens and memberships. Rate limits, and how long tokens live, are in docs/reference/http.md. The calls "
    "of operators on the operations port are not here."
)
_KIND = {**ID, "description": "A kind of root in the catalogue, like `campaign`"}
_ROOT = {"type": "string", "pattern": f"^{ID_PATTERN}:{ID_PATTERN}$", "description": "A root, like `campaign:c1`"}
_TEXT = {"type": "string"}
_BOOLEAN = {"type": "boolean"}
_MEMBER = {"userId": ID, "name": _TEXT, "email": _TEXT, "role": reference("Role")}
_CHANGED_MEMBER = {"member": object_of(userId=ID, role=reference("Role")), "changed": _BOOLEAN}
_NEXT = {"anyOf": [ID, {"type": "null"}], "description": "Send it as `after` for the next page"}
_PAGE: tuple[dict[str, Any], ...] = (
    {"name": "after", "in": "query", "schema": ID, "description": "The last id of the page before (services)"},
    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 200}},
)
_OUTSIDE: tuple[dict[str, Any], ...] = tuple(
    {"name": name, "in": "query", "schema": _TEXT, "description": "Of an outside user; `-` stands in the path then"}
    for name in ("issuer", "sub")
)
_PATH = {"root": _ROOT, "user_id": ID}
_ABOUT_MEMBERS = (errors.BAD_REQUEST, errors.FORBIDDEN)
_OF_A_MEMBER = (*_ABOUT_MEMBERS, errors.NOT_FOUND, errors.CONFLICT, errors.TOO_MANY)


def document() -> dict[str, Any]:
    """The whole document."""
    return openapi.document(
        title="Beaconfire auth",
        about=ABOUT,
        bearer="An access token, of auth itself or of an outside issuer; for a backend's calls, a service token",
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
    yield Call(
        "get", "/auth/me", "Return the caller's account", (errors.NOT_FOUND,), object_of(user=reference("Account"))
    )
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
    yield from _of_backends()
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
        "List the members of a root (members, and services in pages)",
        _ABOUT_MEMBERS,
        {
            "anyOf": [
                object_of(members=list_of("MemberOfABackend"), next=_NEXT),
                object_of(members=list_of("Member")),
            ]
        },
        path_schemas=_PATH,
        parameters=_PAGE,
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
        "Give a member another role (owners), or any user a role (services)",
        _OF_A_MEMBER,
        {"anyOf": [object_of(**_CHANGED_MEMBER), member]},
        body=reference("NewRole"),
        path_schemas=_PATH,
        parameters=_OUTSIDE,
    )
    yield Call(
        "delete",
        f"{members}/{{user_id}}",
        "Remove a member (owners, members themselves, and services)",
        _OF_A_MEMBER,
        None,
        204,
        path_schemas=_PATH,
        parameters=_OUTSIDE,
    )


def _of_backends() -> Iterator[Call]:
    """Calls that need a service token, except those that signed-in users have, too."""
    root, limited, refused = "/auth/roots/{root}", (errors.TOO_MANY,), (errors.BAD_REQUEST, errors.FORBIDDEN)
    created = object_of(root=_ROOT, **_CHANGED_MEMBER)
    yield Call(
        "post",
        "/auth/roots",
        "Create a root with its first owner (services)",
        (*refused, *limited, errors.NOT_FOUND, errors.CONFLICT),
        created,
        201,
        reference("NewRoot"),
        more_answers={200: {"description": "The user owns the root already", "schema": created}},
    )
    yield Call(
        "get",
        "/auth/roots",
        "List the roots of a kind that have members (services)",
        refused,
        object_of(roots={"type": "array", "items": object_of(root=_ROOT, members={"type": "integer"})}, next=_NEXT),
        parameters=({"name": "kind", "in": "query", "required": True, "schema": _KIND}, *_PAGE),
    )
    yield Call(
        "delete",
        root,
        "Remove all members of a root (services)",
        (*refused, *limited),
        object_of(removed={"type": "integer"}),
        path_schemas=_PATH,
    )
    yield Call(
        "get",
        f"{root}/members/{{user_id}}",
        "Return one member (services)",
        (*refused, errors.NOT_FOUND),
        object_of(member=reference("MemberOfABackend")),
        path_schemas=_PATH,
        parameters=_OUTSIDE,
    )
    yield Call(
        "post",
        "/auth/members/bulk",
        "Make changes of members in one transaction, each a `MemberChange` (services)",
        (*refused, *limited),
        object_of(
            results={"type": "array", "items": {"anyOf": [object_of(changed=_BOOLEAN), reference("Error")]}},
            **{count: {"type": "integer"} for count in ("changed", "unchanged", "refused")},
        ),
        body=reference("MemberChanges"),
    )
    yield Call(
        "post",
        "/auth/users/{user_id}/disconnect",
        "Close the sockets that a user has open; no token is revoked (services)",
        (*refused, *limited),
        None,
        204,
        path_schemas=_PATH,
        parameters=_OUTSIDE,
    )
    yield Call(
        "post",
        "/auth/revocations",
        "Revoke a user's tokens, or a user's access to one root (services)",
        (*refused, *limited, errors.NOT_FOUND),
        object_of(version={"type": "integer", "description": "Auth's count of changes after it"}),
        body=reference("Revocation"),
    )


def _schemas() -> dict[str, Any]:
    """Every model."""
    of_users: list[type[BaseModel]] = [SignUp, SignIn, Refresh, SignOut, NewMember, NewRole, HttpQuestion]
    of_backends: list[type[BaseModel]] = [NewRoot, MemberChange, MemberChanges, Revocation]
    modes: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        *((model, "validation") for model in of_users + of_backends),
        (AuthorizeReply, "serialization"),
    ]
    _, found = models_json_schema(modes, by_alias=True, ref_template=openapi.REFERENCE)
    user = object_of(id=ID, name=_TEXT, email=_TEXT)
    answers = {
        "Account": user,
        "Session": object_of(
            user=reference("Account"),
            accessToken=_TEXT,
            expiresInS={"type": "integer", "description": "The lifetime of the access token, in seconds"},
            refreshToken=_TEXT,
        ),
        "Member": object_of(**_MEMBER),
        "MemberOfABackend": object_of(**_MEMBER, placeholder=_BOOLEAN),
    }
    return {**found["$defs"], **answers}
