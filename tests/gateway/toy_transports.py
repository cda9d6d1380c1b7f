"""Two transports that no client speaks, made of the parts that a real one would use.

`NamespacedSocket` carries several sessions over one WebSocket, as Socket.IO does. `handle_namespaced` is its route.
`EventStream` writes text behind an HTTP head on a socket of ours, as SSE does.
"""

from functools import partial

from aiohttp import web

from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.sessions.connection import SharedConnection, farewell
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.sessions.sole_session import SoleSession
from beaconfire_gateway.transports.aiohttp_websocket_connection import (
    AIOHTTP_SLOTS,
    AiohttpSocket,
    AiohttpWebSocketConnection,
)
from beaconfire_gateway.transports.any_websocket import AnyWebSocket
from beaconfire_gateway.transports.socket_connection import SLOTS as SOCKET_SLOTS
from beaconfire_gateway.transports.socket_connection import SocketConnection
from beaconfire_gateway.transports.sockets import Sockets
from beaconfire_gateway.transports.websocket_connection import SLOTS, WebSocketConnection
from beaconfire_gateway.transports.websocket_opening import WebSocketOpening
from beaconfire_gateway.wire.dialect import Spliced
from beaconfire_gateway.wire.framing import TextFrames
from beaconfire_gateway.wire.messages import Event, Message
from beaconfire_gateway.wire.websocket_frames import encode
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit.errors import BeaconfireError
from tests.gateway.toys import Lined, Words

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


class InNamespace(TextFrames):
    """A framing: each payload is a text frame that starts with the name of a namespace."""

    def __init__(self, name: str) -> None:
        self._name = name.encode()

    def frame(self, payload: Spliced, content: object) -> Spliced:
        before, body, after = payload
        return super().frame((self._name + b" " + before, body, after), content)


NAMESPACES = {name: Wire(Words(), InNamespace(name)) for name in ("/a", "/b")}


class Namespaced(AnyWebSocket, SharedConnection):
    """A WebSocket whose messages name the session that they are for: `/a connect ann e:10 campaign:c1`.

    This is what is the same on a socket of ours and on aiohttp's.
    """

    __slots__ = ("namespaces",)

    def __init__(self, gateway: Gateway, *, address: str) -> None:
        self.namespaces: dict[str, Session] = {}
        super().__init__(gateway, address=address)

    def on_text(self, payload: bytes) -> None:
        name, _, message = payload.decode().partition(" ")
        if name not in self.namespaces:
            self.namespaces[name] = Lined(NAMESPACES[name], self)
        self.namespaces[name].receive(message.encode())

    def hang_up(self, session: Session, error: BeaconfireError | None) -> None:
        """End a namespace. The socket stays open for others."""
        name = next(name for name, one in self.namespaces.items() if one is session)
        del self.namespaces[name]
        self.write(encode(f"{name} over {farewell(error)[0]}".encode()))

    def close(self, error: BeaconfireError) -> None:
        self.lost()
        self._close(*farewell(error))


class NamespacedSocket(WebSocketConnection, Namespaced):
    """On a socket of ours."""

    __slots__ = SLOTS

    def __init__(self, gateway: Gateway, sockets: Sockets, descriptor: int, *, address: str) -> None:
        self._serve_websocket(sockets, descriptor, inflates=False)
        super().__init__(gateway, address=address)


class AiohttpNamespacedSocket(AiohttpWebSocketConnection, Namespaced):
    """On a socket that aiohttp serves."""

    __slots__ = AIOHTTP_SLOTS

    def __init__(self, gateway: Gateway, socket: AiohttpSocket, *, address: str) -> None:
        self._serve_aiohttp(socket)
        super().__init__(gateway, address=address)


async def handle_namespaced(gateway: Gateway, opening: WebSocketOpening, request: web.Request) -> web.StreamResponse:
    """The route of `NamespacedSocket`. Its clients offer no subprotocol."""
    accept = opening.check(request)
    return await opening.open(
        request, accept, ours=partial(NamespacedSocket, gateway), aiohttps=partial(AiohttpNamespacedSocket, gateway)
    )


class Lines:
    """A framing: SSE's lines, with an event's cursor and type beside its payload."""

    def frame(self, payload: Spliced, content: Message | Event) -> Spliced:
        before, body, after = payload
        head = f"id: {content.cursor}\nevent: {content.type}\n" if isinstance(content, Entry) else ""
        return head.encode() + b"data: " + before, body, after + b"\n\n"


LINES = Wire(Words(), Lines())


class EventStream(SocketConnection, SoleSession):
    """The answer to a request, which ends only with its session. Its client cannot answer a ping."""

    __slots__ = SOCKET_SLOTS

    transport = "stream"

    def __init__(self, gateway: Gateway, sockets: Sockets, descriptor: int, *, address: str) -> None:
        self._serve(sockets, descriptor)
        super().__init__(gateway, LINES, address=address)
        self.write(HEAD)

    def data_received(self, data: bytes) -> None:
        """Ignore the bytes, because a client sends nothing after its request."""

    def ping(self, session: Session, data: bytes = b"") -> None:
        self.write(b":\n\n" + data)
        if not self.is_full:
            self.heard()

    def hang_up(self, session: Session, error: BeaconfireError | None) -> None:
        self._say_goodbye(b"event: over\ndata: %d\n\n" % farewell(error)[0])
