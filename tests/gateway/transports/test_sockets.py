"""beaconfire_gateway.transports.sockets: real sockets, by their descriptors."""

import asyncio
import errno
import os
import resource
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from beaconfire_gateway.fanout import outbound as outbound_module
from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.route import Route
from beaconfire_gateway.sessions.gateway import Gateway as Core
from beaconfire_gateway.sessions.gateway import Incoming
from beaconfire_gateway.sessions.session import Session, State
from beaconfire_gateway.transports import handshake as handshake_module
from beaconfire_gateway.transports import sockets as sockets_module
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
    """A socket served by `Sockets`, what its protocol was told, and the client's end."""

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
        """Wait until it is told this."""
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


@pytest.fixture(name="sockets")
async def _sockets() -> AsyncIterator[Sockets]:
    with closing(Sockets(asyncio.get_running_loop())) as sockets:
        yield sockets


@pytest.fixture(name="ends")
def _open(sockets: Sockets) -> Iterator[list[End]]:
    ends = [End(sockets) for _ in range(3)]
    yield ends
    for one in ends:
        one.client.close()


async def test_what_a_socket_does_not_take_waits(sockets: Sockets, ends: list[End]) -> None:
    """A socket that is full gets everything in order, however it was written meanwhile; its protocol is told twice."""
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
async def test_one_that_takes_nothing(sockets: Sockets, ends: list[End], how: str) -> None:
    """A socket with no room for a single byte is full, and not lost: what was written to it comes once it is read."""
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


async def test_who_does_not_read_is_not_read(sockets: Sockets, ends: list[End]) -> None:
    """What a client says while it takes nothing is left with the kernel, and read when it takes something again."""
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


