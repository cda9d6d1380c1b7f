"""Auth's OpenAPI document is valid, complete, and describes the answers of the running auth."""

import json
import re
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from pydantic import BaseModel, ValidationError

from beaconfire_auth import openapi
from beaconfire_auth.app import build
from beaconfire_auth.http import NewMember, NewRole, Refresh, SignIn, SignOut, SignUp
from beaconfire_auth.settings import Settings
from beaconfire_kit.authorization import HttpQuestion
from beaconfire_kit.backend import MemberChanges, NewRoot, Revocation
from tests.auth.conftest import PASSWORD, Answer, Auth, Table
from tests.openapi import Bodies, assert_described, described, routes

DOCUMENT = openapi.document()
MODELS: dict[str, type[BaseModel]] = {
    model.__name__: model
    for model in (
        *(HttpQuestion, NewMember, NewRole, Refresh, SignIn, SignOut, SignUp),
        *(MemberChanges, NewRoot, Revocation),
    )
}
MEMBERS = "/auth/roots/{root}/members"


def test_auths_openapi_document_is_valid() -> None:
    validate(DOCUMENT, cls=OpenAPIV31SpecValidator)


def test_auths_openapi_document_has_exactly_the_served_calls() -> None:
    app = build(Settings(environment="development", database_url="sqlite+aiosqlite://"), on_fatal=lambda: None)

    assert described(DOCUMENT) == routes(app)


@pytest.mark.parametrize("model", MODELS)
def test_auth_accepts_exactly_the_bodies_that_its_document_describes(model: str) -> None:
    bodies = Bodies(DOCUMENT, {"$ref": f"#/components/schemas/{model}"})

    def takes(body: Any) -> bool:
        try:
            MODELS[model].model_validate_json(json.dumps(body), by_name=False, by_alias=True)
        except ValidationError:
            return False
        return True

    wrong = [(body, takes(body)) for body in bodies if bodies.promises(body) != takes(body)]

    assert wrong == []


def test_every_body_schema_of_auths_document_is_compared() -> None:
    named = set(re.findall(r"schemas/(\w+)", json.dumps([call.body for call in openapi.calls()])))

    assert named == set(MODELS)


def test_limited_calls_are_described_with_429() -> None:
    limited = {
        (method, path)
        for path, calls in DOCUMENT["paths"].items()
        for method, call in calls.items()
        if "429" in call["responses"]
    }
    one = f"{MEMBERS}/{{user_id}}"

    assert limited == {
        *(("post", path) for path in ("/auth/sign-up", "/auth/sign-in", MEMBERS)),
        ("put", one),
        ("delete", one),
        ("delete", "/auth/roots/{root}"),
        *(("post", path) for path in ("/auth/roots", "/auth/members/bulk", "/auth/revocations")),
        ("post", "/auth/users/{user_id}/disconnect"),
    }


async def test_auth_serves_its_openapi_document_to_everybody(auth: Auth) -> None:
    answer = await auth.call("GET", "/openapi.json")

    assert answer.status == 200
    assert answer.body == DOCUMENT


