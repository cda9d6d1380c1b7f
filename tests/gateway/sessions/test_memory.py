"""What a session costs in objects. These tests count objects and take no times."""

import asyncio
import gc
import sys
import time
from itertools import pairwise
from typing import Any

import pytest

from beaconfire_gateway.fanout.ring import Entry
from beaconfire_gateway.fanout.route import Route
from beaconfire_gateway.sessions.context import Context
from beaconfire_gateway.sessions.session import Session, State
from beaconfire_gateway.transports.websocket import MAX_AFTER_CLOSE_BYTES, PIECE_BYTES
from beaconfire_gateway.wire import protocol
from beaconfire_gateway.wire.websocket_frames import FrameReader, Opcode
from beaconfire_kit.subjects import RoomKey
from tests.gateway.core import C1, close_ends, connect, open_connection, written
from tests.websocket import client_frame


async def test_objects_of_a_session(context: Context[Session]) -> None:
    """An idle session in one room is few objects, no task and no timer of its own: ten thousand must be cheap."""
    kept = await connect(context, 1)  # and all that is made once
    gc.collect()
    before = len(gc.get_objects())
    kept += await connect(context, 100)
    context.users.forget(time.monotonic() + 3600)
    context.wheel.turn(20)  # past the deadline for connect
    gc.collect()
    objects = (len(gc.get_objects()) - before) / 100

    # The session, its rooms, claims; an allowance as long as something was taken, and one of its user.
    assert round(objects) <= 5
    assert len(asyncio.all_tasks()) == 1


async def test_missed_in_memory_once(context: Context[Session]) -> None:
    """Who comes back to the same rooms with the same cursor is written the very same bytes."""
    context.epoch, context.position = "e", 3
    context.outbound.start(3)
    for offset in (1, 2, 3):
        route = Route(f"campaign.c1.settlement.s{offset}", (RoomKey(C1, C1),))
        context.ring.append(Entry(offset, route, "settlement_updated", b"frame %d" % offset, None, 0.0))
    connections = await connect(context, 3, cursor="e:1")
    async with asyncio.timeout(10):
        while any(one.state is not State.LIVE for one in connections):
            await asyncio.sleep(0)
    missed = [next(data for data in written(one) if b"frame" in data) for one in connections]

    assert missed[0] == b"frame 2frame 3" + protocol.position("e:3")
    assert all(data is missed[0] for data in missed)


async def test_spoken_to_in_time(context: Context[Session]) -> None:
    """A session is pinged and told its position within every heartbeat, though it has no timer of its own."""
    [connection] = await connect(context, 1)
    spoken_to = []
    for second in range(1, 121):
        before = len(written(connection))
        context.wheel.turn(second)
        if len(written(connection)) > before:
            spoken_to.append(second)
            connection.heard()
    heartbeat_s = context.limits.heartbeat_s

    assert all(0 < then - before <= heartbeat_s for before, then in pairwise([0, *spoken_to, 121]))
    assert len(spoken_to) <= 120 // heartbeat_s + 1


async def test_time_to_answer_after_a_standstill(context: Context[Session]) -> None:
    """A gateway that stood still for long asks before it gives a client up: one that answers stays."""
    [connection] = await connect(context, 1)
    session = connection
    heartbeat_s = context.limits.heartbeat_s
    context.wheel.turn(heartbeat_s)
    session.heard()

    context.wheel.turn(5 * heartbeat_s)  # pings and the look for their answers fell due meanwhile
    session.heard()
    context.wheel.turn(6 * heartbeat_s)

    states = [session.state]
    context.wheel.turn(8 * heartbeat_s)

    assert [*states, session.state] == [State.LIVE, State.CLOSED]


async def test_freed_without_the_collector(context: Context[Session]) -> None:
    """A connection that is gone is freed by the next heartbeat, and not by the collector."""
    connections = await connect(context, 20)
    gc.collect()
    gc.disable()
    try:
        while connections:
            connections.pop().abort()
        await asyncio.sleep(0)
        context.wheel.turn(120)
        # Others may be of earlier tests.
        left = [one for one in gc.get_objects() if isinstance(one, Session) and one.context is context]
    finally:
        gc.enable()

    assert left == []


async def test_half_a_message(context: Context[Session]) -> None:
    """Of a message that never came as a whole nothing is kept with the session, which the wheel has for a while yet."""
    connection = open_connection(context)
    connection.data_received(client_frame(b"x" * 16_000)[:-1])
    readers = [connection._reader]
    connection.abort()
    await asyncio.sleep(0)
    readers.append(connection._reader)

    assert readers[0] is not None
    assert readers[1] is None


async def test_waves(context: Context[Session]) -> None:
    """Crowd after crowd of other people comes and goes, and leaves nothing behind."""
    sockets: Any = context.outbound._wires

    async def wave(number: int) -> int:
        # As long as tokens are: pydantic keeps some thousand strings of up to 63 characters.
        names = [f"{part}{number}-".rjust(64) for part in range(5)]
        connections = [one for name in names for one in await connect(context, 100, prefix=name)]
        while connections:
            connections.pop().abort()
        await asyncio.sleep(0)
        context.wheel.turn(100 * (number + 1))
        context.users.forget(time.monotonic() + 3600)
        context.pieces.forget()
        sockets.written.clear()
        close_ends()
        gc.collect()
        return sys.getallocatedblocks()

    after = [await wave(number) for number in range(4)]

    assert after[-1] - after[1] < 250  # a list or a table may have grown; not a block for every other one who was here
    assert (context.hub.sessions, len(context.users), context.door.connecting) == (0, 0, 0)
    assert not context.door.addresses


async def test_a_flood_is_not_read_to_its_end(context: Context[Session], monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte of pings in one read: the limit ends it after a few hundred, and most of it is not even looked at."""
    feed, looked_at = FrameReader.feed, 0

    def counting(reader: FrameReader, data: bytes) -> list[tuple[int, bytes]]:
        nonlocal looked_at
        looked_at += len(data)
        return feed(reader, data)

    monkeypatch.setattr(FrameReader, "feed", counting)
    [connection] = await connect(context, 1)
    looked_at = 0
    connection.data_received(client_frame(b"", Opcode.PING) * 170_000)

    assert looked_at <= MAX_AFTER_CLOSE_BYTES + PIECE_BYTES
    assert context.hub.sessions == 0