async def test_many_at_once(sockets: Sockets, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many that say something at once are served some at a time, and each before any is served again, however much it
    goes on saying: what else the loop has to do comes in between."""
    monkeypatch.setattr(sockets_module, "SERVE_S", 0.0)
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


async def test_a_reset(sockets: Sockets, ends: list[End]) -> None:
    """One that is reset, or gone, in the middle of a write takes nothing from the others, and is told of once."""
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

    assert told == [[], [], []]  # not in the middle of somebody's loop
    assert [one.told for one in ends] == [["lost"], ["lost"], []]
    assert await there.read(2) == b"xy"


@pytest.mark.parametrize("written", [b"not read", MUCH])
async def test_a_reset_that_is_heard(sockets: Sockets, ends: list[End], written: bytes) -> None:
    """A client that goes away without having read what was written is lost like any other: that is no error of ours."""
    with capture_logs() as logged:
        sockets.write(ends[0].descriptor, written)
        ends[0].client.close()
        await ends[0].until("lost")

    assert ends[0].told[-1:] == ["lost"]
    assert logged == []
    assert sockets.waiting(ends[0].descriptor) == 0


@pytest.mark.parametrize("is_ended", [True, False])
async def test_nothing_left_for_another(
    sockets: Sockets, ends: list[End], monkeypatch: pytest.MonkeyPatch, is_ended: bool
) -> None:
    """Of two that have said something, the first to be served ends the other, or leaves it nothing: that one is told no
    more than that it is lost, and the third is served as ever."""
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


async def test_an_end_that_is_heard(sockets: Sockets, ends: list[End]) -> None:
    """The client's end of the connection is noticed while nothing is written."""
    ends[0].client.send(b"bye")
    ends[0].client.shutdown(socket.SHUT_WR)
    await ends[0].until("lost")

    assert ends[0].told == [b"bye", "lost"]
    assert not sockets.is_open(ends[0].descriptor)


async def test_one_that_fails(sockets: Sockets, ends: list[End], monkeypatch: pytest.MonkeyPatch) -> None:
    """A protocol that fails loses its own socket, no other."""

    def fail(_data: bytes) -> None:
        raise ValueError("out of order")

    monkeypatch.setattr(ends[0], "data_received", fail)
    for one in ends[:2]:
        one.client.send(b"hello")
    await ends[0].until("lost")
    await ends[1].until(b"hello")

    assert [one.told for one in ends] == [["lost"], [b"hello"], []]


async def test_one_that_fails_to_pause(sockets: Sockets, ends: list[End], monkeypatch: pytest.MonkeyPatch) -> None:
    """A protocol that fails when it is full loses its own socket; who comes behind it in the same write has it all."""

    def fail() -> None:
        raise ValueError("out of order")

    monkeypatch.setattr(ends[0], "pause_writing", fail)
    sockets.write(ends[0].descriptor, MUCH)
    sockets.write_same([one.descriptor for one in ends[1:]], b"x")
    await ends[0].until("lost")

    assert ends[0].told == ["lost"]
    assert [await one.read(1) for one in ends[1:]] == [b"x", b"x"]


async def test_what_cannot_be_served(sockets: Sockets, tmp_path: Path) -> None:
    """A descriptor that epoll does not take (a plain file's) is closed: it is nobody's then."""
    descriptor = os.open(tmp_path / "a file", os.O_CREAT | os.O_RDWR)
    with pytest.raises(PermissionError):
        sockets.add(descriptor, End(sockets))

    assert is_closed(descriptor)
    assert not sockets.is_open(descriptor)


async def test_nothing_after_the_end(sockets: Sockets, ends: list[End]) -> None:
    """After `end_writing` the client reads the end, whatever is written; what it says is still heard."""
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


async def test_the_end_of_a_full_one(sockets: Sockets, ends: list[End]) -> None:
    """After `end_writing` a socket that is full is listened to again; what waited for it does not come."""
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


async def test_ending_one_that_is_gone(sockets: Sockets) -> None:
    """Of a client that has reset the connection `end_writing` says nothing; it is reported as lost, as ever."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    one = End(sockets, (ours, client))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    sockets.end_writing(one.descriptor)
    await one.until("lost")

    assert one.told == ["lost"]


async def test_closing_all() -> None:
    """When all is closed, every client reads the end and every protocol is told, one that was lost before just once."""
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


async def test_queued_when_all_is_closed() -> None:
    """Once all is closed their numbers may be other files': nothing is written to those, and none of them is closed."""
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


async def test_a_number_is_not_given_anew_too_early(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that ends while events are queued for it keeps its number until they are through: who comes meanwhile
    gets another one, and none of them. Then it is closed."""
    monkeypatch.setattr(outbound_module, "SLICE", 1)
    connections, ends = [open_connection(core) for _ in range(3)], ENDS[-3:]
    numbers = [one.target for one in connections]
    for one in connections:
        core.hub.join(one, SUBSCRIPTION.room, Role.VIEWER)
    core.outbound.put(1, Entry(1, Route("campaign.c1.state", (SUBSCRIPTION.room,)), b"an event", 0.0, type="t"))
    core.outbound.delivered(1)
    await asyncio.sleep(0)  # one of three is written
    connections[2].abort()
    await asyncio.sleep(0)  # and another
    late = open_connection(core)
    still_open = os.fstat(numbers[2])
    await settled(lambda: core.outbound.settled == 1)
    sockets = late._sockets

    assert still_open
    assert late.target not in numbers
    assert is_closed(numbers[2])
    assert not sockets.is_open(numbers[2])
    assert core.door.connecting == 3
    assert [heard_by(end) for end in (*ends[:2], ENDS[-1])] == [b"an event", b"an event", b""]


async def test_nothing_follows_a_close_frame(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is closed while events are queued for it hears none of them, and is waited for; but not for ever."""
    monkeypatch.setattr(outbound_module, "SLICE", 1)
    connections, ends = [open_connection(core) for _ in range(3)], ENDS[-3:]
    for one in connections:
        core.hub.join(one, SUBSCRIPTION.room, Role.VIEWER)
    core.outbound.put(1, Entry(1, Route("campaign.c1.state", (SUBSCRIPTION.room,)), b"an event", 0.0, type="t"))
    core.outbound.delivered(1)
    await asyncio.sleep(0)
    last = connections[2]
    last.close(BeaconfireError(errors.UNAVAILABLE, "bye"))
    await settled(lambda: core.outbound.settled == 1)
    sockets, number, heard = last._sockets, last.target, [heard_by(end) for end in ends]
    is_waited_for = sockets.is_open(number)
    core.timers.turn(7)

    assert heard == [b"an event", b"an event", encode_close(4503, "bye")]
    assert is_waited_for
    assert not sockets.is_open(number)


async def test_a_full_one_is_not_waited_for(core: Core) -> None:
    """A close frame that a socket does not take is not waited for: what is queued for it is let go at once."""
    connection = open_connection(core)
    connection.write(MUCH)
    sockets, number = connection._sockets, connection.target
    connection.close(BeaconfireError(errors.UNAVAILABLE, "bye"))

    assert not sockets.is_open(number)
    assert sockets.waiting(number) == 0


async def test_before_a_broken_frame(core: Core) -> None:
    """What was right before a frame that is broken, in the same read, is answered; then the connection is closed, and
    counts as a session no more, though its end is waited for."""
    connection, end = open_connection(core), ENDS[-1]
    connection.data_received(client_frame(b"ping", Opcode.PING) + client_frame(b"no text", Opcode.BINARY, rsv=0x40))

    assert heard_by(end).startswith(encode(b"ping", Opcode.PONG) + encode_close(1002)[:1])
    assert os.read(end, 1) == b""  # nothing more comes
    assert connection.state is State.CLOSED
    assert connection._sockets.is_open(connection.target)


async def test_an_answered_close_frame(core: Core) -> None:
    """Once the client has answered our close frame, the connection is over."""
    connection = open_connection(core)
    connection.close(BeaconfireError(errors.UNAVAILABLE, "bye"))
    sockets, number = connection._sockets, connection.target
    is_open = [sockets.is_open(number)]
    connection.data_received(client_frame((4503).to_bytes(2, "big"), Opcode.CLOSE))

    assert [*is_open, sockets.is_open(number)] == [True, False]


@pytest.mark.parametrize(("code", "answer"), [(b"", 1000), (b"\x03\xe8", 1000), (b"\x0f\xa0", 4000)])
async def test_answering_a_close_frame(core: Core, code: bytes, answer: int) -> None:
    """A client's close frame is answered with its code, and one without a code with 1000: 1005 is never on the wire."""
    connection, end = open_connection(core), ENDS[-1]
    connection.data_received(client_frame(code, Opcode.CLOSE))

    assert heard_by(end) == encode_close(answer)
    assert not connection._sockets.is_open(connection.target)


async def test_signs_of_life(core: Core) -> None:
    """A client that answers our pings, with no more than pongs, stays; one that no longer does is dropped."""
    [connection] = await connect(core, 1)
    heartbeat_s, states = core.limits.heartbeat_s, []
    for beat in range(1, 4):
        core.timers.turn(beat * heartbeat_s)
        connection.data_received(client_frame(b"", Opcode.PONG))
    states.append(connection.state)
    for beat in range(4, 7):
        core.timers.turn(beat * heartbeat_s)

    assert [*states, connection.state] == [State.LIVE, State.CLOSED]


async def test_a_message_that_fails(core: Core) -> None:
    """A message that we fail to take closes its connection, with words to quote and nothing of the error in them."""

    def fail(_session: Session, _incoming: Incoming) -> None:
        raise ValueError("a secret")

    core.handle = fail
    connection, end = open_connection(core), ENDS[-1]
    connection.data_received(client_frame(b"{}"))
    code, reason = decode_close(heard_by(end)[2:])

    assert (code, reason) == (4500, f"something went wrong on our side; quote {connection.id}")


async def test_an_old_timer(core: Core) -> None:
    """Who was closed long ago does no harm to whoever has its number now."""
    first = open_connection(core)
    number = first.target
    first.close(BeaconfireError(errors.UNAVAILABLE, "bye"))
    first.abort()
    await settled(lambda: is_closed(number))
    second = open_connection(core)
    core.timers.turn(6)  # when the close handshake had to be over

    assert second.target == number
    assert second._sockets.is_open(number)


async def test_the_last_files(gateway: Gateway) -> None:
    """A handshake for which no file is left is answered with 503 and ends its connection; the next one is accepted."""
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


async def test_one_that_cannot_be_watched(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handshake whose socket epoll does not take (here: a device's descriptor) is answered with 503 and ends its
    connection. No file stays open, nobody is counted, and the next one is accepted."""
    parts = urlsplit(gateway.url)

    def of_a_device(transport: asyncio.Transport) -> int:
        descriptor = take_over(transport)
        with open(os.devnull) as device:
            return os.dup2(device.fileno(), descriptor)

    before = files()
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    with closing(writer):
        with monkeypatch.context() as patch:
            patch.setattr(handshake_module, "take_over", of_a_device)
            writer.write(handshake(gateway.url))
            refused = await answer(reader)
        await reader.read()
    await writer.wait_closed()
    after, stats = files(), await gateway.stats()
    accepted = await status_of(gateway.url, handshake(gateway.url))

    assert (refused, accepted) == (503, 101)
    assert after == before
    assert stats["connecting"] == 0


async def test_one_that_has_not_read(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handshake of who has not read what it was answered before (here: 20 MB) is refused, and nobody is counted."""
    parts, much = urlsplit(gateway.url), MUCH * 20

    def behind_much(transport: asyncio.Transport) -> int:
        transport.write(much)
        return take_over(transport)

    monkeypatch.setattr(handshake_module, "take_over", behind_much)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    with closing(writer):
        writer.write(handshake(gateway.url))
        async with asyncio.timeout(10):
            await reader.readexactly(len(much))
        refused = await answer(reader)
    stats = await gateway.stats()

    assert refused == 400
    assert stats["connecting"] == 0


async def test_no_longer_read_by_aiohttp(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the handshake on aiohttp's transport reads nothing that is meant for us, though it is closed turns later."""
    loop, reads = asyncio.get_running_loop(), []

    def watched(transport: asyncio.Transport) -> int:
        loop.call_soon(lambda: reads.append((transport.is_reading(), transport.is_closing())))
        return take_over(transport)

    monkeypatch.setattr(handshake_module, "take_over", watched)
    async with raw_socket(gateway.url):
        pass

    assert reads == [(False, False)]


async def test_one_file_each(gateway: Gateway) -> None:
    """A connection is one file of the gateway's, and none once it is over."""
    before = files()
    async with raw_socket(gateway.url), raw_socket(gateway.url):
        await settled(lambda: files() == before + 4)  # the clients' ends are ours, too
    await settled(lambda: files() == before)

    assert files() == before


async def test_not_before_all_is_written() -> None:
    """A transport that still has something to write is not taken over: it would be written between ours."""
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
