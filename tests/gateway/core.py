"""The gateway's core without a process around it, and connections over real sockets to it."""

import asyncio
import json
import os
import socket
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from beaconfire_gateway.fanout.conflation import HELD_BEHIND, MAX_HELD_BYTES
from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.hub import Hub
from beaconfire_gateway.fanout.outbound import BATCH_BYTES, SLICE
from beaconfire_gateway.fanout.ring import Ring
from beaconfire_gateway.fanout.route import Route
from beaconfire_gateway.sessions import requests
from beaconfire_gateway.sessions.fair_queue import STEPS
from beaconfire_gateway.sessions.gateway import Access, Gateway, History
from beaconfire_gateway.sessions.limits import Limits
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.sessions.subscription import Subscription
from beaconfire_gateway.transports.sockets import Sockets
from beaconfire_gateway.transports.websocket import WebSocket
from beaconfire_gateway.wire import websocket_frames
from beaconfire_gateway.wire.dialect import Spliced
from beaconfire_gateway.wire.messages import Event, Message
from beaconfire_gateway.wire.native import Native
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import Pair, RoomKey, parse_room
from beaconfire_kit.tokens import Claims
from tests.gateway.catalogues import Fixed
from tests.websocket import client_frame

C1 = Pair("campaign", "c1")
SUBSCRIPTION = Subscription(RoomKey(C1, C1), Role.VIEWER)
ROUTE = Route("campaign.c1.state", (SUBSCRIPTION.room,))
"""Of an event in the room `campaign:c1`."""
ENDS: list[int] = []
"""The clients' ends of the connections, open until the test is over."""
SOCKETS: WeakKeyDictionary[Gateway, Sockets] = WeakKeyDictionary()
"""The sockets of each core that has some."""


class Open:
    """Lets every client in, as the user that the token names, and into every room."""

    async def verify(self, token: str) -> Claims:
        return Claims(token, "", int(time.time()), int(time.time()) + 900, "")

    async def decide(self, _claims: Claims, rooms: Sequence[str]) -> Mapping[str, Subscription | BeaconfireError]:
        return dict.fromkeys(rooms, SUBSCRIPTION)

    async def roots(self, _claims: Claims, _kind: str) -> Sequence[str]:
        return ()

    async def reconsider(self, session: Session, claims: Claims) -> None: ...

    def doubt(self, user_id: str | None = None) -> None: ...


class Empty:
    """A stream without events."""

    async def page(self, _roots: Iterable[Pair], _after: int, _ring: Ring) -> tuple[Sequence[Entry], int]:
        return (), 0

    async def end(self) -> int:
        return 0

    def start(self, epoch: str) -> None: ...
    def lose(self, offset: int) -> None: ...
    def forget(self) -> None: ...


class Verbatim(Native):
    """The native protocol, except that an event is only its body. So a test chooses the bytes."""

    def encode(self, message: Message) -> bytes:
        return websocket_frames.encode(super().encode(message))

    def event(self, event: Event) -> Spliced:
        return b"", event.body, b""


class Unframed:
    """Adds nothing."""

    def frame(self, payload: Spliced, content: Message | Event) -> Spliced:
        return payload


VERBATIM = Wire(Verbatim(), Unframed())


