"""Kingdoms over HTTP: settlements belong to them, and are listed by them."""

import asyncio

from tests.databases import on_both_databases
from tests.publisher.conftest import Publisher

pytestmark = on_both_databases


async def test_kingdom_is_created_read_listed_changed_and_deleted_with_an_event_each(publisher: Publisher) -> None:
    path = f"{publisher.campaign}/kingdoms"

    created = await publisher.editor.post(path, {"name": "The North"})
    kingdom = created.body["kingdom"]
    one = f"{path}/{kingdom['id']}"
    read, listed = await publisher.viewer.get(one), await publisher.viewer.get(path)
    changed = await publisher.editor.patch(one, {"description": "Cold"}, If_Match='"1"')
    conflict = await publisher.editor.patch(one, {"description": "Warm"}, If_Match='"1"')
    by_viewer = await publisher.viewer.patch(one, {"name": "Mine"})
    deleted = await publisher.editor.delete(one)
    after = await publisher.viewer.get(one)
    told = [await publisher.heard.told() for _ in range(3)]

    assert created.status == 201
    assert (kingdom["name"], kingdom["description"], kingdom["revision"]) == ("The North", "", 1)
    assert (read.body, listed.body) == ({"kingdom": kingdom}, {"kingdoms": [kingdom]})
    assert (changed.body["kingdom"]["description"], changed.body["kingdom"]["revision"]) == ("Cold", 2)
    assert conflict.body["error"]["conflicts"] == ["description"]
    assert by_viewer.error == (403, "forbidden")
    assert (deleted.status, after.error) == (204, (404, "not_found"))
    common = {
        "type": "entity_updated",
        "entityType": "kingdom",
        "entityId": kingdom["id"],
        "campaignId": publisher.campaign_id,
    }
    assert told == [
        common | {"operation": "create", "changedFields": ["name", "description"]},
        common | {"operation": "update", "changedFields": ["description"]},
        common | {"operation": "delete", "changedFields": []},
    ]


async def test_settlements_are_listed_by_kingdom_and_moving_one_is_a_change_of_kingdom_id(publisher: Publisher) -> None:
    north = await publisher.create("kingdoms", name="The North")
    south = await publisher.create("kingdoms", name="The South")
    ember = await publisher.create("settlements", name="Emberford", kingdomId=north["id"])
    ashby = await publisher.create("settlements", name="Ashby", kingdomId=north["id"])
    free = await publisher.create("settlements", name="Freeport")
    path = f"{publisher.campaign}/settlements"

    moved = await publisher.editor.patch(f"{path}/{ashby['id']}", {"kingdomId": south["id"]})
    left = await publisher.editor.patch(f"{path}/{ember['id']}", {"kingdomId": None})
    told = [await publisher.heard.told() for _ in range(2)]
    lists = [await publisher.viewer.get(f"{path}?kingdomId={one['id']}") for one in (north, south)]
    malformed = await publisher.viewer.get(f"{path}?kingdomId=a.b")

    assert (ember["kingdomId"], free["kingdomId"]) == (north["id"], None)
    assert (moved.body["settlement"]["kingdomId"], left.body["settlement"]["kingdomId"]) == (south["id"], None)
    assert [(one["type"], one["operation"], one["changedFields"]) for one in told] == [
        ("settlement_updated", "update", ["kingdomId"])
    ] * 2
    assert [[one["id"] for one in found.body["settlements"]] for found in lists] == [[], [ashby["id"]]]
    assert malformed.error == (400, "bad_request")
    assert "kingdomId" in malformed.message


