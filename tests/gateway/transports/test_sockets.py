"""Sockets by their descriptors, with real sockets."""

import asyncio
import errno
import os
import resource
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.route import Route
from beaconfire_gateway.sessions.gateway import Gateway as Core
from beaconfire_gateway.sessions.gateway import Incoming
from beaconfire_gateway.sessions.session import Session, State
from beaconfire_gateway.transports import handover
from beaconfire_gateway.transports.sockets import EVENTS, READ_BYTES, Sockets
from beaconfire_gateway.wire.websocket_frames import Opcode, decode_close, encode, encode_close
from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.roles import Role
from beaconfire_kit.seams.aiohttp_handover import Undrained, take_over
from tests.gateway.conftest import Gateway
from tests.gateway.core import ENDS, SUBSCRIPTION, connect, heard_by, open_connection
from tests.websocket import client_frame, handshake, raw_socket, status_of

MUCH = b"m" * 1_000_000
"""More than a socket takes at once."""


class End:
    """A socket served by `Sockets`, the calls of its protocol, and the client's end."""

    def __init__(self, sockets: Sockets, pair: tuple[socket.socket, socket.socket] | None = None) -> None:
        ours, self.client = pair or socket.socketpair()
        ours.setblocking(False)
        self.client.setblocking(False)
        self.descriptor = ours.detach()
        self.told: list[str | bytes] = []
        self.happened = asyncio.Event()
        sockets.add(self.descriptor, self)

    def tell(self, what: str | bytes) -> None:
        self.told.append(what)
        self.happened.set()

    def data_received(self, data: bytes) -> None:
        self.tell(data)

    def pause_writing(self) -> None:
        self.tell("pause")

    def resume_writing(self) -> None:
        self.tell("resume")

    def connection_lost(self) -> None:
        self.tell("lost")

    async def until(self, what: str | bytes) -> None:
        """Wait for this call."""
        async with asyncio.timeout(10):
            while what not in self.told:
                self.happened.clear()
                await self.happened.wait()

    async def read(self, size: int) -> bytes:
        """The next bytes that the client gets."""
        loop, got = asyncio.get_running_loop(), b""
        async with asyncio.timeout(10):
            while len(got) < size and (more := await loop.sock_recv(self.client, size - len(got))):
                got += more
        return got


@pytest.fixture(name="ends")
def _open(sockets: Sockets) -> Iterator[list[End]]:
    ends = [End(sockets) for _ in range(3)]
    yield ends
    for one in ends:
        one.client.close()


async def test_full_socket_gets_everything_in_order_once_it_is_read(sockets: Sockets, ends: list[End]) -> None:
    first, second, _ = ends
    sockets.write_same([one.descriptor for one in ends], MUCH)
    sockets.write(first.descriptor, b"a")
    sockets.write_same((first.descriptor,), b"b")
    sockets.write_each([(first.descriptor, [b"c", b"d"])])
    waits = sockets.waiting(first.descriptor)
    got = await first.read(len(MUCH) + 4)
    await first.until("resume")
    sockets.write(first.descriptor, b"e")

    assert 4 < waits < len(MUCH)
    assert got == MUCH + b"abcd"
    assert (first.told, second.told) == (["pause", "resume"], ["pause"])
    assert sockets.waiting(first.descriptor) == 0
    assert await first.read(1) == b"e"


@pytest.mark.parametrize("how", ["one", "same", "each"])
async def test_socket_without_room_for_a_byte_is_full_and_not_lost(sockets: Sockets, ends: list[End], how: str) -> None:
    one, other, _ = ends
    size = fill(one.descriptor)
    if how == "one":
        sockets.write(one.descriptor, b"a")
    elif how == "same":
        sockets.write_same((one.descriptor, other.descriptor), b"a")
    else:
        sockets.write_each([(one.descriptor, [b"a"])])
    waits, told = sockets.waiting(one.descriptor), list(one.told)
    got = await one.read(size + 1)
    await one.until("resume")

    assert (waits, told) == (1, ["pause"])
    assert got[-2:] == b"fa"
    assert one.told == ["pause", "resume"]


async def test_client_that_reads_nothing_is_not_read_until_it_reads_again(sockets: Sockets, ends: list[End]) -> None:
    one = ends[0]
    sockets.write(one.descriptor, MUCH)
    one.client.send(b"hello")
    ready = [sockets._epoll.poll(0)]
    sockets._look()
    before = list(one.told)
    await one.read(len(MUCH))
    await one.until(b"hello")
    ready.append(sockets._epoll.poll(0))

    assert ready == [[], []]  # the loop is not woken for nothing
    assert before == ["pause"]
    assert one.told == ["pause", "resume", b"hello"]


