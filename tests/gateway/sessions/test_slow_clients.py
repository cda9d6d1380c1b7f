"""The cost of a client that reads nothing (X3): real sockets, a flood, and the gateway's memory for each."""

import asyncio
import gc
import json
import time
import tracemalloc
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.ring import Ring
from beaconfire_gateway.fanout.route import Route
from beaconfire_gateway.process.app import Tuning
from beaconfire_gateway.sessions.gateway import Gateway as Core
from beaconfire_gateway.sessions.session import Session, State
from beaconfire_gateway.wire.messages import Degraded
from beaconfire_gateway.wire.websocket_frames import Opcode
from beaconfire_kit.subjects import Pair
from tests.client import open_socket
from tests.cursors import cursor_of
from tests.fakes import FakeAuth
from tests.gateway.conftest import running_gateway, settlement
from tests.gateway.connections import connections, shrink
from tests.gateway.core import ENDS, SUBSCRIPTION, VERBATIM, Empty, connect, heard_by, open_connection
from tests.gateway.slow_clients import Stuck, flood
from tests.websocket import RawSocket, client_frame, raw_socket

STUCK = 50
CEILING = 262_144
"""The most bytes that one client may take in the gateway (the default of `max_buffer_bytes`), without the kernel's
buffers."""


@pytest.mark.parametrize(("count", "fields"), [(2_000, 1), (100, 60)])
async def test_fifty_clients_that_read_nothing_take_at_most_256_kib_each(
    stream: NatsServer, auth: FakeAuth, count: int, fields: int
) -> None:
    """Behind them is a number, not a queue, in many small events as in few large ones.

    A client that reads has every event.
    """
    settings = {"ring_bytes": 1_048_576, "max_sessions_per_user": STUCK, "ring_age_s": 1}
    async with running_gateway(stream, auth, **settings) as gateway, AsyncExitStack() as stack:
        stuck = [Stuck() for _ in range(STUCK)]
        for one in stuck:
            stack.callback(one.close)
            await one.connect(gateway, "viewer")
        theirs = connections("viewer")
        for connection in theirs:
            shrink(connection)
        reader = await stack.enter_async_context(open_socket(gateway.url))
        await reader.connect(auth.token("owner"), ["campaign:c1"])
        tracemalloc.start(1)
        before = tracemalloc.get_traced_memory()[0]
        last = await flood(gateway, count, fields)
        heard = 0
        while (await reader.next("event"))["offset"] != last:
            heard += 1
            reader.forget()
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        states = {connection.state for connection in theirs}
        buffered = [connection._sockets.waiting(connection.target) for connection in theirs]
        outbound = theirs[0].gateway.outbound
        sent = outbound.frames_sent
        for number in range(50):
            await gateway.publish(settlement(f"more{number}"))
        await reader.events(50)
        sent = outbound.frames_sent - sent
        added = max(connection._sockets.waiting(connection.target) for connection in theirs) - max(buffered)

    assert (len(theirs), states, heard) == (STUCK, {State.CATCHING_UP}, count)
    assert max(buffered) <= CEILING * 5 / 8
    assert taken / STUCK <= CEILING
    assert sent == 50  # the reader's alone
    assert added < 1_000  # no event: a word about a slow broker at most


async def test_client_that_falls_further_and_further_behind_gets_resync_and_is_live_again(
    stream: NatsServer, auth: FakeAuth
) -> None:
    async with (
        running_gateway(stream, auth, Tuning(losing_s=0.0), max_buffer_bytes=16_384) as gateway,
        raw_socket(gateway.url) as slow,
    ):
        hello = {"type": "connect", "id": 1, "token": auth.token("viewer"), "rooms": ["campaign:c1"]}
        slow.write(client_frame(json.dumps(hello).encode()))
        await slow.frame()
        (connection,) = connections("viewer")
        last = await flood(gateway, 200, 60)
        while connection.state is not State.CATCHING_UP:
            await asyncio.sleep(0.02)
        while (frame := json.loads((await slow.frame())[1]))["type"] != "resync":
            pass
        await read_until_live(slow, connection, frame, last)
        live = await gateway.publish(settlement("after"))
        while (event := json.loads((await slow.frame())[1])).get("offset", 0) < live:
            pass
        _, seen = await gateway.sessions(("user", "viewer"))

    began = seen["sessions"][0]["rooms"][0]["began"]
    assert (frame["rooms"], frame["reason"]) == (["campaign:c1"], "too_slow")
    assert [one["how"] for one in began][:2] == ["joined", "resync"]
    assert cursor_of(frame["cursor"]).offset in [one["after"] for one in began]
    assert cursor_of(frame["cursor"]).offset <= last
    assert event["offset"] == live


