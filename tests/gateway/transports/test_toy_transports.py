"""Other transports than WebSockets of one session, made of the gateway's own parts, side by side on one core."""

from functools import partial

import pytest
from aiohttp import web

from beaconfire_gateway.sessions.gateway import Gateway as Core
from beaconfire_gateway.sessions.session import State
from beaconfire_gateway.transports.admission import Admission
from beaconfire_gateway.transports.sockets import Sockets
from beaconfire_gateway.transports.websocket_opening import WebSocketOpening
from beaconfire_gateway.transports.write_buffers import WriteBuffers
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.forwarding import ClientAddresses
from beaconfire_kit.settings import BehindProxies
from tests.gateway.core import (
    ENDS,
    deliver,
    heard_by,
    open_descriptor,
    settled,
    started_core,
)
from tests.gateway.toy_transports import HEAD, EventStream, NamespacedSocket, handle_namespaced
from tests.gateway.toys import Brackets, Line, Lined, Words
from tests.websocket import client_frame, connection, handshake

ADDRESS = "an address"
GOING_AWAY = BeaconfireError(errors.UNAVAILABLE, "going away")


@pytest.fixture(name="core")
async def _core(sockets: Sockets) -> Core:
    return started_core()


@pytest.fixture(name="socket")
async def _socket(core: Core, sockets: Sockets) -> NamespacedSocket:
    core.door.enter(ADDRESS)
    return NamespacedSocket(core, sockets, open_descriptor(), address=ADDRESS)


async def say(socket: NamespacedSocket, *messages: str) -> None:
    for message in messages:
        socket.data_received(client_frame(message.encode()))
    await settled()


async def test_sessions_of_several_transports_hear_an_event_each_in_its_own_bytes(
    core: Core, sockets: Sockets, socket: NamespacedSocket
) -> None:
    """Two namespaces of one socket, an event stream on another, and a connection with a writer of its own."""
    await say(socket, "/a connect ann e:10 campaign:c1", "/b connect bob e:10 campaign:c1")
    core.door.enter(ADDRESS)
    stream = EventStream(core, sockets, open_descriptor(), address=ADDRESS)
    stream.receive(b"connect cid e:10 campaign:c1")
    line = Line(core)
    Lined(Wire(Words(), Brackets()), line).receive(b"connect dan e:10 campaign:c1")
    await settled()
    before = [heard_by(end) for end in ENDS]
    line.taken()
    for offset, body in ((11, b"abc"), (12, b"def")):
        deliver(core, offset, body)
    await settled()
    at_socket, at_stream = (heard_by(end) for end in ENDS)

    assert before[1].startswith(HEAD)
    assert [at_socket.count(one) for one in (b"/a 11 cba", b"/b 11 cba", b"/a 12 fed", b"/b 12 fed")] == [1] * 4
    assert at_stream == (
        b"id: e:11\nevent: state_invalidated\ndata: 11 cba\n\nid: e:12\nevent: state_invalidated\ndata: 12 fed\n\n"
    )
    assert line.taken() == b"[11 cba][12 fed]"


async def test_session_of_a_shared_socket_catches_up_while_the_other_is_live(
    core: Core, socket: NamespacedSocket
) -> None:
    """Each session has its own cursor: only the one that was away gets what it missed."""
    deliver(core, 11, b"abc")
    await say(socket, "/a connect ann e:11 campaign:c1")
    heard_by(ENDS[-1])
    await say(socket, "/b connect bob e:10 campaign:c1")
    heard = heard_by(ENDS[-1])

    assert heard.count(b"/b 11 cba") == 1
    assert b"/a" not in heard
    assert [one.state for one in socket.sessions] == [State.LIVE] * 2


async def test_closed_session_of_a_shared_socket_leaves_the_other_alone(core: Core, socket: NamespacedSocket) -> None:
    await say(socket, "/a connect ann e:10 campaign:c1", "/b connect bob e:10 campaign:c1")
    heard_by(ENDS[-1])
    socket.namespaces["/a"].close(BeaconfireError(errors.TOKEN_INVALID, "the token ran out"))
    deliver(core, 11, b"abc")
    await settled()
    heard = heard_by(ENDS[-1])

    assert b"/a over 4401" in heard
    assert b"/b 11 cba" in heard
    assert b"/a 11" not in heard


async def test_shared_socket_counts_once_at_the_door_however_many_sessions_it_has(
    core: Core, socket: NamespacedSocket
) -> None:
    """Sessions come and go, and a user may even return to a namespace. No session is left once the socket is gone."""
    counts = [(dict(core.door.addresses), core.door.connecting)]
    await say(socket, "/a connect ann e:10 campaign:c1", "/b connect bob e:10 campaign:c1")
    counts.append((dict(core.door.addresses), core.door.connecting))
    for session in list(socket.sessions):
        session.close(GOING_AWAY)
    counts.append((dict(core.door.addresses), core.door.connecting))
    await say(socket, "/a connect ann e:10 campaign:c1")
    counts.append((dict(core.door.addresses), core.door.connecting))
    socket.abort()
    await settled()
    counts.append((dict(core.door.addresses), core.door.connecting))

    one = {ADDRESS: 1}
    assert counts == [(one, 1), (one, 0), (one, 1), (one, 0), ({}, 0)]