async def test_edits_of_the_kingdom_and_of_other_fields_of_a_settlement_are_merged(publisher: Publisher) -> None:
    north = await publisher.create("kingdoms", name="The North")
    south = await publisher.create("kingdoms", name="The South")
    settlement = await publisher.create("settlements", name="Emberford")
    path = f"{publisher.campaign}/settlements/{settlement['id']}"

    first = await publisher.editor.patch(path, {"kingdomId": north["id"]}, If_Match='"1"')
    other_field = await publisher.owner.patch(path, {"level": 2}, If_Match='"1"')
    same_field = await publisher.owner.patch(path, {"kingdomId": south["id"]}, If_Match='"1"')

    assert (first.status, other_field.status) == (200, 200)
    assert other_field.body["settlement"]["kingdomId"] == north["id"]
    assert same_field.error == (409, "conflict")
    assert same_field.body["error"]["conflicts"] == ["kingdomId"]


async def test_settlement_is_refused_in_a_kingdom_that_its_campaign_does_not_have(publisher: Publisher) -> None:
    other = (await publisher.owner.post("/v1/campaigns", {"name": "Other"})).body["campaign"]
    theirs = (await publisher.owner.post(f"/v1/campaigns/{other['id']}/kingdoms", {"name": "Theirs"})).body["kingdom"]
    settlement = await publisher.owner.post(f"{publisher.campaign}/settlements", {"name": "Emberford"})
    path = f"{publisher.campaign}/settlements"

    answers = [
        await publisher.editor.post(path, {"name": "Ashby", "kingdomId": "no-such-kingdom"}),
        await publisher.editor.post(path, {"name": "Ashby", "kingdomId": theirs["id"]}),
        await publisher.editor.patch(f"{path}/{settlement.body['settlement']['id']}", {"kingdomId": theirs["id"]}),
        await publisher.editor.post(path, {"name": "Ashby", "kingdomId": "a.b"}),
    ]

    assert [answer.error for answer in answers] == [(400, "bad_request")] * 4
    assert all("kingdomId" in answer.message for answer in answers)
    assert len((await publisher.viewer.get(path)).body["settlements"]) == 1


async def test_deleting_a_kingdom_publishes_that_its_settlements_left_it_and_then_itself(publisher: Publisher) -> None:
    north = await publisher.create("kingdoms", name="The North")
    inside = [await publisher.create("settlements", name=name, kingdomId=north["id"]) for name in ("Ember", "Ash")]
    free = await publisher.create("settlements", name="Freeport")

    answer = await publisher.editor.delete(f"{publisher.campaign}/kingdoms/{north['id']}")
    told = [await publisher.heard.told() for _ in range(3)]
    after = (await publisher.viewer.get(f"{publisher.campaign}/settlements")).body["settlements"]

    assert answer.status == 204
    assert [one.get("settlementId", one.get("entityId")) for one in told] == [
        *(one["id"] for one in inside),
        north["id"],
    ]
    assert [one["changedFields"] for one in told] == [["kingdomId"], ["kingdomId"], []]
    assert [(one["id"], one["kingdomId"], one["revision"]) for one in after] == [
        *((one["id"], None, 2) for one in inside),
        (free["id"], None, 1),
    ]


async def test_no_settlement_stays_in_a_kingdom_that_is_deleted_while_settlements_move_into_it(
    publisher: Publisher,
) -> None:
    kingdom = await publisher.create("kingdoms", name="The North")
    made = [await publisher.create("settlements", name=f"Town {number}") for number in range(8)]
    path = f"{publisher.campaign}/settlements"

    moving = [publisher.insist("PATCH", f"{path}/{one['id']}", {"kingdomId": kingdom["id"]}) for one in made]
    deleting = publisher.insist("DELETE", f"{publisher.campaign}/kingdoms/{kingdom['id']}", None)
    answers = await asyncio.gather(*moving[:4], deleting, *moving[4:])
    after = (await publisher.viewer.get(path)).body["settlements"]

    assert {answer.status for answer in answers} <= {200, 204, 400}
    assert {one["kingdomId"] for one in after} == {None}


async def test_deleted_campaign_takes_its_kingdoms_with_it(publisher: Publisher) -> None:
    kingdom = await publisher.create("kingdoms", name="The North")
    await publisher.owner.delete(publisher.campaign)

    assert (await publisher.owner.get(f"{publisher.campaign}/kingdoms/{kingdom['id']}")).error == (404, "not_found")
