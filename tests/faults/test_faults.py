"""Real faults under load, and a checker over what every client did."""

from pathlib import Path

import pytest

from tests.faults.faults import FAULTS
from tests.faults.world import world

FOLLOWERS = 6
ROUNDS = {"gateways cut off by the broker": 1, "clients stuck": 1}
"""Of faults that take long."""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", FAULTS)
async def test_no_event_is_lost_repeated_or_reordered_through_faults(tmp_path: Path, name: str) -> None:
    # The ring is short, so that some resume from memory and some from the stream.
    async with world(tmp_path, settings={"BEACONFIRE_RING_AGE_S": "2"}) as one:
        for number in range(FOLLOWERS):
            one.follow(f"f{number}", *(("campaign:c1/settlement:s1",) if number % 3 == 2 else ()))
        await one.everybody_is_there()
        async with one.writing():
            await FAULTS[name](one, ROUNDS.get(name, 2))
        await one.publish(settlement="s1")  # the last event is one that all clients hear
        await one.settle()
        verdicts = await one.verdicts()

    assert {name: str(verdict) for name, verdict in verdicts.items() if not verdict.is_clean or verdict.told} == {}
    assert all(verdict.delivered > 0 for verdict in verdicts.values())
