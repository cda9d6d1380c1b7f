"""Structures over HTTP, with their events as a gateway receives them."""

from tests.databases import on_both_databases
from tests.publisher.conftest import Publisher

pytestmark = on_both_databases


async def test_structure_is_created_read_listed_changed_and_deleted_with_an_event_each(publisher: Publisher) -> None:
    settlement = await publisher.create("settlements", name="Emberford")
    path = f"{publisher.campaign}/settlements/{settlement['id']}/structures"
    ids = {"campaignId": publisher.campaign_id, "settlementId": settlement["id"]}

    created = await publisher.editor.post(path, {"name": "Mill", "variables": {"output": 12}})
    structure = created.body["structure"]
    one = f"{path}/{structure['id']}"
    read, listed = await publisher.viewer.get(one), await publisher.viewer.get(path)
    changed = await publisher.editor.patch(one, {"type": "mill", "level": 2, "variables": {"output": 13}})
    deleted = await publisher.editor.delete(one)
    after = await publisher.viewer.get(path)
    told = [await publisher.heard.told() for _ in range(3)]

    assert created.status == 201
    assert structure | ids | {"name": "Mill", "type": "building", "level": 0, "revision": 1} == structure
    assert read.body == {"structure": structure}
    assert listed.body == {"structures": [structure]}
    assert changed.body["structure"] == structure | {
        "type": "mill",
        "level": 2,
        "variables": {"output": 13},
        "revision": 2,
        "updatedAt": changed.body["structure"]["updatedAt"],
    }
    assert (deleted.status, after.body) == (204, {"structures": []})
    common = {"type": "structure_updated", **ids, "structureId": structure["id"]}
    assert told == [
        common | {"operation": "create", "changedFields": ["name", "type", "level", "variables.output"]},
        common | {"operation": "update", "changedFields": ["type", "level", "variables.output"]},
        common | {"operation": "delete", "changedFields": []},
    ]


async def test_structure_is_found_in_its_own_settlement_only(publisher: Publisher) -> None:
    settlement = await publisher.create("settlements", name="Emberford")
    other = await publisher.create("settlements", name="Ashby")
    mill = await publisher.create(f"settlements/{settlement['id']}/structures", name="Mill")

    answer = await publisher.owner.get(f"{publisher.campaign}/settlements/{other['id']}/structures/{mill['id']}")

    assert answer.error == (404, "not_found")
