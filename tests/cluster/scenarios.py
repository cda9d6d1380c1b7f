"""Damage a cluster while events flow. Each function returns when the damage is over. The world then recovers alone."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping

from tests.cluster.brokers import SIZE
from tests.cluster.world import ClusterWorld

Scenario = Callable[[ClusterWorld, int], Awaitable[None]]
"""(world, rounds)."""


async def leader_killed(world: ClusterWorld, rounds: int) -> None:
    """The stream's leader killed -9, and started again once another one leads."""
    for _ in range(rounds):
        await world.written(30)
        leader = await world.brokers.leader()
        world.brokers.servers[leader].kill()
        await world.written(30)
        await world.brokers.start(leader)
    await world.written(20)


async def leader_frozen(world: ClusterWorld, rounds: int) -> None:
    """The leader's clock stopped until another one leads; then it wakes up, and believes that it still does."""
    for _ in range(rounds):
        await world.written(30)
        leader = world.brokers.servers[await world.brokers.leader()]
        leader.freeze()
        await world.written(30)
        leader.thaw()
        await world.brokers.level()
    await world.written(20)


async def follower_frozen(world: ClusterWorld, rounds: int) -> None:
    """A follower's clock stopped; clients resume from beyond the ring, while it stands still and just after."""
    await world.written(10)
    for _ in range(rounds):
        cursor = world.cursor
        await world.written(150)
        follower = world.brokers.servers[await world.brokers.follower()]
        follower.freeze()
        resuming = [world.newcomer(since=cursor) for _ in range(SIZE)]
        await world.written(50)
        follower.thaw()
        resuming += [world.newcomer(since=cursor) for _ in range(SIZE)]
        await world.everybody_is_there()
        await world.brokers.level()


async def routes_cut(world: ClusterWorld, rounds: int) -> None:
    """All routes cut for an instant; then those between the leader and a follower for as long as ten events take."""
    for _ in range(rounds):
        world.brokers.cut()
        await world.written(30)
        a, b = await world.brokers.leader(), await world.brokers.follower()
        world.brokers.cut([(a, b), (b, a)], refusing=True)
        await world.written(10)
        world.brokers.mend()
        await world.brokers.level()
    await world.written(20)


async def jitter(world: ClusterWorld, rounds: int) -> None:
    """20 to 50 ms on every route, never the same, while clients join."""
    for route in world.brokers.routes.values():
        route.delay_s = lambda: random.uniform(0.02, 0.05)
    for _ in range(rounds * 5):
        world.newcomer()
        await world.written(5)
    await world.everybody_is_there()
    world.brokers.mend()


async def two_killed(world: ClusterWorld, rounds: int) -> None:
    """Kill two of three, so that no event can be written. Clients get `degraded`, stay, and miss nothing."""
    for _ in range(rounds):
        await world.written(20)
        for follower in world.followers:
            follower.states.clear()
        gone = random.sample(range(SIZE), 2)
        for number in gone:
            world.brokers.servers[number].kill()
        await world.told("degraded")
        await world.brokers.start(*gone)
        await world.told("degraded", "live")
    await world.written(20)


async def all_killed(world: ClusterWorld, rounds: int) -> None:
    """All three killed -9 at once, and started again."""
    for _ in range(rounds):
        await world.written(20)
        for server in world.brokers.servers:
            server.kill()
        await world.brokers.start(*range(SIZE))
    await world.written(20)


async def steps_down(world: ClusterWorld, rounds: int) -> None:
    """The leader hands over in order, again and again."""
    for _ in range(rounds * 4):
        await world.written(10)
        await world.brokers.step_down()
    await world.written(20)


async def rolling_restart(world: ClusterWorld, rounds: int) -> None:
    """One server after the other ended in order and started again, the next once all are level."""
    for number in range(SIZE * rounds):
        await world.written(20)
        await asyncio.to_thread(world.brokers.servers[number % SIZE].stop)
        await world.brokers.start(number % SIZE)
    await world.written(20)


SCENARIOS: Mapping[str, Scenario] = {
    "leader killed -9": leader_killed,
    "leader frozen": leader_frozen,
    "follower frozen, resumes": follower_frozen,
    "routes between brokers cut": routes_cut,
    "jitter, clients join": jitter,
    "two of three killed": two_killed,
    "all three killed": all_killed,
    "orderly step-downs": steps_down,
    "rolling restart": rolling_restart,
}
