"""The cost of a session in objects. These tests count objects and take no times."""

import asyncio
import gc
import sys
import time
from itertools import pairwise
from typing import Any

import pytest

from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.route import Route
from beaconfire_gateway.sessions.gateway import Gateway as Core
from beaconfire_gateway.sessions.session import Session, State
from beaconfire_gateway.transports.websocket_connection import MAX_AFTER_CLOSE_BYTES, PIECE_BYTES
from beaconfire_gateway.wire.messages import Position
from beaconfire_gateway.wire.websocket_frames import FrameReader, Opcode
from beaconfire_kit.subjects import RoomKey
from tests.gateway.core import C1, SOCKETS, VERBATIM, close_ends, connect, open_connection, written
from tests.websocket import client_frame


async def test_idle_session_in_one_room_is_at_most_five_objects_without_task_or_timer(core: Core) -> None:
    kept = await connect(core, 1)  # and all that is made once
    gc.collect()
    before = len(gc.get_objects())
    kept += await connect(core, 100)
    core.users.forget(time.monotonic() + 3600)
    core.timers.turn(20)  # past the deadline for connect
    gc.collect()
    objects = (len(gc.get_objects()) - before) / 100

    # The session, its rooms, claims; an allowance as long as something was taken, and one of its user.
    assert round(objects) <= 5
    assert len(asyncio.all_tasks()) == 1


async def test_clients_that_resume_from_one_cursor_are_written_the_same_bytes_object(core: Core) -> None:
    core.epoch, core.position = "e", 3
    core.outbound.start(3)
    for offset in (1, 2, 3):
        route = Route(f"campaign.c1.settlement.s{offset}", (RoomKey(C1, C1),))
        core.ring.append(Entry(offset, route, b"frame %d" % offset, 0.0, type="settlement_updated"))
    connections = await connect(core, 3, cursor="e:1")
    async with asyncio.timeout(10):
        while any(one.state is not State.LIVE for one in connections):
            await asyncio.sleep(0)
    missed = [next(data for data in written(one) if b"frame" in data) for one in connections]

    assert missed[0] == b"frame 2frame 3" + VERBATIM.encode(Position("e:3"))
    assert all(data is missed[0] for data in missed)


async def test_session_gets_a_ping_and_its_position_within_every_heartbeat(core: Core) -> None:
    [connection] = await connect(core, 1)
    spoken_to = []
    for second in range(1, 121):
        before = len(written(connection))
        core.timers.turn(second)
        if len(written(connection)) > before:
            spoken_to.append(second)
            connection.heard()
    heartbeat_s = core.limits.heartbeat_s

    assert all(0 < then - before <= heartbeat_s for before, then in pairwise([0, *spoken_to, 121]))
    assert len(spoken_to) <= 120 // heartbeat_s + 1


async def test_client_that_answers_after_the_gateway_stood_still_is_kept(core: Core) -> None:
    [connection] = await connect(core, 1)
    session = connection
    heartbeat_s = core.limits.heartbeat_s
    core.timers.turn(heartbeat_s)
    session.heard()

    core.timers.turn(5 * heartbeat_s)  # pings and the look for their answers fell due meanwhile
    session.heard()
    core.timers.turn(6 * heartbeat_s)

    states = [session.state]
    core.timers.turn(8 * heartbeat_s)

    assert [*states, session.state] == [State.LIVE, State.CLOSED]


async def test_closed_connections_are_freed_by_the_next_heartbeat_without_the_garbage_collector(core: Core) -> None:
    connections = await connect(core, 20)
    gc.collect()
    gc.disable()
    try:
        while connections:
            connections.pop().abort()
        await asyncio.sleep(0)
        core.timers.turn(120)
        # Others may be of earlier tests.
        left = [one for one in gc.get_objects() if isinstance(one, Session) and one.gateway is core]
    finally:
        gc.enable()

    assert left == []


async def test_incomplete_message_is_freed_when_its_connection_ends(core: Core) -> None:
    connection = open_connection(core)
    connection.data_received(client_frame(b"x" * 16_000)[:-1])
    readers = [connection._reader]
    connection.abort()
    await asyncio.sleep(0)
    readers.append(connection._reader)

    assert readers[0] is not None
    assert readers[1] is None


async def test_messages_that_wait_take_no_more_than_their_bytes(core: Core) -> None:
    connection = open_connection(core)
    connection.data_received(client_frame(b'{"type":"connect","id":1,"token":"u"}'))  # not answered in this turn
    messages = []
    for number in range(80):
        rooms = ",".join(f'"{number:064}{room}"' for room in range(10))  # so long that pydantic does not keep them
        messages.append(client_frame(f'{{"type":"subscribe","id":1,"rooms":[{rooms}]}}'.encode()))
    connection.data_received(messages.pop())  # and all that is made once
    gc.collect()
    before = sys.getallocatedblocks()
    for message in messages:
        connection.data_received(message)
    blocks, state = sys.getallocatedblocks() - before, connection.state
    connection.abort()
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0)

    assert state is State.CONNECTING
    assert blocks < len(messages) * 5  # a message is one object, and its ten names are none


async def test_waves_of_different_users_leave_no_memory_behind(core: Core) -> None:
    sockets: Any = SOCKETS[core]

    async def wave(number: int) -> int:
        # As long as tokens are: pydantic keeps some thousand strings of up to 63 characters.
        names = [f"{part}{number}-".rjust(64) for part in range(5)]
        connections = [one for name in names for one in await connect(core, 100, prefix=name)]
        while connections:
            connections.pop().abort()
        await asyncio.sleep(0)
        core.timers.turn(100 * (number + 1))
        core.users.forget(time.monotonic() + 3600)
        core.catchup_cache.forget()
        sockets.written.clear()
        close_ends()
        gc.collect()
        return sys.getallocatedblocks()

    after = [await wave(number) for number in range(4)]

    assert after[-1] - after[1] < 250  # a list or table may have grown; no block for every second session
    assert (core.hub.sessions, len(core.users), core.door.connecting) == (0, 0, 0)
    assert not core.door.addresses


async def test_flood_of_pings_in_one_read_is_ended_without_reading_most_of_it(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed, looked_at = FrameReader.feed, 0

    def counting(reader: FrameReader, data: bytes) -> list[tuple[int, bytes]]:
        nonlocal looked_at
        looked_at += len(data)
        return feed(reader, data)

    monkeypatch.setattr(FrameReader, "feed", counting)
    [connection] = await connect(core, 1)
    looked_at = 0
    connection.data_received(client_frame(b"", Opcode.PING) * 170_000)

    assert looked_at <= MAX_AFTER_CLOSE_BYTES + PIECE_BYTES
    assert core.hub.sessions == 0