async def test_answers_of_auth_match_its_openapi_document(table: Table) -> None:
    auth, people = table.auth, table.people
    owner, editor, viewer = people["owner"], people["editor"], people["viewer"]
    ann = {"email": "ann@auth.example", "password": PASSWORD, "name": "Ann"}
    nobody = {"email": "nobody@auth.example", "role": "viewer"}
    member = f"{table.path}/{viewer.id}"
    patterns = ["campaign.*.member.*", "user.*.access"]
    issued = await auth.operate("POST", "service-tokens", {"service": "backend", "publish": patterns})
    backend = issued.body["token"]
    new, here = {"root": "campaign:c9", "owner": {"userId": owner.id}}, "campaign:c9"
    calls: list[tuple[str, str, str, Any, str | None, int]] = [
        ("post", "/auth/roots", "/auth/roots", new, backend, 201),
        ("post", "/auth/roots", "/auth/roots", new, backend, 200),
        ("post", "/auth/roots", "/auth/roots", new, owner.token, 403),
        ("post", "/auth/roots", "/auth/roots", {**new, "root": "campaign:c1", "owner": {"userId": "x"}}, backend, 404),
        ("post", "/auth/roots", "/auth/roots", {**new, "owner": {"userId": editor.id}}, backend, 409),
        ("post", "/auth/roots", "/auth/roots", {}, backend, 400),
        ("get", "/auth/roots", "/auth/roots?kind=campaign&limit=1", None, backend, 200),
        ("get", "/auth/roots", "/auth/roots", None, backend, 400),
        ("get", MEMBERS, f"/auth/roots/{here}/members", None, backend, 200),
        ("put", f"{MEMBERS}/{{user_id}}", f"/auth/roots/{here}/members/{editor.id}", {"role": "viewer"}, backend, 200),
        ("get", f"{MEMBERS}/{{user_id}}", f"/auth/roots/{here}/members/{editor.id}", None, backend, 200),
        ("get", f"{MEMBERS}/{{user_id}}", f"/auth/roots/{here}/members/{viewer.id}", None, backend, 404),
        ("post", "/auth/members/bulk", "/auth/members/bulk", {"members": [{}, {}]}, backend, 200),
        ("post", "/auth/members/bulk", "/auth/members/bulk", {"members": []}, backend, 400),
        ("delete", "/auth/roots/{root}", f"/auth/roots/{here}", None, backend, 200),
        ("post", "/auth/users/{user_id}/disconnect", f"/auth/users/{viewer.id}/disconnect", None, backend, 204),
        ("post", "/auth/revocations", "/auth/revocations", {"userId": viewer.id, "root": here}, backend, 200),
        ("post", "/auth/revocations", "/auth/revocations", {"userId": "nobody"}, backend, 404),
        ("post", "/auth/sign-up", "/auth/sign-up", ann, None, 201),
        ("post", "/auth/sign-up", "/auth/sign-up", ann, None, 409),
        ("post", "/auth/sign-up", "/auth/sign-up", {}, None, 400),
        ("post", "/auth/sign-up", "/auth/sign-up", b"x" * 70_000, None, 413),
        ("post", "/auth/sign-in", "/auth/sign-in", {"email": owner.email, "password": PASSWORD}, None, 200),
        ("post", "/auth/sign-in", "/auth/sign-in", {"email": owner.email, "password": "wrong"}, None, 401),
        ("post", "/auth/refresh", "/auth/refresh", {"refreshToken": editor.refresh_token}, None, 200),
        ("post", "/auth/refresh", "/auth/refresh", {"refreshToken": "nonsense"}, None, 401),
        ("get", "/auth/me", "/auth/me", None, owner.token, 200),
        ("get", "/auth/me", "/auth/me", None, None, 401),
        ("post", "/auth/authorize", "/auth/authorize", {"rooms": ["campaign:c1", "campaign:c2"]}, owner.token, 200),
        ("post", "/auth/authorize", "/auth/authorize", {"rooms": 5}, owner.token, 400),
        ("get", "/auth/memberships", "/auth/memberships?kind=campaign", None, owner.token, 200),
        ("get", "/auth/memberships", "/auth/memberships?kind=other", None, owner.token, 400),
        ("get", MEMBERS, table.path, None, viewer.token, 200),
        ("get", MEMBERS, "/auth/roots/campaign:other/members", None, viewer.token, 403),
        ("get", MEMBERS, "/auth/roots/nonsense/members", None, viewer.token, 400),
        ("post", MEMBERS, table.path, {"email": people["stranger"].email, "role": "editor"}, owner.token, 201),
        ("post", MEMBERS, table.path, {"email": people["stranger"].email, "role": "editor"}, owner.token, 409),
        ("post", MEMBERS, table.path, nobody, owner.token, 404),
        ("post", MEMBERS, table.path, nobody, viewer.token, 403),
        ("put", f"{MEMBERS}/{{user_id}}", member, {"role": "editor"}, owner.token, 200),
        ("put", f"{MEMBERS}/{{user_id}}", member, {"role": "king"}, owner.token, 400),
        ("put", f"{MEMBERS}/{{user_id}}", f"{table.path}/{owner.id}", {"role": "viewer"}, owner.token, 409),
        ("delete", f"{MEMBERS}/{{user_id}}", member, None, owner.token, 204),
        ("delete", f"{MEMBERS}/{{user_id}}", member, None, owner.token, 404),
        ("get", "/.well-known/jwks.json", "/.well-known/jwks.json", None, None, 200),
        ("post", "/auth/sign-out", "/auth/sign-out", {"refreshToken": owner.refresh_token}, None, 204),
        ("post", "/auth/sign-out", "/auth/sign-out", {"refreshToken": 5}, None, 400),
        ("get", "/openapi.json", "/openapi.json", None, None, 200),
    ]
    for method, where, path, body, token, status in calls:
        answer: Answer = await auth.call(method.upper(), path, body, token=token)
        assert answer.status == status, (method, path, answer)
        assert_described(DOCUMENT, method, where, answer.status, answer.body, answer.headers)

    assert {(method, where) for method, where, *_ in calls} == described(DOCUMENT)
