"""The OpenAPI document: valid, complete, and true of what the running publisher answers."""

import re
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from services.publisher import openapi
from services.publisher.app import build
from services.publisher.settings import Settings
from tests.publisher.conftest import Publisher, Reply

DOCUMENT = openapi.document()
HEALTH = {"/healthz", "/readyz"}


def test_valid() -> None:
    """It is an OpenAPI 3.1 document by that specification's own schema, and every reference in it leads somewhere."""
    validate(DOCUMENT, cls=OpenAPIV31SpecValidator)


def test_every_route() -> None:
    """Every call of the application is in it, and nothing that is not."""
    app = build(Settings(environment="development", database_url="sqlite+aiosqlite://"), on_fatal=lambda: None)
    routes = {
        (route.method.lower(), route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD" and route.resource.canonical not in HEALTH
    }
    described = {(method, path) for path, calls in DOCUMENT["paths"].items() for method in calls}

    assert described == routes


def assert_described(method: str, path: str, reply: Reply) -> None:
    """The answer is one that the document has for this call: status, body, and every header of ours."""
    operation = DOCUMENT["paths"][path][method]
    assert str(reply.status) in operation["responses"], f"{method} {path}: {reply.status} is not described"
    response = operation["responses"][str(reply.status)]
    ours = {name.lower() for name in reply.headers if name.lower().startswith("x-beaconfire-") or name == "ETag"}
    assert ours <= {name.lower() for name in response.get("headers", {})}
    if "content" not in response:
        assert reply.body is None
        return
    schema: dict[str, Any] = response["content"]["application/json"]["schema"]
    jsonschema.validate(reply.body, {**schema, "components": DOCUMENT["components"]})


@pytest.mark.parametrize(
    ("kind", "thing", "change"),
    [
        ("settlements", {"name": "Mill", "variables": {"food": 3}}, {"level": 2, "variables": {"food": None}}),
        ("entities", {"name": "Inn", "type": "location", "data": {"beds": 4}}, {"data": {"beds": 5}}),
    ],
)
async def test_things(publisher: Publisher, kind: str, thing: dict[str, Any], change: dict[str, Any]) -> None:
    """Create, read, list, change, conflict, delete, and what is refused: each answer is as described."""
    things = f"{publisher.campaign}/{kind}"
    path = f"/v1/campaigns/{{campaign_id}}/{kind}"
    word = "settlement" if kind == "settlements" else "entity"
    made = await publisher.editor.post(things, thing)
    one = f"{things}/{'location/' if kind == 'entities' else ''}{made.body[word]['id']}"
    one_path = f"{path}/{{type}}/{{id}}" if kind == "entities" else f"{path}/{{id}}"
    replies = [
        ("post", path, made),
        ("post", path, await publisher.editor.post(things, {"name": ""})),
        ("post", path, await publisher.viewer.post(things, thing)),
        ("get", path, await publisher.viewer.get(things)),
        ("get", one_path, await publisher.viewer.get(one)),
        ("get", one_path, await publisher.nobody.get(one)),
        ("patch", one_path, await publisher.editor.patch(one, change)),
        ("patch", one_path, await publisher.editor.patch(one, {"name": "Other"}, If_Match='"1"')),
        ("patch", one_path, await publisher.editor.patch(one, {"name": "Another"}, If_Match='"1"')),
        ("delete", one_path, await publisher.editor.delete(one)),
        ("delete", one_path, await publisher.editor.delete(one)),
    ]

    for method, where, reply in replies:
        assert_described(method, where, reply)
    assert [reply.status for _, _, reply in replies] == [201, 400, 403, 200, 200, 401, 200, 200, 409, 204, 404]


async def test_campaigns(publisher: Publisher) -> None:
    """The same for campaigns, their world time and their clock."""
    path = "/v1/campaigns/{campaign_id}"
    owner, campaign = publisher.owner, publisher.campaign
    replies = [
        ("post", "/v1/campaigns", await owner.post("/v1/campaigns", {"name": "New"})),
        ("get", "/v1/campaigns", await owner.get("/v1/campaigns")),
        ("get", path, await owner.get(campaign)),
        ("patch", path, await owner.patch(campaign, {"description": "Old"})),
        ("post", f"{path}/world-time", await owner.post(f"{campaign}/world-time", {"advanceSeconds": 60})),
        ("put", f"{path}/clock", await owner.call("PUT", f"{campaign}/clock", {"everyS": 60, "elapsedSeconds": 60})),
        ("get", path, await owner.get(campaign)),
        ("delete", f"{path}/clock", await owner.delete(f"{campaign}/clock")),
        ("delete", path, await owner.delete(campaign)),
    ]

    for method, where, reply in replies:
        assert_described(method, where, reply)
    assert [reply.status for _, _, reply in replies] == [201, 200, 200, 200, 200, 200, 200, 204, 204]


async def test_events(publisher: Publisher) -> None:
    """The same for events that are published."""
    payload = {"campaignId": publisher.campaign_id, "scope": "campaign", "affectedFields": ["food"]}
    given = {"id": "given-1", "type": "state_invalidated", "payload": payload}
    replies = [
        await publisher.editor.post("/v1/events", given),
        await publisher.editor.post("/v1/events", given),
        await publisher.editor.post("/v1/events", [given, {**given, "id": "x", "type": "nonsense"}]),
        await publisher.editor.post("/v1/events", {**given, "type": "nonsense"}),
        await publisher.viewer.post("/v1/events", {**given, "id": "given-2"}),
    ]

    for reply in replies:
        assert_described("post", "/v1/events", reply)
    assert [reply.status for reply in replies] == [201, 200, 200, 400, 403]


async def test_served(publisher: Publisher) -> None:
    """Everybody may read it at the publisher."""
    reply = await publisher.nobody.get("/openapi.json")

    assert reply.status == 200
    assert reply.body == DOCUMENT
    assert re.fullmatch(r"3\.1\.\d", reply.body["openapi"])
