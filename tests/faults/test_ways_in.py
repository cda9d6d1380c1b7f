"""Faults of gateways and connections, and a checker over what clients of every other way in received."""

from pathlib import Path

import pytest

from tests.faults.socketio_followers import SocketIOFollower
from tests.faults.ways_in import FAULTS, each_was_reached, other_ways, trouble_of

SOCKETIO = {"socketio-websocket-0", "socketio-polling-0", "socketio-upgrade-0"}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", FAULTS)
async def test_other_ways_in_lose_repeat_and_reorder_nothing_through_faults(tmp_path: Path, name: str) -> None:
    """The clients of Socket.IO are unmodified, and are recovered each time."""
    async with other_ways(tmp_path, of_each=2) as (world, front):
        async with world.writing():
            await FAULTS[name](world, front, 2)
        await world.publish(settlement="s1")  # the last event is one that all clients hear
        await world.settle()
        verdicts = await world.verdicts()
        trouble = {one.name: found for one in world.listeners if (found := trouble_of(one))}
        unharmed = [one.name for one in world.listeners if one.connects == 1]
        upgrades = [one.upgrades for one in world.listeners if isinstance(one, SocketIOFollower) and len(one.way) > 1]

    assert {name: str(verdict) for name, verdict in verdicts.items() if not verdict.is_clean or verdict.told} == {}
    assert trouble == {}
    assert unharmed == []
    assert all(verdict.delivered > 0 for verdict in verdicts.values())
    assert all(count > 0 for count in upgrades)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("sabotage", "harmed"),
    [
        ("resume", SOCKETIO | {"sse-0", "poll-0", "plain-0", "plain-late-0"}),
        ("records", SOCKETIO),
    ],
)
async def test_checker_finds_losses_of_gateways_that_recover_the_wrong_place_or_rooms(
    tmp_path: Path, sabotage: str, harmed: set[str]
) -> None:
    """On each way that needs what was switched off, and on no other."""
    async with other_ways(tmp_path, of_each=1, sabotage=sabotage) as (world, front):
        async with world.writing():
            while not each_was_reached(world):
                await world.written(30)
                front.cut()
            await world.written(200)
        await world.publish(settlement="s1")
        await world.settle(timeout_s=3)
        verdicts = await world.verdicts()

    assert {name for name, verdict in verdicts.items() if verdict.lost} == harmed
