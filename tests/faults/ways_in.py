"""Damage gateways and connections while clients of every other way in follow them, and the Python client.

All clients connect through one load balancer without sticky sessions, so their requests arrive at any gateway.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from tests.faults import http_followers, report, socketio_followers
from tests.faults.checker import Verdict
from tests.faults.http_followers import EventStreamFollower, HttpFollower, PollFollower
from tests.faults.listener import Listener
from tests.faults.plain_followers import LatePlainFollower, PlainFollower
from tests.faults.python_followers import PythonEventStreamFollower, PythonFollower, PythonPollFollower
from tests.faults.report import Section
from tests.faults.socketio_followers import SocketIOFollower
from tests.faults.world import ROOT, World, world
from tests.front import Front

Fault = Callable[[World, Front, int], Awaitable[None]]
"""(world, front, rounds). When it returns, every client has had all events up to the end of the fault."""

SETTINGS = {
    # Short, so that some resume from a gateway's memory and some from the stream.
    "BEACONFIRE_RING_AGE_S": "2",
    # Clients notice a dead connection after two of these.
    "BEACONFIRE_HEARTBEAT_S": "2",
    "BEACONFIRE_PLAIN_PING_S": "2",
    "BEACONFIRE_PLAIN_DEAD_AFTER_S": "4",
}
SOCKETIO_WAYS = {
    "websocket": ("websocket",),
    "polling": ("polling",),
    "upgrade": ("polling", "websocket"),
}
WAYS = {
    "socketio-websocket": "Socket.IO over a WebSocket",
    "socketio-polling": "Socket.IO over polling",
    "socketio-upgrade": "Socket.IO, from polling to a WebSocket",
    "sse": "server-sent events",
    "poll": "long polling",
    "plain": "the plain protocol",
    "plain-late": "the plain protocol, subscribed after the ack",
    "python": "the Python client over a WebSocket",
    "python-sse": "the Python client over server-sent events",
    "python-poll": "the Python client over long polling",
}
"""By the start of the names of their clients, for people."""
STORED = "beaconfire_gateway_socketio_records_stored_total"
FOLLOWERS: Mapping[str, Callable[[str, frozenset[str]], HttpFollower | PythonFollower]] = {
    "sse": EventStreamFollower,
    "poll": PollFollower,
    "plain": PlainFollower,
    "plain-late": LatePlainFollower,
    "python": PythonFollower,
    "python-sse": PythonEventStreamFollower,
    "python-poll": PythonPollFollower,
}
ROOMS = (frozenset({ROOT}), frozenset({f"{ROOT}/settlement:s1"}))


async def gateways_killed(world: World, front: Front, rounds: int) -> None:
    """A gateway killed -9, one after the other. Its clients go on at the other one."""
    for number in range(rounds):
        gateway = world.gateways[number % len(world.gateways)]
        await world.written(30)
        gateway.kill()
        await world.catch_up()
        await asyncio.to_thread(gateway.start)


async def gateways_drained(world: World, front: Front, rounds: int) -> None:
    """A rolling restart: each gateway is asked to end, and started again."""
    for number in range(rounds):
        index = number % len(world.gateways)
        gateway = world.gateways[index]
        await world.written(30)
        front.left_out.add(index)
        gateway.terminate()
        await asyncio.to_thread(gateway.process.wait, 20)
        await world.catch_up()
        await asyncio.to_thread(gateway.start)
        front.left_out.discard(index)


async def gateways_frozen(world: World, front: Front, rounds: int) -> None:
    """A gateway's clock stopped until its clients have gone to the other one. Then it goes on, with dead sockets."""
    for number in range(rounds):
        index = number % len(world.gateways)
        gateway = world.gateways[index].process
        await world.written(30)
        front.left_out.add(index)
        gateway.freeze()
        await world.catch_up()
        gateway.thaw()
        front.left_out.discard(index)
        await world.written(20)


async def broker_and_gateways_killed(world: World, front: Front, rounds: int) -> None:
    """The only broker killed -9, and soon after its return a gateway. Its clients' records are of the new broker."""
    for number in range(rounds):
        gateway = world.gateways[number % len(world.gateways)]
        await world.written(30)
        stored = await world.figure(STORED)
        world.nats.kill()
        await asyncio.to_thread(world.nats.start)
        await world.catch_up()
        sessions = sum(isinstance(one, SocketIOFollower) for one in world.listeners)
        while await world.figure(STORED) < stored + sessions:
            await world.written(1)
        gateway.kill()
        await world.catch_up()
        await asyncio.to_thread(gateway.start)


async def bytes_swallowed(world: World, front: Front, rounds: int) -> None:
    """All bytes of the connections lost in both directions, and no connection closed."""
    while rounds > 0 or not each_was_reached(world):
        rounds -= 1
        await world.written(30)
        front.swallow()
        await world.catch_up()


async def connections_cut(world: World, front: Front, rounds: int) -> None:
    """All connections cut again and again while events pour in: clients recover and upgrade in the middle of them."""
    left = rounds * 3
    while left > 0 or not each_was_reached(world):
        left -= 1
        await world.written(30)
        front.cut()
        await world.catch_up()


