"""The gateway's core without a process around it, and connections over real sockets to it."""

import asyncio
import json
import os
import socket
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from beaconfire_gateway.fanout.hub import Hub
from beaconfire_gateway.fanout.outbound import BATCH_BYTES, Outbound
from beaconfire_gateway.fanout.ring import Ring
from beaconfire_gateway.fanout.wires import Wires
from beaconfire_gateway.sessions import requests
from beaconfire_gateway.sessions.context import Access, Context, History
from beaconfire_gateway.sessions.limits import Doorkeeper, Limits, Users
from beaconfire_gateway.sessions.pace import Pace
from beaconfire_gateway.sessions.place import Place
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.sessions.timers import Wheel
from beaconfire_gateway.transports.sockets import Sockets
from beaconfire_gateway.transports.websocket import Connection
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import Pair, RoomKey, parse_room
from beaconfire_kit.tokens import Claims
from tests.websocket import client_frame

C1 = Pair("campaign", "c1")
PLACE = Place(RoomKey(C1, C1), Role.VIEWER)
ENDS: list[int] = []
"""The clients' ends of the connections, open until the test is over."""


class Open:
    """Lets every client in, as the user that the token names, and into every room."""

    async def verify(self, token: str) -> Claims:
        return Claims(token, "", int(time.time()), int(time.time()) + 900, "")

    async def decide(self, _claims: Claims, rooms: Sequence[str]) -> Mapping[str, Place | BeaconfireError]:
        return dict.fromkeys(rooms, PLACE)


class Recorder(Sockets):
    """Real sockets that also keep what was written to them, as the objects that were written."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.written: dict[int, list[bytes]] = {}

    def write(self, descriptor: int, data: bytes) -> None:
        self.written.setdefault(descriptor, []).append(data)
        super().write(descriptor, data)


def build_core(
    wires: Wires,
    *,
    call_soon: Callable[[Callable[[], None]], object],
    spawn: Callable[[Coroutine[Any, Any, None]], object],
    access: Access | None = None,
    history: History | None = None,
    hub: Hub[Session] | None = None,
    ring: Ring | None = None,
    limits: Limits | None = None,
    batch_bytes: int = BATCH_BYTES,
    epoch: str = "",
) -> Context[Session]:
    """Build the core that every unit test of it uses. Without `history`, a test must not resume from the stream."""
    hub = Hub() if hub is None else hub
    limits = Limits() if limits is None else limits
    return Context(
        hub=hub,
        ring=Ring(max_bytes=1_000_000, max_age_s=60) if ring is None else ring,  # an empty one is falsy
        outbound=Outbound(hub, wires, call_soon, batch_bytes=batch_bytes),
        access=Open() if access is None else access,
        history=history,  # type: ignore[arg-type]
        handle=requests.handle,
        wheel=Wheel(0),
        spawn=spawn,
        pace=Pace(call_soon),
        limits=limits,
        users=Users(limits),
        door=Doorkeeper(limits),
        epoch=epoch,
    )


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
    found = parse_room(room).key
    assert found is not None
    return found


def open_connection(context: Context[Session], offered_token: str = "") -> Connection:
    """A connection over a socket pair; a test may read its other end, the last of `ENDS`."""
    sockets: Any = context.outbound._wires
    context.door.enter("an address")
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    ENDS.append(theirs.detach())
    return Connection(context, sockets, ours.detach(), address="an address", offered_token=offered_token)


def close_ends() -> None:
    while ENDS:
        os.close(ENDS.pop())


def heard_by(end: int) -> bytes:
    """What has arrived at a client's end."""
    try:
        return os.read(end, 65_536)
    except BlockingIOError:
        return b""


async def connect(
    context: Context[Session], count: int, cursor: str | None = None, prefix: str = "u"
) -> list[Connection]:
    """Connect sessions of as many users, each in one room, at a cursor if one is given."""
    connections = []
    for number in range(count):
        connection = open_connection(context)
        hello = {"type": "connect", "id": 1, "token": f"{prefix}{number}", "rooms": ["campaign:c1"], "cursor": cursor}
        connection.data_received(client_frame(json.dumps(hello).encode()))
        connections.append(connection)
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0)
    await asyncio.sleep(0)  # a task is forgotten a turn after its end
    return connections


def written(connection: Connection) -> list[bytes]:
    """What was written to this connection alone."""
    sockets: Any = connection._sockets
    return list(sockets.written.get(connection.target, ()))
