"""Faults of gateways and connections, and a checker over what clients of every other way in received."""

from pathlib import Path

import pytest

from tests.faults.socketio_followers import SocketIOFollower
from tests.faults.ways_in import FAULTS, Fault, connections_cut, each_was_reached, other_ways, trouble_of

PYTHON = {"python-0", "python-sse-0", "python-poll-0"}
SOCKETIO = {"socketio-websocket-0", "socketio-polling-0", "socketio-upgrade-0"}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", FAULTS)
async def test_other_ways_in_lose_repeat_and_reorder_nothing_through_faults(tmp_path: Path, name: str) -> None:
    """The clients of Socket.IO are unmodified, and are recovered each time."""
    await bear(FAULTS[name], tmp_path)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("setting", ["BEACONFIRE_TRANSPORT=aiohttp", "BEACONFIRE_WORKERS=2"])
async def test_other_ways_in_lose_nothing_on_aiohttps_sockets_and_at_gateways_of_several_workers(
    tmp_path: Path, setting: str
) -> None:
    name, _, value = setting.partition("=")
    await bear(connections_cut, tmp_path, **{name: value})


async def bear(fault: Fault, folder: Path, **settings: str) -> None:
    """Do the damage to gateways with these settings. Fails the test if a client was harmed, or none was reached."""
    async with other_ways(folder, of_each=2, **settings) as (world, front):
        async with world.writing():
            await fault(world, front, 2)
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
        ("resume", SOCKETIO | {"sse-0", "poll-0", "plain-0", "plain-late-0"} | PYTHON),
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