class Recorder(Sockets):
    """Real sockets that also keep what was written to them, as the objects that were written."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.written: dict[int, list[bytes]] = {}

    def write(self, descriptor: int, data: bytes) -> None:
        self.written.setdefault(descriptor, []).append(data)
        super().write(descriptor, data)


def build_core(
    *,
    call_soon: Callable[[Callable[[], None]], object],
    call_later: Callable[[float, Callable[[], None]], object] = lambda _seconds, _callback: None,
    spawn: Callable[[Coroutine[Any, Any, None]], object],
    access: Access | None = None,
    history: History | None = None,
    hub: Hub[Session] | None = None,
    ring_bytes: int = 1_000_000,
    limits: Limits | None = None,
    batch_bytes: int = BATCH_BYTES,
    slice_sessions: int = SLICE,
    held_behind: int = HELD_BEHIND,
    max_held_bytes: int = MAX_HELD_BYTES,
    steps_per_turn: int = STEPS,
    epoch: str = "",
) -> Gateway:
    """Build the core that every unit test of it uses. Its history is empty unless one is given."""
    core = Gateway(
        access=access or Open(),
        history=history or Empty(),
        catalogue=Fixed(),
        handle=requests.handle,
        call_soon=call_soon,
        call_later=call_later,
        spawn=spawn,
        limits=limits or Limits(),
        hub=hub,
        ring_bytes=ring_bytes,
        batch_bytes=batch_bytes,
        slice_sessions=slice_sessions,
        held_behind=held_behind,
        max_held_bytes=max_held_bytes,
        steps_per_turn=steps_per_turn,
        now=0,
    )
    core.epoch = epoch
    return core


def started_core(limits: Limits | None = None) -> Gateway:
    """The core on the running loop, with a stream that is at offset 10."""
    loop = asyncio.get_running_loop()
    core = build_core(call_soon=loop.call_soon, spawn=spawning(loop), limits=limits)
    core.begin("e", 10)
    return core


def deliver(core: Gateway, offset: int, body: bytes = b"body") -> Entry:
    """Deliver an event to the room `campaign:c1`, as the intake does."""
    entry = Entry(offset, ROUTE, body, 0.0, epoch=core.epoch, type="state_invalidated")
    core.ring.append(entry)
    core.outbound.put(offset, entry)
    core.reach(offset)
    return entry


async def settled() -> None:
    """Wait until a client that has just said something is answered, and what was delivered is written."""
    for _ in range(50):
        await asyncio.sleep(0)


def spawning(loop: asyncio.AbstractEventLoop) -> Callable[[Coroutine[Any, Any, None]], None]:
    """A `spawn` that holds its tasks until they are done."""
    tasks: set[asyncio.Task[None]] = set()

    def spawn(coroutine: Coroutine[Any, Any, None]) -> None:
        task = loop.create_task(coroutine)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return spawn


def key(room: str) -> RoomKey:
    """The key of a room that names its root."""
    found = parse_room(room).key(("campaign", "workspace", "user"))
    assert found is not None
    return found


def open_connection(core: Gateway, offered_token: str = "", *, made: type[WebSocket] = WebSocket) -> WebSocket:
    """A connection over a socket pair; a test may read its other end, the last of `ENDS`."""
    core.door.enter("an address")
    return made(core, VERBATIM, SOCKETS[core], open_descriptor(), address="an address", offered_token=offered_token)


def open_descriptor() -> int:
    """The gateway's end of a socket pair. The client's end is the last of `ENDS`."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    ENDS.append(theirs.detach())
    return ours.detach()


def close_ends() -> None:
    while ENDS:
        os.close(ENDS.pop())


def heard_by(end: int) -> bytes:
    """The bytes that arrived at a client's end."""
    try:
        return os.read(end, 65_536)
    except BlockingIOError:
        return b""


async def connect(core: Gateway, count: int, cursor: str | None = None, prefix: str = "u") -> list[WebSocket]:
    """Connect sessions of as many users, each in one room, at a cursor if one is given."""
    connections = []
    for number in range(count):
        connection = open_connection(core)
        hello = {"type": "connect", "id": 1, "token": f"{prefix}{number}", "rooms": ["campaign:c1"], "cursor": cursor}
        connection.data_received(client_frame(json.dumps(hello).encode()))
        connections.append(connection)
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0)
    await asyncio.sleep(0)  # a task is forgotten a turn after its end
    return connections


def written(connection: WebSocket) -> list[bytes]:
    """The bytes written to this connection alone."""
    sockets: Any = connection._sockets
    return list(sockets.written.get(connection.target, ()))
