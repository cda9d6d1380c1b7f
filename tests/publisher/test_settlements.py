"""Settlements over HTTP, with their events as a gateway receives them."""

import asyncio

from tests.databases import on_both_databases
from tests.publisher.conftest import Publisher

pytestmark = on_both_databases


async def test_new_settlement_is_answered_with_defaults_and_its_event_names_every_field(publisher: Publisher) -> None:
    sent = {"name": "Emberford", "level": 3, "variables": {"food": 40, "walled": True, "motto": "burn bright"}}

    answer = await publisher.editor.post(f"{publisher.campaign}/settlements", sent)
    settlement = answer.body["settlement"]
    told = await publisher.heard.told()

    assert answer.status == 201
    assert settlement | sent == settlement
    assert (settlement["kind"], settlement["population"], settlement["description"]) == ("village", 0, "")
    assert (settlement["campaignId"], settlement["revision"]) == (publisher.campaign_id, 1)
    assert settlement["createdAt"] == settlement["updatedAt"]
    assert settlement["createdAt"].endswith("Z")
    assert told == {
        "type": "settlement_updated",
        "campaignId": publisher.campaign_id,
        "settlementId": settlement["id"],
        "operation": "create",
        "changedFields": [
            "name",
            "kind",
            "level",
            "population",
            "description",
            "kingdomId",
            "variables.food",
            "variables.walled",
            "variables.motto",
        ],
    }


async def test_settlement_reads_as_it_was_created_alone_and_in_the_list_oldest_first(publisher: Publisher) -> None:
    first = await publisher.create("settlements", name="Emberford", kind="town")
    second = await publisher.create("settlements", name="Ashby")

    one = await publisher.viewer.get(f"{publisher.campaign}/settlements/{first['id']}")
    all_ = await publisher.viewer.get(f"{publisher.campaign}/settlements")

    assert one.body == {"settlement": first}
    assert all_.body == {"settlements": [first, second]}


async def test_settlement_changes_only_what_was_sent_and_its_event_names_each_variable(publisher: Publisher) -> None:
    """null removes a variable."""
    variables = {"food": 40, "morale": 7, "walled": True, "gold": 1}
    settlement = await publisher.create("settlements", name="Emberford", level=3, variables=variables)
    path = f"{publisher.campaign}/settlements/{settlement['id']}"

    wanted = {"food": 41, "morale": 7, "walled": None, "gold": True, "unknown": None, "fish": 2.5}
    answer = await publisher.editor.patch(path, {"level": 4, "name": "Emberford", "variables": wanted})
    told = await publisher.heard.told()
    changed = answer.body["settlement"]

    assert (changed["name"], changed["level"], changed["revision"]) == ("Emberford", 4, 2)
    assert changed["variables"] == {"food": 41, "morale": 7, "gold": True, "fish": 2.5}
    assert changed["variables"]["gold"] is True
    assert (await publisher.viewer.get(path)).body == {"settlement": changed}
    assert (told["type"], told["settlementId"], told["operation"]) == ("settlement_updated", settlement["id"], "update")
    assert told["changedFields"] == ["level", "variables.food", "variables.walled", "variables.gold", "variables.fish"]


async def test_settlement_change_without_a_difference_keeps_revision_and_time_and_publishes_nothing(
    publisher: Publisher,
) -> None:
    settlement = await publisher.create("settlements", name="Emberford", level=3, variables={"food": 40})
    path = f"{publisher.campaign}/settlements/{settlement['id']}"

    same = {"name": "Emberford", "level": 3, "variables": {"food": 40, "unknown": None}}
    answer = await publisher.editor.patch(path, same)
    await publisher.editor.patch(path, {"level": 5})
    told = await publisher.heard.told()

    assert answer.body == {"settlement": settlement}
    assert told["changedFields"] == ["level"]


async def test_fifty_simultaneous_changes_of_different_variables_all_apply_with_an_event_each(
    publisher: Publisher,
) -> None:
    settlement = await publisher.create("settlements", name="Emberford")
    path = f"{publisher.campaign}/settlements/{settlement['id']}"
    names = [f"v{number}" for number in range(50)]

    answers = await asyncio.gather(*(publisher.insist("PATCH", path, {"variables": {name: 1}}) for name in names))
    told = [await publisher.heard.told() for _ in names]
    after = (await publisher.viewer.get(path)).body["settlement"]

    assert {answer.status for answer in answers} == {200}
    assert after["variables"] == dict.fromkeys(names, 1)
    assert after["revision"] == 51
    assert sorted(answer.body["settlement"]["revision"] for answer in answers) == list(range(2, 52))
    assert sorted(one["changedFields"] for one in told) == sorted([f"variables.{name}"] for name in names)


async def test_change_beyond_a_hundred_variables_is_refused(publisher: Publisher) -> None:
    hundred = {f"v{number}": number for number in range(100)}
    settlement = await publisher.create("settlements", name="Emberford", variables=hundred)
    path = f"{publisher.campaign}/settlements/{settlement['id']}"

    refused = await publisher.editor.patch(path, {"level": 1, "variables": {"one_more": 1}})
    swapped = await publisher.editor.patch(path, {"variables": {"v0": None, "one_more": 1}})

    assert refused.error == (400, "bad_request")
    assert "variables" in refused.message
    assert swapped.status == 200
    assert (swapped.body["settlement"]["level"], swapped.body["settlement"]["revision"]) == (0, 2)


async def test_deleting_a_settlement_publishes_its_structures_and_then_itself(publisher: Publisher) -> None:
    settlement = await publisher.create("settlements", name="Emberford")
    other = await publisher.create("settlements", name="Ashby")
    mill = await publisher.create(f"settlements/{settlement['id']}/structures", name="Mill")
    smithy = await publisher.create(f"settlements/{settlement['id']}/structures", name="Smithy")
    kept = await publisher.create(f"settlements/{other['id']}/structures", name="Barn")
    path = f"{publisher.campaign}/settlements/{settlement['id']}"

    answer = await publisher.editor.delete(path)
    told = [await publisher.heard.told() for _ in range(3)]
    remaining = await publisher.viewer.get(f"{publisher.campaign}/settlements/{other['id']}/structures")

    assert answer.status == 204
    assert [(one["type"], one["operation"], one["changedFields"]) for one in told] == [
        ("structure_updated", "delete", []),
        ("structure_updated", "delete", []),
        ("settlement_updated", "delete", []),
    ]
    assert [one.get("structureId") for one in told] == [mill["id"], smithy["id"], None]
    assert remaining.body == {"structures": [kept]}
    for gone in (path, f"{path}/structures", f"{path}/structures/{mill['id']}"):
        assert (await publisher.owner.get(gone)).error == (404, "not_found")
    assert (await publisher.owner.delete(path)).error == (404, "not_found")


async def test_settlement_is_found_in_its_own_campaign_only(publisher: Publisher) -> None:
    settlement = await publisher.create("settlements", name="Emberford")
    other = (await publisher.owner.post("/v1/campaigns", {"name": "Other"})).body["campaign"]
    path = f"/v1/campaigns/{other['id']}/settlements/{settlement['id']}"

    calls = [
        await publisher.owner.get(path),
        await publisher.owner.patch(path, {"level": 1}),
        await publisher.owner.delete(path),
        await publisher.owner.get(f"{path}/structures"),
        await publisher.owner.post(f"{path}/structures", {"name": "Mill"}),
    ]

    assert {call.error for call in calls} == {(404, "not_found")}
