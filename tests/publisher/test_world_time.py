"""World time over HTTP, with its events as a gateway receives them."""

import asyncio
from pathlib import Path

from tests.databases import execute, on_both_databases
from tests.publisher.conftest import Publisher

pytestmark = on_both_databases


async def test_advancing_world_time_answers_and_publishes_both_times(publisher: Publisher) -> None:
    answer = await publisher.editor.post(f"{publisher.campaign}/world-time", {"advanceSeconds": 90_000})
    told = await publisher.heard.told()
    campaign = answer.body["campaign"]

    assert answer.status == 200
    assert answer.body["previousTime"] == "1000-01-01T08:00:00Z"
    assert (campaign["worldTime"], campaign["revision"], campaign["role"]) == ("1000-01-02T09:00:00Z", 2, "editor")
    assert (await publisher.viewer.get(publisher.campaign)).body["campaign"]["worldTime"] == campaign["worldTime"]
    assert told == {
        "type": "world_time_changed",
        "campaignId": publisher.campaign_id,
        "previousTime": "1000-01-01T08:00:00Z",
        "newTime": "1000-01-02T09:00:00Z",
        "elapsedSeconds": 90_000,
    }


async def test_twenty_simultaneous_advances_add_up_without_gaps_between_events(publisher: Publisher) -> None:
    path = f"{publisher.campaign}/world-time"

    await asyncio.gather(*(publisher.insist("POST", path, {"advanceSeconds": 3600}) for _ in range(20)))
    told = [await publisher.heard.told() for _ in range(20)]
    campaign = (await publisher.viewer.get(publisher.campaign)).body["campaign"]

    assert campaign["worldTime"] == told[-1]["newTime"] == "1000-01-02T04:00:00Z"
    assert [one["previousTime"] for one in told[1:]] == [one["newTime"] for one in told[:-1]]


async def test_world_time_cannot_be_advanced_beyond_the_year_9999(publisher: Publisher, tmp_path: Path) -> None:
    execute(tmp_path, "publisher", "UPDATE campaigns SET world_time = '9999-12-31 00:00:00.000000'")
    path = f"{publisher.campaign}/world-time"

    beyond = await publisher.editor.post(path, {"advanceSeconds": 86_400})
    last = await publisher.editor.post(path, {"advanceSeconds": 86_399})

    assert beyond.error == (409, "conflict")
    assert last.body["campaign"]["worldTime"] == "9999-12-31T23:59:59Z"