async def test_second_session_of_a_socket_is_let_in_although_its_address_has_no_connection_left(
    core: Core, sockets: Sockets, socket: NamespacedSocket
) -> None:
    """The limit of an address is on connections, and the socket is one already."""
    for _ in range(core.limits.max_sessions_per_address - 1):
        core.door.enter(ADDRESS)
        core.door.connected(ADDRESS)
    await say(socket, "/a connect ann e:10 campaign:c1", "/b connect bob e:10 campaign:c1")

    assert [one.state for one in socket.sessions] == [State.LIVE] * 2


async def test_stopping_gateway_waits_for_connections_without_a_session_and_closes_them(
    core: Core, socket: NamespacedSocket
) -> None:
    """A socket is open before its first namespace, and after its last."""
    seen = [core.is_empty]
    await say(socket, "/a connect ann e:10 campaign:c1")
    seen.append(core.is_empty)
    socket.namespaces["/a"].close(GOING_AWAY)
    seen.append(core.is_empty)
    heard_by(ENDS[-1])
    core.close_all(GOING_AWAY)
    seen.append(core.is_empty)

    assert seen == [False, False, False, True]
    assert b"going away" in heard_by(ENDS[-1])


async def test_stopping_gateway_ends_a_shared_socket_with_all_its_sessions(
    core: Core, socket: NamespacedSocket
) -> None:
    """Each session gets its goodbye, and then the socket gets its close frame."""
    await say(socket, "/a connect ann e:10 campaign:c1", "/b connect bob e:10 campaign:c1")
    heard_by(ENDS[-1])
    core.close_all(GOING_AWAY)
    heard = heard_by(ENDS[-1])

    assert core.is_empty
    assert [heard.count(one) for one in (b"/a over 4503", b"/b over 4503", b"going away")] == [1, 1, 1]
    assert heard.endswith(b"going away")


async def test_event_stream_lives_while_its_client_takes_what_is_written(core: Core, sockets: Sockets) -> None:
    """The client cannot answer a ping, so a write that its socket takes is the sign of life."""
    core.door.enter(ADDRESS)
    stream = EventStream(core, sockets, open_descriptor(), address=ADDRESS)
    stream.receive(b"connect cid e:10 campaign:c1")
    await settled()
    for second in range(1, 4 * core.limits.heartbeat_s):
        core.timers.turn(second)

    assert stream.state is State.LIVE


async def test_closed_event_stream_says_why_and_is_dropped_if_its_client_stays(core: Core, sockets: Sockets) -> None:
    """The goodbye is the last that it writes. The door forgets it."""
    core.door.enter(ADDRESS)
    stream = EventStream(core, sockets, open_descriptor(), address=ADDRESS)
    stream.receive(b"connect cid e:10 campaign:c1")
    await settled()
    stream.close(BeaconfireError(errors.TOKEN_INVALID, "the token ran out"))
    deliver(core, 11, b"abc")
    heard = heard_by(ENDS[-1])
    core.timers.turn(60)
    await settled()

    assert heard.endswith(b"event: over\ndata: 4401\n\n")
    assert (stream.target, dict(core.door.addresses)) == (-1, {})


@pytest.mark.parametrize("is_ours", [True, False])
async def test_route_of_another_protocol_upgrades_clients_without_a_subprotocol(
    core: Core, sockets: Sockets, is_ours: bool
) -> None:
    """A real request becomes a socket with sessions, of ours or aiohttp's.

    The answer names no subprotocol, because none was offered. One session ends, and the other one goes on.
    """
    admission = Admission(core, allowed_origins=(), addresses=ClientAddresses(BehindProxies()))
    buffers = WriteBuffers(core.spawn, max_buffer_bytes=65_536)
    opening = WebSocketOpening(core, admission, sockets=sockets if is_ours else None, buffers=buffers)
    app = web.Application()
    app.router.add_get("/ws", partial(handle_namespaced, core, opening))
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with connection(url) as raw:
            raw.write(handshake(url, drop="Sec-WebSocket-Protocol"))
            head = await raw.reader.readuntil(b"\r\n\r\n")
            raw.write(client_frame(b"/a connect ann e:10 campaign:c1"))
            raw.write(client_frame(b"/b connect bob e:10 campaign:c1"))
            heard = [(await raw.frame())[1] for _ in range(2)]
            core.hub.sessions_of("ann")[0].close(BeaconfireError(errors.TOKEN_INVALID, "the token ran out"))
            deliver(core, 11, b"abc")
            heard += [(await raw.frame())[1] for _ in range(2)]
    finally:
        await runner.cleanup()

    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Protocol" not in head
    assert heard == [b"/a connection.ack", b"/b connection.ack", b"/a over 4401", b"/b 11 cba"]
