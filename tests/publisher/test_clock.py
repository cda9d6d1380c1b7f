"""Campaign clocks over HTTP, with their events as a gateway receives them."""

from typing import Any

import pytest

from beaconfire_publisher.clock import MAX_OF_A_USER
from tests.publisher.conftest import Publisher

HOURLY = {"everyS": 60, "elapsedSeconds": 3600}


async def test_clock_is_set_and_stopped_with_an_event_each_and_members_see_it(publisher: Publisher) -> None:
    path = f"{publisher.campaign}/clock"

    answer = await publisher.editor.call("PUT", path, HOURLY)
    told = await publisher.heard.told()
    running = (await publisher.viewer.get(publisher.campaign)).body["campaign"]
    stopped = await publisher.editor.delete(path)
    told_after = await publisher.heard.told()
    after = (await publisher.viewer.get(publisher.campaign)).body["campaign"]

    assert answer.status == 200
    assert answer.body["campaign"]["clock"] == HOURLY
    assert (running["clock"], running["revision"]) == (HOURLY, 2)
    assert told == told_after
    assert told == {
        "type": "entity_updated",
        "campaignId": publisher.campaign_id,
        "entityType": "campaign",
        "entityId": publisher.campaign_id,
        "operation": "update",
        "changedFields": ["clock"],
    }
    assert stopped.status == 204
    assert (after["clock"], after["revision"]) == (None, 3)


async def test_setting_the_same_clock_or_stopping_none_publishes_no_event(publisher: Publisher) -> None:
    path = f"{publisher.campaign}/clock"
    assert (await publisher.editor.delete(path)).status == 204
    for _ in range(2):
        assert (await publisher.editor.call("PUT", path, HOURLY)).body["campaign"]["revision"] == 2
    await publisher.editor.call("PUT", path, {**HOURLY, "everyS": 61})

    told = [(await publisher.heard.told())["changedFields"] for _ in range(2)]
    await publisher.editor.patch(publisher.campaign, {"name": "Later"})

    assert told == [["clock"], ["clock"]]
    assert (await publisher.heard.told())["changedFields"] == ["name"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({**HOURLY, "everyS": 0}, "everyS"),
        ({**HOURLY, "everyS": 86_401}, "everyS"),
        ({**HOURLY, "everyS": 1.5}, "everyS"),
        ({**HOURLY, "everyS": "60"}, "everyS"),
        ({**HOURLY, "everyS": True}, "everyS"),
        ({**HOURLY, "elapsedSeconds": 0}, "elapsedSeconds"),
        ({**HOURLY, "elapsedSeconds": 31_536_001}, "elapsedSeconds"),
        ({"everyS": 60}, "elapsedSeconds"),
        ({"elapsedSeconds": 60}, "everyS"),
        ({**HOURLY, "every_s": 60}, "every_s"),
        ([], "object"),
    ],
    ids=str,
)
async def test_invalid_clock_is_refused_with_the_wrong_fields_name(publisher: Publisher, body: Any, field: str) -> None:
    answer = await publisher.editor.call("PUT", f"{publisher.campaign}/clock", body)

    assert answer.error == (400, "bad_request")
    assert field in answer.message
    assert (await publisher.viewer.get(publisher.campaign)).body["campaign"]["clock"] is None


async def test_user_can_run_only_so_many_clocks_and_still_change_them(publisher: Publisher) -> None:
    """Other users can set theirs."""
    paths = [f"{publisher.campaign}/clock"]
    for number in range(MAX_OF_A_USER):
        created = await publisher.owner.post("/v1/campaigns", {"name": f"Campaign {number}"})
        paths.append(f"/v1/campaigns/{created.body['campaign']['id']}/clock")

    allowed = [await publisher.owner.call("PUT", path, HOURLY) for path in paths[:MAX_OF_A_USER]]
    refused = await publisher.owner.call("PUT", paths[-1], HOURLY)
    changed = await publisher.owner.call("PUT", paths[0], {**HOURLY, "everyS": 30})
    others = await publisher.editor.call("PUT", paths[0], {**HOURLY, "everyS": 20})
    freed = await publisher.owner.call("PUT", paths[-1], HOURLY)

    assert [answer.status for answer in (*allowed, changed, others, freed)] == [200] * (MAX_OF_A_USER + 3)
    assert refused.error == (409, "conflict")
    assert f"{MAX_OF_A_USER} clocks" in refused.message


async def test_clock_of_a_deleted_campaign_is_404(publisher: Publisher) -> None:
    await publisher.owner.delete(publisher.campaign)

    assert (await publisher.editor.call("PUT", f"{publisher.campaign}/clock", HOURLY)).error == (404, "not_found")
    assert (await publisher.editor.delete(f"{publisher.campaign}/clock")).error == (404, "not_found")
