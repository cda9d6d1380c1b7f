"""Entities over HTTP, with their events as a gateway receives them."""

import asyncio

from beaconfire.nats_server import NatsServer
from beaconfire_kit.catalogue_store import CatalogueStore
from beaconfire_kit.stream_setup import add_stream_subjects
from beaconfire_publisher.entities import RESERVED
from tests.conftest import connected
from tests.databases import on_both_databases
from tests.kit.fragments import with_root
from tests.publisher.conftest import Publisher

pytestmark = on_both_databases


async def test_entity_of_any_type_is_created_read_changed_and_deleted_with_an_event_each(publisher: Publisher) -> None:
    path = f"{publisher.campaign}/entities"

    created = await publisher.editor.post(path, {"type": "location", "name": "Shrine", "data": {"danger": 4}})
    entity = created.body["entity"]
    one = f"{path}/location/{entity['id']}"
    read = await publisher.viewer.get(one)
    changed = await publisher.editor.patch(one, {"data": {"danger": None, "explored": False}})
    deleted = await publisher.editor.delete(one)
    after = await publisher.viewer.get(one)
    told = [await publisher.heard.told() for _ in range(3)]

    assert created.status == 201
    assert (entity["type"], entity["campaignId"], entity["revision"]) == ("location", publisher.campaign_id, 1)
    assert read.body == {"entity": entity}
    assert (changed.body["entity"]["data"], changed.body["entity"]["revision"]) == ({"explored": False}, 2)
    assert (deleted.status, after.error) == (204, (404, "not_found"))
    common = {
        "type": "entity_updated",
        "entityType": "location",
        "entityId": entity["id"],
        "campaignId": publisher.campaign_id,
    }
    assert told == [
        common | {"operation": "create", "changedFields": ["name", "data.danger", "type"]},
        common | {"operation": "update", "changedFields": ["data.danger", "data.explored"]},
        common | {"operation": "delete", "changedFields": []},
    ]


async def test_entity_list_filters_by_type_and_refuses_an_impossible_type(publisher: Publisher) -> None:
    shrine = await publisher.create("entities", type="location", name="Shrine")
    wolves = await publisher.create("entities", type="encounter", name="Wolves")
    path = f"{publisher.campaign}/entities"

    every = await publisher.viewer.get(path)
    locations = await publisher.viewer.get(f"{path}?type=location")
    none = await publisher.viewer.get(f"{path}?type=dragon")
    refused = await publisher.viewer.get(f"{path}?type=a.b")

    assert every.body == {"entities": [shrine, wolves]}
    assert locations.body == {"entities": [shrine]}
    assert none.body == {"entities": []}
    assert refused.error == (400, "bad_request")


async def test_entity_is_found_under_its_own_type_only(publisher: Publisher) -> None:
    shrine = await publisher.create("entities", type="location", name="Shrine")

    answer = await publisher.viewer.get(f"{publisher.campaign}/entities/encounter/{shrine['id']}")

    assert answer.error == (404, "not_found")


async def test_entity_of_a_reserved_type_is_refused_with_a_reason_and_no_event(publisher: Publisher) -> None:
    path = f"{publisher.campaign}/entities"

    answers = {kind: await publisher.owner.post(path, {"type": kind, "name": "x"}) for kind in RESERVED}
    await publisher.owner.post(path, {"type": "location", "name": "Shrine"})
    told = await publisher.heard.told()

    assert set(answers) == {"campaign", "workspace", "user", "kingdom", "settlement", "structure", "member"}
    for kind, answer in answers.items():
        assert answer.error == (400, "bad_request")
        assert f"type: {kind} is a reserved kind" in answer.message
    assert told["entityType"] == "location"


async def test_entity_whose_type_became_a_kind_of_root_is_refused(publisher: Publisher, stream: NatsServer) -> None:
    """Its room would have the name of a root, and auth lets nobody in."""
    path, depot = f"{publisher.campaign}/entities", {"type": "depot", "name": "x"}
    before = await publisher.owner.post(path, depot)
    async with connected(stream, "setup") as setup:
        await add_stream_subjects(setup, ["depot.>"])
        await CatalogueStore(setup).push([with_root("logistics", "depot")], by="test")
    async with asyncio.timeout(20):
        while (answer := await publisher.owner.post(path, depot)).status == 201:
            pass

    assert before.status == 201
    assert (answer.error, answer.message) == (
        (400, "bad_request"),
        "type: depot is a kind of root in the catalogue",
    )
