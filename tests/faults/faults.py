"""Damage a world while events flow. Each function returns when the damage is over. The world then recovers alone."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping

from tests.faults.relaying import relay_killed
from tests.faults.world import World

Fault = Callable[[World, int], Awaitable[None]]
"""(world, rounds)."""


async def gateways_killed(world: World, rounds: int) -> None:
    """A gateway killed -9 and started again, one after the other."""
    for number in range(rounds):
        gateway = world.gateways[number % len(world.gateways)]
        await world.written(30)
        gateway.kill()
        await world.written(30)
        await asyncio.to_thread(gateway.start)


async def gateways_replaced(world: World, rounds: int) -> None:
    """A rolling restart: each gateway is asked to end, and started again."""
    for number in range(rounds):
        gateway = world.gateways[number % len(world.gateways)]
        await world.written(30)
        gateway.terminate()
        await asyncio.to_thread(gateway.process.wait, 20)
        await asyncio.to_thread(gateway.start)


async def broker_killed(world: World, rounds: int) -> None:
    """The broker killed -9 and started again."""
    for _ in range(rounds):
        await world.written(30)
        world.nats.kill()
        await asyncio.to_thread(world.nats.start)
        await world.catch_up()


async def broker_frozen(world: World, rounds: int) -> None:
    """The broker's clock stopped for longer than its clients wait for an answer."""
    for _ in range(rounds):
        await world.written(30)
        world.nats.freeze()
        await asyncio.sleep(2.5)  # the fault itself
        world.nats.thaw()
        await world.catch_up()


async def gateways_frozen(world: World, rounds: int) -> None:
    """A gateway's clock stopped under load, while 60 events were published."""
    for number in range(rounds):
        gateway = world.gateways[number % len(world.gateways)].process
        await world.written(30)
        gateway.freeze()
        await world.written(60)
        gateway.thaw()
    await world.written(20)


async def gateways_cut_off(world: World, rounds: int) -> None:
    """A gateway's clock stopped until the broker, with more in store for it than it keeps, cuts it off."""
    for number in range(rounds):
        gateway = world.gateways[number % len(world.gateways)].process
        await world.written(30)
        gateway.freeze()
        before = world.nats.log_path.read_text().count(SLOW_CONSUMER)
        while world.nats.log_path.read_text().count(SLOW_CONSUMER) == before:
            # Large events in a campaign without followers: only the gateways hear them.
            await world.publish("c2", size=60_000)
        gateway.thaw()
        await world.written(20)


async def routes_cut(world: World, rounds: int) -> None:
    """A gateway's way to the broker cut, and closed for a while."""
    for number in range(rounds):
        route = world.routes[number % len(world.routes)]
        await world.written(30)
        route.refusing = True
        route.cut()
        await world.written(20)
        route.refusing = False
    await world.written(20)


async def bytes_swallowed(world: World, rounds: int) -> None:
    """Swallow the bytes from a gateway to the broker without closing the connection."""
    for number in range(rounds):
        route = world.routes[number % len(world.routes)]
        await world.written(30)
        route.swallowed.clear()
        route.swallow = lambda _chunk: True
        await route.swallowed.wait()
        await world.written(60)
        route.swallow = lambda _chunk: False
    await world.written(20)


async def clients_away(world: World, rounds: int) -> None:
    """Cut all connections at once without a close frame, and keep clients offline for two seconds."""
    for _ in range(rounds):
        connects = [follower.connects for follower in world.followers]
        for follower in world.followers:
            follower.reset(offline_s=AWAY_S)
        for follower, before in zip(world.followers, connects, strict=True):
            await follower.connected(before + 1)
        await world.written(20)


async def clients_reset(world: World, rounds: int) -> None:
    """Cut connections without a close frame, again and again, each client at its own time."""
    for _ in range(rounds * 10):
        random.choice(world.followers).reset()
        await world.written(5)


async def clients_stuck(world: World, rounds: int) -> None:
    """Every third client reads nothing while large events pour in, until its gateway writes no more to it; the others
    have all of it. Then it reads again."""
    stuck = world.followers[1::3]
    for _ in range(rounds):
        await world.written(20)
        for follower in stuck:
            follower.reads.clear()
        lagging = await world.figure("beaconfire_gateway_slow_sessions_total") + len(stuck)
        while await world.figure("beaconfire_gateway_slow_sessions_total") < lagging:
            for _ in range(20):
                last = await world.publish(settlement="s1", size=60_000)  # one that all clients hear
        await asyncio.gather(*(follower.reach(last) for follower in world.followers if follower not in stuck))
        for follower in stuck:
            follower.reads.set()
        await asyncio.gather(*(follower.reach(last) for follower in stuck))


AWAY_S = 2.0
SLOW_CONSUMER = "Slow Consumer Detected"
"""The line in nats-server's log when it drops a connection that does not read."""

FAULTS: Mapping[str, Fault] = {
    "gateways killed -9": gateways_killed,
    "gateways replaced (SIGTERM)": gateways_replaced,
    "broker killed -9": broker_killed,
    "broker frozen": broker_frozen,
    "gateways frozen": gateways_frozen,
    "gateways cut off by the broker": gateways_cut_off,
    "routes cut": routes_cut,
    "relay killed -9": relay_killed,
    "bytes swallowed": bytes_swallowed,
    "clients cut off": clients_reset,
    "clients away for 2 s": clients_away,
    "clients stuck": clients_stuck,
}