async def test_many_sockets_with_input_are_served_some_at_a_time_and_in_turn() -> None:
    with closing(Sockets(asyncio.get_running_loop(), serve_s=0.0)) as sockets:
        crowd = [End(sockets) for _ in range(2 * EVENTS)]
        for one in crowd:
            one.client.send(b"x" * (2 * READ_BYTES))
        served = []
        for _ in range(4):
            sockets._look()
            served.append([len(one.told) for one in crowd])
        for one in crowd:
            one.client.close()

    assert [sum(counts) for counts in served] == [EVENTS, 2 * EVENTS, 3 * EVENTS, 4 * EVENTS]
    assert set(served[1]) == {1}
    assert set(served[3]) == {2}


async def test_socket_reset_during_a_write_affects_no_other_and_is_reported_once(
    sockets: Sockets, ends: list[End]
) -> None:
    gone, reset, there = ends
    gone.client.close()
    reset.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    reset.client.close()
    sockets.write_same([one.descriptor for one in ends], b"x")
    sockets.write_each((one.descriptor, [b"y"]) for one in ends)
    told = [list(one.told) for one in ends]
    await gone.until("lost")
    await reset.until("lost")
    sockets.abort(gone.descriptor)

    assert told == [[], [], []]  # not in the middle of a caller's loop
    assert [one.told for one in ends] == [["lost"], ["lost"], []]
    assert await there.read(2) == b"xy"


@pytest.mark.parametrize("written", [b"not read", MUCH])
async def test_client_that_leaves_without_reading_is_an_ordinary_loss(
    sockets: Sockets, ends: list[End], written: bytes
) -> None:
    with capture_logs() as logged:
        sockets.write(ends[0].descriptor, written)
        ends[0].client.close()
        await ends[0].until("lost")

    assert ends[0].told[-1:] == ["lost"]
    assert logged == []
    assert sockets.waiting(ends[0].descriptor) == 0


@pytest.mark.parametrize("is_ended", [True, False])
async def test_socket_that_another_ends_or_empties_in_the_same_turn_is_served_correctly(
    sockets: Sockets, ends: list[End], monkeypatch: pytest.MonkeyPatch, is_ended: bool
) -> None:
    one, other, third = ends
    served: list[End] = []

    def serve(mine: End, theirs: End) -> None:
        served.append(mine)
        if is_ended:
            sockets.abort(theirs.descriptor)
        else:
            os.read(theirs.descriptor, 100)

    for mine, theirs in ((one, other), (other, one)):
        monkeypatch.setattr(mine, "data_received", lambda _data, mine=mine, theirs=theirs: serve(mine, theirs))
    for end in ends:
        end.client.send(b"hello")
    sockets._look()
    await asyncio.sleep(0)
    rest = {one, other} - set(served)

    assert len(served) == 1
    assert [end.told for end in rest] == [["lost"] if is_ended else []]
    assert third.told == [b"hello"]


async def test_end_of_a_client_is_noticed_without_a_write(sockets: Sockets, ends: list[End]) -> None:
    ends[0].client.send(b"bye")
    ends[0].client.shutdown(socket.SHUT_WR)
    await ends[0].until("lost")

    assert ends[0].told == [b"bye", "lost"]
    assert not sockets.is_open(ends[0].descriptor)


async def test_protocol_that_fails_loses_only_its_own_socket(
    sockets: Sockets, ends: list[End], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_data: bytes) -> None:
        raise ValueError("out of order")

    monkeypatch.setattr(ends[0], "data_received", fail)
    for one in ends[:2]:
        one.client.send(b"hello")
    await ends[0].until("lost")
    await ends[1].until(b"hello")

    assert [one.told for one in ends] == [["lost"], [b"hello"], []]


