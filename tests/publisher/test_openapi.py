"""The publisher's OpenAPI document is valid, complete, and describes the running publisher."""

import json
import re
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from pydantic import BaseModel, ValidationError

from beaconfire_kit.errors import BeaconfireError
from beaconfire_publisher import openapi
from beaconfire_publisher.app import build
from beaconfire_publisher.campaigns import CampaignChanges, NewCampaign
from beaconfire_publisher.entities import Entities
from beaconfire_publisher.events_api import GivenEvent
from beaconfire_publisher.fields import Clock
from beaconfire_publisher.given_events import check_time
from beaconfire_publisher.kingdoms import Kingdoms
from beaconfire_publisher.sending import GivenSend
from beaconfire_publisher.settings import Settings
from beaconfire_publisher.settlements import Settlements
from beaconfire_publisher.structures import Structures
from beaconfire_publisher.world_time import Advance
from tests.openapi import Bodies, described, routes
from tests.openapi import assert_described as described_by
from tests.publisher.conftest import Publisher, Reply

DOCUMENT = openapi.document()


def test_publishers_openapi_document_is_valid() -> None:
    validate(DOCUMENT, cls=OpenAPIV31SpecValidator)


def test_publishers_openapi_document_has_exactly_the_served_calls() -> None:
    app = build(Settings(environment="development", database_url="sqlite+aiosqlite://"), on_fatal=lambda: None)

    assert described(DOCUMENT) == routes(app)


def assert_described(method: str, path: str, reply: Reply) -> None:
    """The answer is one that the document has for this call."""
    described_by(DOCUMENT, method, path, reply.status, reply.body, reply.headers)


MODELS: dict[str, type[BaseModel]] = {
    model.__name__: model
    for model in (
        NewCampaign,
        CampaignChanges,
        Advance,
        Clock,
        GivenEvent,
        GivenSend,
        *(model for one in (Kingdoms, Settlements, Structures, Entities) for model in (one.new, one.changes)),
    )
}


def takes(model: str, body: Any) -> bool:
    """Whether the service takes a body, as its handler reads it. Of an event, only what is around its payload."""
    try:
        MODELS[model].model_validate_json(json.dumps(body), by_name=False, by_alias=True)
        if model in ("GivenEvent", "GivenSend"):
            check_time("metadata.timestamp", (body.get("metadata") or {}).get("timestamp"))
    except (ValidationError, BeaconfireError):
        return False
    return True


@pytest.mark.parametrize("model", MODELS)
def test_publisher_accepts_exactly_the_bodies_that_its_document_describes(model: str) -> None:
    bodies = Bodies(DOCUMENT, {"$ref": f"#/components/schemas/{model}"})
    wrong = [
        (body, "promised" if promised else "taken")
        for body in bodies
        if (promised := bodies.promises(body)) != takes(model, body)
    ]

    assert wrong == []


def test_every_body_schema_of_the_publishers_document_is_compared() -> None:
    named = set(re.findall(r"schemas/(\w+)", json.dumps([call.body for call in openapi.calls()])))

    assert named == set(MODELS)


@pytest.mark.parametrize("name", ["If-Match", "Idempotency-Key"])
async def test_header_values_outside_the_document_get_400_and_others_are_understood(
    publisher: Publisher, name: str
) -> None:
    method, path = ("patch", publisher.campaign) if name == "If-Match" else ("post", "/v1/campaigns")
    where = "/v1/campaigns/{campaign_id}" if name == "If-Match" else path
    (parameter,) = (one for one in DOCUMENT["paths"][where][method]["parameters"] if one["name"] == name)
    values = [
        "",
        "*",
        '"1"',
        'W/"1"',
        "1",
        '"x"',
        '"-1"',
        '"\u0663"',
        f'"{"1" * 15}"',
        f'"{"1" * 16}"',
        '"1", "2"',
        "a b",
    ]
    values += ["x" * 128, "x" * 129, "\u00fc"]
    found = {}
    for value in values:
        reply = await publisher.owner.call(
            method.upper(), path, {"name": "The Vale"}, **{name.replace("-", "_"): value}
        )
        assert_described(method, where, reply)
        found[value] = reply.status != 400

    assert found == {value: bool(re.search(parameter["schema"]["pattern"], value)) for value in values}


async def test_second_value_of_a_single_valued_header_is_refused(publisher: Publisher) -> None:
    headers = [("If-Match", '"1"'), ("If-Match", '"2"'), ("Authorization", f"Bearer {publisher.owner.token}")]
    url = publisher.owner.url + publisher.campaign
    async with publisher.http.patch(url, json={"name": "The Vale"}, headers=headers) as answer:
        assert answer.status == 400


async def test_whole_number_may_be_written_as_5_or_5_0_and_nothing_else(publisher: Publisher) -> None:
    made = await publisher.create("settlements", name="Mill")
    path = f"{publisher.campaign}/settlements/{made['id']}"
    told = {level: await publisher.editor.patch(path, {"level": level}) for level in (5.0, 5.5, "5")}
    told[True] = await publisher.editor.patch(path, {"level": True})

    assert [reply.status for reply in told.values()] == [200, 400, 400, 400]
    assert told[5.0].body["settlement"]["level"] == 5


@pytest.mark.parametrize(
    ("kind", "thing", "change"),
    [
        (
            "settlements",
            {"name": "Mill", "variables": {"food": 3}, "variableSchemas": {"food": {}}},
            {"level": 2, "variables": {"food": None}},
        ),
        ("kingdoms", {"name": "The North"}, {"description": "Cold"}),
        ("entities", {"name": "Inn", "type": "location", "data": {"beds": 4}}, {"data": {"beds": 5}}),
    ],
)
async def test_answers_about_settlements_structures_and_entities_match_the_document(
    publisher: Publisher, kind: str, thing: dict[str, Any], change: dict[str, Any]
) -> None:
    things = f"{publisher.campaign}/{kind}"
    path = f"/v1/campaigns/{{campaign_id}}/{kind}"
    word = {"settlements": "settlement", "kingdoms": "kingdom", "entities": "entity"}[kind]
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


async def test_answers_about_campaigns_world_time_and_clocks_match_the_document(publisher: Publisher) -> None:
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


async def test_answers_to_published_events_match_the_document(publisher: Publisher) -> None:
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


def test_limited_calls_are_described_with_429() -> None:
    without = [
        (method, path)
        for path, calls in DOCUMENT["paths"].items()
        for method, call in calls.items()
        if ("429" in call["responses"]) is (call.get("security") == [])
    ]

    assert without == []


async def test_publisher_serves_its_openapi_document_to_everybody(publisher: Publisher) -> None:
    reply = await publisher.nobody.get("/openapi.json")

    assert reply.status == 200
    assert reply.body == DOCUMENT
    assert re.fullmatch(r"3\.1\.\d", reply.body["openapi"])