async def test_client_that_neither_reads_nor_answers_is_dropped_by_the_heartbeat_and_nothing_of_it_stays(
    stream: NatsServer, auth: FakeAuth
) -> None:
    settings = {"heartbeat_s": 1, "max_buffer_bytes": 16_384}
    async with running_gateway(stream, auth, **settings) as gateway, open_socket(gateway.url) as reader:
        stuck = Stuck()
        await stuck.connect(gateway, "viewer")
        await reader.connect(auth.token("owner"), ["campaign:c1"])
        (connection,) = connections("viewer")
        session: Session = connection
        sockets, descriptor = connection._sockets, connection.target
        await flood(gateway, 100, 60)
        while session.state is not State.CLOSED:
            await reader.next("event", "position")
        live = await gateway.publish(settlement("after"))
        while (heard := await reader.next("event"))["offset"] < live:
            pass
        stuck.close()

    assert not sockets.is_open(descriptor)
    assert sockets.waiting(descriptor) == 0
    assert heard["offset"] == live
    assert [frame["type"] for frame in reader.frames].count("event") == 102


async def test_client_with_a_full_socket_before_its_ack_starts_behind_and_gets_everything_later(core: Core) -> None:
    connection = open_connection(core)
    shrink(connection)
    end, outbound = ENDS[-1], core.outbound
    pings = client_frame(b"p" * 100, Opcode.PING) * 100
    hello = {"type": "connect", "id": 1, "token": "u", "rooms": ["campaign:c1"]}
    connection.data_received(pings + client_frame(json.dumps(hello).encode()))
    while not connection.rooms:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting, states = connection._sockets.waiting(connection.target), [connection.state]
    for offset in (1, 2, 3):
        deliver(core, offset, b"event %d" % offset)
    outbound.drain()
    waiting_then, heard = connection._sockets.waiting(connection.target), b""
    async with asyncio.timeout(10):
        while connection.state is not State.LIVE:
            await asyncio.sleep(0)
            heard += heard_by(end)

    assert waiting > 0
    assert waiting_then == waiting
    assert states == [State.CATCHING_UP]
    assert heard.index(b"connection.ack") < heard.index(b"event 1event 2event 3")


async def test_messages_to_a_session_come_before_what_it_catches_up_with(slicing_core: Core) -> None:
    slow, *others = await connect(slicing_core, 3)
    shrink(slow)
    end, heard = ENDS[-3], b""
    deliver(slicing_core, 1, b"event 1".rjust(10_000))
    for one in (*others * 20, slow):
        one.send(Degraded("a word"))
    await asyncio.sleep(0)
    states = [slow.state]
    for one in (*others * 20, slow):
        one.send(Degraded("another"))
    deliver(slicing_core, 2, b"event 2")
    async with asyncio.timeout(10):
        while b"event 2" not in heard:
            await asyncio.sleep(0)
            heard += heard_by(end)

    assert states == [State.CATCHING_UP]
    assert heard[heard.index(b"event 1") :].startswith(
        b"event 1" + b"".join(map(VERBATIM.encode, (Degraded("a word"), Degraded("another"))))
    )