async def test_protocol_that_fails_when_full_loses_only_its_own_socket(
    sockets: Sockets, ends: list[End], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ValueError("out of order")

    monkeypatch.setattr(ends[0], "pause_writing", fail)
    sockets.write(ends[0].descriptor, MUCH)
    sockets.write_same([one.descriptor for one in ends[1:]], b"x")
    await ends[0].until("lost")

    assert ends[0].told == ["lost"]
    assert [await one.read(1) for one in ends[1:]] == [b"x", b"x"]


async def test_descriptor_that_epoll_refuses_is_closed(sockets: Sockets, tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "a file", os.O_CREAT | os.O_RDWR)
    with pytest.raises(PermissionError):
        sockets.add(descriptor, End(sockets))

    assert is_closed(descriptor)
    assert not sockets.is_open(descriptor)


async def test_client_reads_the_end_after_end_writing_and_is_still_heard(sockets: Sockets, ends: list[End]) -> None:
    one = ends[0]
    sockets.write(one.descriptor, b"last")
    sockets.end_writing(one.descriptor)
    sockets.write(one.descriptor, b"more")
    sockets.write_same((one.descriptor,), b"more")
    got = await one.read(100)
    one.client.send(b"I see")
    await one.until(b"I see")

    assert got == b"last"
    assert one.told == [b"I see"]


async def test_end_writing_on_a_full_socket_drops_what_waits_and_listens_again(
    sockets: Sockets, ends: list[End]
) -> None:
    one = ends[0]
    sockets.write(one.descriptor, MUCH)
    waits = sockets.waiting(one.descriptor)
    sockets.end_writing(one.descriptor)
    one.client.send(b"I see")
    await one.until(b"I see")
    ready, got = sockets._epoll.poll(0), await one.read(len(MUCH))

    assert ready == []
    assert len(got) == len(MUCH) - waits
    assert one.told == ["pause", b"I see"]


async def test_end_writing_on_a_reset_connection_reports_an_ordinary_loss(sockets: Sockets) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    one = End(sockets, (ours, client))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    sockets.end_writing(one.descriptor)
    await one.until("lost")

    assert one.told == ["lost"]


async def test_closing_all_sockets_ends_every_client_and_tells_every_protocol_once() -> None:
    sockets = Sockets(asyncio.get_running_loop())
    ends = [End(sockets) for _ in range(3)]
    sockets.abort(ends[0].descriptor)
    sockets.close()
    for one in ends:
        await one.until("lost")
        sockets.release(one.descriptor)  # as its protocol asks for

    assert [one.told for one in ends] == [["lost"]] * 3
    assert [await one.read(1) for one in ends] == [b""] * 3
    for one in ends:
        one.client.close()


async def test_nothing_is_written_to_reused_descriptors_after_all_sockets_were_closed() -> None:
    sockets = Sockets(asyncio.get_running_loop())
    ends = [End(sockets) for _ in range(3)]
    numbers = [one.descriptor for one in ends]
    sockets.write(numbers[0], MUCH)
    sockets.mute(numbers[1])
    sockets.close()
    others = [end for _ in range(3) for end in socket.socketpair()]
    for end in others:
        end.setblocking(False)
    sockets.write_same(numbers, b"x")
    sockets.write_each((number, [b"y"]) for number in numbers)
    for number in numbers:
        sockets.release(number)
    said = [heard_by(end.fileno()) for end in others]

    assert {end.fileno() for end in others} >= set(numbers)
    assert said == [b""] * 6
    for end in (*others, *(one.client for one in ends)):
        end.close()


async def test_descriptor_is_not_reused_while_events_are_queued_for_it(slicing_core: Core) -> None:
    connections, ends = [open_connection(slicing_core) for _ in range(3)], ENDS[-3:]
    numbers = [one.target for one in connections]
    for one in connections:
        slicing_core.hub.join(one, SUBSCRIPTION.room, Role.VIEWER)
    slicing_core.outbound.put(1, Entry(1, Route("campaign.c1.state", (SUBSCRIPTION.room,)), b"an event", 0.0, type="t"))
    slicing_core.outbound.delivered(1)
    await asyncio.sleep(0)  # one of three is written
    connections[2].abort()
    await asyncio.sleep(0)  # and another
    late = open_connection(slicing_core)
    still_open = os.fstat(numbers[2])
    await settled(lambda: slicing_core.outbound.settled == 1)
    sockets = late._sockets

    assert still_open
    assert late.target not in numbers
    assert is_closed(numbers[2])
    assert not sockets.is_open(numbers[2])
    assert slicing_core.door.connecting == 3
    assert [heard_by(end) for end in (*ends[:2], ENDS[-1])] == [b"an event", b"an event", b""]


async def test_closed_session_hears_no_queued_event_and_its_end_is_waited_for_in_bounds(slicing_core: Core) -> None:
    connections, ends = [open_connection(slicing_core) for _ in range(3)], ENDS[-3:]
    for one in connections:
        slicing_core.hub.join(one, SUBSCRIPTION.room, Role.VIEWER)
    slicing_core.outbound.put(1, Entry(1, Route("campaign.c1.state", (SUBSCRIPTION.room,)), b"an event", 0.0, type="t"))
    slicing_core.outbound.delivered(1)
    await asyncio.sleep(0)
    last = connections[2]
    last.close(BeaconfireError(errors.UNAVAILABLE, "bye"))
    await settled(lambda: slicing_core.outbound.settled == 1)
    sockets, number, heard = last._sockets, last.target, [heard_by(end) for end in ends]
    is_waited_for = sockets.is_open(number)
    slicing_core.timers.turn(7)

    assert heard == [b"an event", b"an event", encode_close(4503, "bye")]
    assert is_waited_for
    assert not sockets.is_open(number)


async def test_close_frame_that_a_full_socket_does_not_take_ends_it_at_once(core: Core) -> None:
    connection = open_connection(core)
    connection.write(MUCH)
    sockets, number = connection._sockets, connection.target
    connection.close(BeaconfireError(errors.UNAVAILABLE, "bye"))

    assert not sockets.is_open(number)
    assert sockets.waiting(number) == 0


async def test_valid_messages_before_a_broken_frame_are_answered_and_then_the_connection_closes(core: Core) -> None:
    connection, end = open_connection(core), ENDS[-1]
    connection.data_received(client_frame(b"ping", Opcode.PING) + client_frame(b"no text", Opcode.BINARY, rsv=0x40))

    assert heard_by(end).startswith(encode(b"ping", Opcode.PONG) + encode_close(1002)[:1])
    assert os.read(end, 1) == b""  # end of file
    assert connection.state is State.CLOSED
    assert connection._sockets.is_open(connection.target)


async def test_connection_is_over_once_the_client_answers_our_close_frame(core: Core) -> None:
    connection = open_connection(core)
    connection.close(BeaconfireError(errors.UNAVAILABLE, "bye"))
    sockets, number = connection._sockets, connection.target
    is_open = [sockets.is_open(number)]
    connection.data_received(client_frame((4503).to_bytes(2, "big"), Opcode.CLOSE))

    assert [*is_open, sockets.is_open(number)] == [True, False]


@pytest.mark.parametrize(("code", "answer"), [(b"", 1000), (b"\x03\xe8", 1000), (b"\x0f\xa0", 4000)])
async def test_close_frame_of_a_client_is_answered_with_its_code_or_1000(core: Core, code: bytes, answer: int) -> None:
    """1005 is never on the wire."""
    connection, end = open_connection(core), ENDS[-1]
    connection.data_received(client_frame(code, Opcode.CLOSE))

    assert heard_by(end) == encode_close(answer)
    assert not connection._sockets.is_open(connection.target)


async def test_client_that_only_answers_pings_stays_and_a_silent_one_is_dropped(core: Core) -> None:
    [connection] = await connect(core, 1)
    heartbeat_s, states = core.limits.heartbeat_s, []
    for beat in range(1, 4):
        core.timers.turn(beat * heartbeat_s)
        connection.data_received(client_frame(b"", Opcode.PONG))
    states.append(connection.state)
    for beat in range(4, 7):
        core.timers.turn(beat * heartbeat_s)

    assert [*states, connection.state] == [State.LIVE, State.CLOSED]


async def test_message_that_our_code_fails_on_closes_the_connection_without_revealing_the_error(core: Core) -> None:
    def fail(_session: Session, _incoming: Incoming) -> None:
        raise ValueError("a secret")

    core.handle = fail
    connection, end = open_connection(core), ENDS[-1]
    connection.data_received(client_frame(b"{}"))
    code, reason = decode_close(heard_by(end)[2:])

    assert (code, reason) == (4500, f"something went wrong on our side; quote {connection.id}")


async def test_stopping_gateway_closes_a_replaced_session_with_1000(core: Core) -> None:
    """It waits for the session, which is in no room any more, and sends it only one close frame."""
    session = (await connect(core, 1))[0]
    heard_by(ENDS[-1])
    session.make_way()
    was_empty = core.is_empty
    core.close_all(BeaconfireError(errors.UNAVAILABLE, "going away"))
    is_empty = core.is_empty
    core.timers.turn(2)
    frame = heard_by(ENDS[-1])

    assert (was_empty, is_empty) == (False, True)
    assert decode_close(frame[2:]) == (1000, "another connection took over")


async def test_replaced_session_is_waited_for_until_it_is_closed(core: Core) -> None:
    session = (await connect(core, 1))[0]
    session.make_way()
    states = [core.is_empty]
    core.timers.turn(2)
    states.append(core.is_empty)

    assert states == [False, True]


async def test_timer_of_a_closed_connection_does_not_affect_the_next_user_of_its_descriptor(core: Core) -> None:
    first = open_connection(core)
    number = first.target
    first.close(BeaconfireError(errors.UNAVAILABLE, "bye"))
    first.abort()
    await settled(lambda: is_closed(number))
    second = open_connection(core)
    core.timers.turn(6)  # when the close handshake had to be over

    assert second.target == number
    assert second._sockets.is_open(number)


async def test_handshake_without_a_free_file_gets_503_and_the_next_one_is_accepted(gateway: Gateway) -> None:
    parts = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    with closing(writer):
        writer.write(f"GET /healthz HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        served = await answer(reader)
        with no_more_files():
            writer.write(handshake(gateway.url))
            refused = await answer(reader)
        after = await reader.read()
    accepted = await status_of(gateway.url, handshake(gateway.url))

    assert (served, refused, accepted) == (200, 503, 101)
    assert b"HTTP/1.1" not in after


async def test_handshake_whose_socket_epoll_refuses_gets_503_and_leaves_nothing_open(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = urlsplit(gateway.url)

    def of_a_device(transport: asyncio.Transport) -> int:
        descriptor = take_over(transport)
        with open(os.devnull) as device:
            return os.dup2(device.fileno(), descriptor)

    before = files()
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    with closing(writer):
        with monkeypatch.context() as patch:
            patch.setattr(handover, "take_over", of_a_device)
            writer.write(handshake(gateway.url))
            refused = await answer(reader)
        await reader.read()
    await writer.wait_closed()
    after, stats = files(), await gateway.stats()
    accepted = await status_of(gateway.url, handshake(gateway.url))

    assert (refused, accepted) == (503, 101)
    assert after == before
    assert stats["connecting"] == 0


async def test_handshake_of_a_client_with_unread_answers_is_refused_and_not_counted(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, much = urlsplit(gateway.url), MUCH * 20

    def behind_much(transport: asyncio.Transport) -> int:
        transport.write(much)
        return take_over(transport)

    monkeypatch.setattr(handover, "take_over", behind_much)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    with closing(writer):
        writer.write(handshake(gateway.url))
        async with asyncio.timeout(10):
            await reader.readexactly(len(much))
        refused = await answer(reader)
    stats = await gateway.stats()

    assert refused == 400
    assert stats["connecting"] == 0


async def test_aiohttp_reads_nothing_after_the_handshake(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, reads = asyncio.get_running_loop(), []

    def watched(transport: asyncio.Transport) -> int:
        loop.call_soon(lambda: reads.append((transport.is_reading(), transport.is_closing())))
        return take_over(transport)

    monkeypatch.setattr(handover, "take_over", watched)
    async with raw_socket(gateway.url):
        pass

    assert reads == [(False, False)]


async def test_connection_is_one_file_and_none_once_it_is_over(gateway: Gateway) -> None:
    before = files()
    async with raw_socket(gateway.url), raw_socket(gateway.url):
        await settled(lambda: files() == before + 4)  # the clients' ends are ours, too
    await settled(lambda: files() == before)

    assert files() == before


async def test_transport_with_bytes_left_to_write_is_not_taken_over() -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with closing(theirs):
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        transport.write(MUCH)
        with pytest.raises(Undrained):
            take_over(transport)
        is_reading = transport.is_reading()
        transport.abort()

    assert is_reading


def fill(descriptor: int) -> int:
    """Fill a socket to the last byte. Returns how many it took."""
    size = 0
    for piece in (b"f" * 65_536, b"f"):
        with suppress(BlockingIOError):
            while True:
                size += os.write(descriptor, piece)
    return size


async def settled(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


def is_closed(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError as error:
        return error.errno == errno.EBADF
    return False


def files() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def no_more_files() -> Iterator[None]:
    """This process can open no file inside."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def answer(reader: asyncio.StreamReader) -> int:
    """The status of the next HTTP answer, which is read to its end."""
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), b":0")
        await reader.readexactly(int(length.partition(b":")[2]))
    return int(head.split()[1])