def each_was_reached(world: World) -> bool:
    """Whether each client has lost a connection. One that polls has none for moments, and may be lucky."""
    return min(one.connects for one in world.listeners) > 1


FAULTS: Mapping[str, Fault] = {
    "gateways killed -9": gateways_killed,
    "gateways drained (SIGTERM)": gateways_drained,
    "gateways frozen": gateways_frozen,
    "broker, then gateways killed -9": broker_and_gateways_killed,
    "bytes swallowed": bytes_swallowed,
    "connections cut in a burst": connections_cut,
}


@asynccontextmanager
async def other_ways(
    folder: Path, *, of_each: int, sabotage: str = "", **settings: str
) -> AsyncIterator[tuple[World, Front]]:
    """A world whose clients come in on every other way, `of_each` on each. `sabotage` is as in `world`."""
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(world(folder, settings={**SETTINGS, **settings}, sabotage=sabotage))
        front = await stack.enter_async_context(Front([gateway.port for gateway in one.gateways]).running())
        socketio = [
            SocketIOFollower(f"socketio-{name}-{number}", ROOMS[number % len(ROOMS)], way)
            for number in range(of_each)
            for name, way in SOCKETIO_WAYS.items()
        ]
        others = [
            kind(f"{name}-{number}", ROOMS[number % len(ROOMS)])
            for number in range(of_each)
            for name, kind in FOLLOWERS.items()
        ]
        for follower in (*socketio, *others):
            one.listen(follower)
        tokens = {follower.name: one.auth.token(follower.name, ttl_s=3600) for follower in one.listeners}
        await stack.enter_async_context(socketio_followers.running(socketio, front.url, tokens, id_of=one.id_of))
        await stack.enter_async_context(http_followers.running(others, front.url, tokens))
        await one.everybody_is_there()
        yield one, front


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a fault did to the clients of every other way in, by the way."""

    verdicts: Mapping[str, Sequence[Verdict]]
    back_s: Mapping[str, Sequence[float]]
    trouble: Sequence[str]
    events: int
    took_s: float

    @property
    def every_verdict(self) -> list[Verdict]:
        return [verdict for verdicts in self.verdicts.values() for verdict in verdicts]

    @property
    def is_clean(self) -> bool:
        """Whether no client lost an event, or had it twice, or out of order, and none was refused or started over."""
        return not self.trouble and all(one.is_clean and not one.told for one in self.every_verdict)


async def run(name: str, *, rounds: int, of_each: int) -> Outcome:
    """One fault, while events are written."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        async with other_ways(Path(folder), of_each=of_each) as (one, front):
            async with one.writing():
                await FAULTS[name](one, front, rounds)
            await one.publish(settlement="s1")  # the last event is one that all clients hear
            await one.settle()
            verdicts = await one.verdicts()
            return Outcome(
                verdicts={way: [verdicts[f"{way}-{number}"] for number in range(of_each)] for way in WAYS},
                back_s={way: _back_s(one.listeners, way) for way in WAYS},
                trouble=[f"{client.name}: {found}" for client in one.listeners for found in trouble_of(client)],
                events=len(one.acknowledged),
                took_s=time.monotonic() - began,
            )


def sections(outcomes: Mapping[str, Outcome], *, rounds: int, of_each: int) -> list[Section]:
    """The results of each fault, and of each way in over all faults."""
    columns = ["deliveries", *report.DAMAGE.values(), "back p50", "back p95"]
    by_fault = [
        [
            name,
            f"{one.events:,}",
            *_figures(one.every_verdict, list(chain(*one.back_s.values()))),
            f"{one.took_s:.0f} s",
        ]
        for name, one in outcomes.items()
    ]
    by_way = [
        [
            WAYS[way],
            *_figures(
                [verdict for one in outcomes.values() for verdict in one.verdicts[way]],
                [back for one in outcomes.values() for back in one.back_s[way]],
            ),
        ]
        for way in WAYS
    ]
    title = (
        f"Socket.IO, server-sent events, long polling, the plain protocol and the Python client, each fault {rounds} x"
    )
    return [
        Section(f"{title}, {of_each * len(WAYS)} clients", ["fault", "events", *columns, "took"], by_fault),
        Section("The same, all faults together", ["way in", *columns], by_way),
    ]


def _figures(verdicts: Sequence[Verdict], back_s: Sequence[float]) -> list[str]:
    return [*report.counts(verdicts), *report.quantiles(back_s, 0.5, 0.95)]


def _back_s(listeners: Sequence[Listener], way: str) -> list[float]:
    return [back for one in listeners if one.name.rpartition("-")[0] == way for back in one.back_after_s]


def trouble_of(listener: Listener) -> list[str]:
    """What a client met that no fault explains: refusals, and connections after which it had to start over."""
    found = list(listener.problems)
    if isinstance(listener, SocketIOFollower) and listener.recoveries < listener.connects - 1:
        found.append(f"recovered {listener.recoveries} of {listener.connects - 1} times, lost by {listener.lost}")
    return found