async def test_position_never_passes_a_resync_that_waits_for_its_turn(slicing_core: Core) -> None:
    """A client that had the position alone would resume from there, and never learn what it missed."""
    slow, *_ = await connect(slicing_core, 3)
    end = ENDS[-3]
    heard_by(end)
    slicing_core.losing_s = 0.0
    deliver(slicing_core, 1, b"event 1")
    slow.resume(0)
    assert slow.behind is not None
    slow.behind.step()
    heard = b""
    async with asyncio.timeout(10):
        while not (b"position" in heard and b"resync" in heard):
            await asyncio.sleep(0)
            heard += heard_by(end)

    assert heard.index(b"resync") < heard.index(b"position")


async def test_resync_of_a_new_session_is_written_with_its_ack_however_much_is_queued(slicing_core: Core) -> None:
    """A client that had the ack alone would resume from its cursor, and never learn what it missed."""
    await connect(slicing_core, 10)
    connection = open_connection(slicing_core)
    hello = {"type": "connect", "id": 1, "token": "u", "rooms": ["campaign:c1"], "cursor": "another:7"}
    deliver(slicing_core, 1, b"event 1")
    connection.data_received(client_frame(json.dumps(hello).encode()))
    while connection.state is State.CONNECTING:
        await asyncio.sleep(0)
    is_queued, heard = slicing_core.outbound.settled < slicing_core.position, heard_by(ENDS[-1])

    assert is_queued
    assert -1 < heard.find(b"connection.ack") < heard.find(b"resync")


async def test_message_to_a_session_comes_before_the_history_that_is_read_meanwhile(slicing_core: Core) -> None:
    slicing_core.history = history = Slow()
    slow, *_ = await connect(slicing_core, 3)
    end, heard = ENDS[-3], b""
    heard_by(end)
    slicing_core.begin("", 5)
    slow.resume(2)
    await history.asked.wait()
    deliver(slicing_core, 6, b"event 6")
    slow.send(Degraded("a word"))
    history.answer.set()
    async with asyncio.timeout(10):
        while b"event 6" not in heard:
            await asyncio.sleep(0)
            heard += heard_by(end)

    assert heard.index(b"a word") < heard.index(b"event 3") < heard.index(b"event 6")


class Slow(Empty):
    """A history that answers when the test says so: one event, and nothing up to the ring."""

    def __init__(self) -> None:
        self.asked, self.answer = asyncio.Event(), asyncio.Event()

    async def page(self, _roots: Iterable[Pair], after: int, _ring: Ring) -> tuple[Sequence[Entry], int]:
        self.asked.set()
        await self.answer.wait()
        return [entry_of(3, b"event 3")] if after < 3 else [], 5


async def test_session_whose_socket_is_full_when_it_would_go_live_stays_behind(core: Core) -> None:
    [connection] = await connect(core, 1)
    connection.resume(0)
    connection.write(b"r" * 1_000_000)
    connection.go_live()

    assert connection.is_full
    assert connection.state is State.CATCHING_UP


async def read_until_live(client: RawSocket, connection: Session, frame: dict[str, Any], last: int) -> None:
    """Read on after `frame`, until the client has everything up to `last` and is live.

    As long as it is behind, another resync may cover an event that is published now. That event never comes then.
    """
    while connection.state is not State.LIVE or place_of(frame) < last:
        frame = json.loads((await client.frame())[1])


def place_of(frame: dict[str, Any]) -> int:
    """The offset up to which a client has everything that read this event, position or resync."""
    return int(frame["offset"]) if "offset" in frame else cursor_of(frame["cursor"]).offset


def deliver(core: Core, offset: int, frame: bytes) -> None:
    """Deliver an event to the room that every client is in. It is written in following turns."""
    entry = entry_of(offset, frame)
    core.ring.append(entry)
    core.outbound.put(offset, entry)
    core.position = offset
    core.outbound.delivered(offset)


def entry_of(offset: int, frame: bytes) -> Entry:
    """An event of the room that every client is in."""
    return Entry(offset, Route("campaign.c1.state", (SUBSCRIPTION.room,)), frame, time.monotonic(), type="t")
