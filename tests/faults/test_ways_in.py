"""Faults of gateways and connections, and a checker over what unmodified clients of every other way in received."""

from pathlib import Path

import pytest

from tests.faults.socketio_followers import SocketIOFollower
from tests.faults.ways_in import FAULTS, other_ways, trouble_of


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", FAULTS)
async def test_other_ways_in_lose_repeat_and_reorder_nothing_through_faults(tmp_path: Path, name: str) -> None:
    async with other_ways(tmp_path, of_each=2) as (world, front):
        async with world.writing():
            await FAULTS[name](world, front, 2)
        await world.publish(settlement="s1")  # the last event is one that all clients hear
        await world.settle()
        verdicts = await world.verdicts()
        trouble = {one.name: found for one in world.listeners if (found := trouble_of(one))}
        upgrades = [one.upgrades for one in world.listeners if isinstance(one, SocketIOFollower) and len(one.way) > 1]

    assert {name: str(verdict) for name, verdict in verdicts.items() if not verdict.is_clean or verdict.told} == {}
    assert trouble == {}
    assert all(verdict.delivered > 0 for verdict in verdicts.values())
    assert all(count > 0 for count in upgrades)
