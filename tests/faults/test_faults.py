"""Real faults under load, and a checker over what every client did: nothing lost, nothing twice, nothing out of order.

`make faults` runs the same for longer and prints a report.
"""

from pathlib import Path

import pytest

from tests.faults.faults import FAULTS
from tests.faults.world import world

FOLLOWERS = 6
ROUNDS = {"gateways cut off by the broker": 1}
"""Of a fault that takes long."""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", FAULTS)
async def test_nothing_lost(tmp_path: Path, name: str) -> None:
    """Whatever is done to a part, every client ends up with every event of its rooms, once, in order."""
    # The ring is short, so that some resume from memory and some from the stream.
    async with world(tmp_path, settings={"BEACONFIRE_RING_AGE_S": "2"}) as one:
        for number in range(FOLLOWERS):
            one.follow(f"f{number}", *(("campaign:c1/settlement:s1",) if number % 3 == 2 else ()))
        await one.everybody_is_there()
        async with one.writing():
            await FAULTS[name](one, ROUNDS.get(name, 2))
        await one.publish(settlement="s1")  # the last event is one that everybody hears
        await one.settle()
        verdicts = await one.verdicts()

    assert {name: str(verdict) for name, verdict in verdicts.items() if not verdict.is_clean or verdict.told} == {}
    assert all(verdict.delivered > 0 for verdict in verdicts.values())


@pytest.mark.timeout(120)
async def test_slow_and_stuck_clients(tmp_path: Path) -> None:
    """A client that reads slowly is caught up, one that does not read is no burden; nobody else notices."""
    settings = {"BEACONFIRE_RING_BYTES": "1048576", "BEACONFIRE_MAX_BUFFER_BYTES": "65536"}
    async with world(tmp_path, gateways=1, settings=settings) as one:
        quick = [one.follow(f"quick{number}") for number in range(3)]
        slow = [one.follow(f"slow{number}", reads_every_s=3600) for number in range(2)]
        await one.everybody_is_there()
        async with one.writing(pause_s=0.005, size=60_000):
            await one.written(200)
        last = max(one.acknowledged)
        for follower in quick:
            await follower.reach(last)
        behind = [follower.offset for follower in slow]
        for follower in slow:
            follower.hurry.set()
        await one.settle()
        verdicts = await one.verdicts()

    assert max(behind) < last, "the slow ones were never behind: the test shows nothing"
    assert {name: str(verdict) for name, verdict in verdicts.items() if not verdict.is_clean or verdict.told} == {}
