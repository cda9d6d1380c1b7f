"""The connection of a Socket.IO client: it reads packets, and has a session for each namespace that the client is in.

    CONNECT ─▶ session, whose dialect is the namespace's      EVENT ─▶ the session of its namespace

How a session ends for its client depends on what helps. Socket.IO clients connect again by themselves when their
connection ends, to all namespaces and with a newer token if their application provides one. They do not come back to a
namespace that they were put out of, or not let into. So the connection ends if the client may succeed then. Otherwise
the client leaves this namespace alone, and stays in others.
"""

import base64
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.moving import Moved, unpack
from beaconfire_gateway.sessions.session import Session, State
from beaconfire_gateway.sessions.timers import Call
from beaconfire_gateway.transports.admission import offered_token
from beaconfire_gateway.transports.socketio.connection import EngineCarrier, EngineConnection
from beaconfire_gateway.transports.socketio.recovery import Recovery
from beaconfire_gateway.transports.socketio.session import Namespace, SocketIOSession
from beaconfire_gateway.wire.engineio import SEPARATOR, InvalidPacket, message
from beaconfire_gateway.wire.messages import Error, InvalidMessage
from beaconfire_gateway.wire.socketio import MAIN, SocketIO
from beaconfire_gateway.wire.socketio_packets import (
    Packet,
    PacketType,
    decode,
    encode_connect_error,
    encode_disconnect,
)
from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError, Retry


class Namespaces:
    """The namespaces that a gateway serves. The main one is always there. `speaks` makes the dialect of each."""

    def __init__(
        self,
        gateway: Gateway,
        recovery: Recovery | None,
        names: tuple[str, ...],
        speaks: Callable[[str], SocketIO] = SocketIO,
    ) -> None:
        self._gateway = gateway
        self._by_name = {name: Namespace(speaks(name), recovery) for name in (MAIN, *names)}

    def get(self, name: str) -> Namespace | None:
        return self._by_name.get(name)

    def connect(self, carrier: EngineCarrier, address: str, request: web.Request) -> "SocketIOConnection":
        """Make the connection of a new client, which the door has counted under `address`."""
        token = offered_token(request)
        return SocketIOConnection(self._gateway, carrier, self, address=address, offered_token=token)

    def adopt(self, carrier: EngineCarrier, address: str, packed: Mapping[str, Any]) -> "SocketIOConnection":
        """Make the connection of a client that comes from another process, with what `SocketIOConnection.pack` gave."""
        connection = SocketIOConnection(self._gateway, carrier, self, address=address, offered_token="")
        connection.unpack(packed)
        return connection


class Incomplete:
    """A packet that waits for its attachments. Its data becomes a payload, as that of a poll (`engineio`)."""

    __slots__ = ("_awaited", "_bytes", "_parts", "packet")

    def __init__(self, packet: Packet, data: bytes) -> None:
        self.packet = packet
        self._parts = [data]
        self._bytes = len(data)
        self._awaited = packet.attachments

    def add(self, attachment: bytes, *, at_most: int) -> None:
        """Add the next attachment. Raises InvalidPacket if they have more than `at_most` bytes with the packet."""
        self._parts.append(b"b" + base64.b64encode(attachment))
        self._bytes += len(attachment)
        self._awaited -= 1
        if self._bytes > at_most:
            raise InvalidPacket(f"a packet and its attachments have at most {at_most} bytes")

    @property
    def is_whole(self) -> bool:
        return not self._awaited

    @property
    def data(self) -> bytes:
        """The packet, and its attachments in Base64 behind it."""
        return SEPARATOR.join(self._parts)


class SocketIOConnection(EngineConnection):
    """See the module."""

    __slots__ = ("_idle_since", "_incomplete", "_namespaces", "_served", "offered_token")

    def __init__(
        self,
        gateway: Gateway,
        carrier: EngineCarrier,
        namespaces: Namespaces,
        *,
        address: str,
        offered_token: str,
    ) -> None:
        super().__init__(gateway, carrier, address=address)
        self.offered_token = offered_token
        self._served = namespaces
        # None for one that the gateway has put it out of: the client may not have noticed yet.
        self._namespaces: dict[str, SocketIOSession | None] = {}
        self._incomplete: Incomplete | None = None
        self._idle_since = gateway.timers.now
        self._watch_idle()

    # connection.EngineConnection.

    def on_message(self, data: bytes) -> None:
        if self._incomplete is not None:
            raise InvalidPacket("attachments of the packet before are missing")
        packet = decode(data)
        if packet.attachments:
            self._incomplete = Incomplete(packet, data)
        else:
            self._take(packet, data)

    def on_binary(self, data: bytes) -> None:
        incomplete = self._incomplete
        if incomplete is None:
            raise InvalidPacket("no packet waits for an attachment")
        incomplete.add(data, at_most=self.gateway.limits.max_frame_bytes)
        if incomplete.is_whole:
            self._incomplete = None
            self._take(incomplete.packet, incomplete.data)

    def _take(self, packet: Packet, data: bytes) -> None:
        name = packet.namespace
        if packet.type is PacketType.CONNECT:
            self._open(name, packet.data or {})
            return
        if name not in self._namespaces:
            raise InvalidPacket("the first packet of a namespace is CONNECT")
        session = self._namespaces[name]
        if session is None:
            self.spend_control()
        elif packet.type in (PacketType.EVENT, PacketType.BINARY_EVENT):
            session.receive(data)
        elif packet.type is PacketType.DISCONNECT:
            self.spend_control()
            del self._namespaces[name]
            session.lost()
            self.gateway.spawn(session.forget())
        else:
            self.spend_control()  # an acknowledgement: the gateway asks for none

    def _open(self, name: str, auth: Mapping[str, Any]) -> None:
        self.spend_control()
        before = self._namespaces.get(name)
        if before is not None and before.state is not State.CLOSED:
            raise InvalidPacket("the client is in this namespace already")
        namespace = self._served.get(name)
        if namespace is None:
            self.write(message(encode_connect_error(name, "Invalid namespace")))
            return
        session = self._namespaces[name] = SocketIOSession(self, namespace, auth, offered_token=self.offered_token)
        try:
            request = namespace.dialect.decode_connect(auth)
        except InvalidMessage as problem:
            session.close(problem)
        else:
            self.gateway.handle(session, request)

    # To go on at another process.

    async def pack(self) -> dict[str, Any] | None:
        packed = await super().pack()
        ended = {session.id: session for session in self._namespaces.values() if session is not None}
        sessions = [ended[one["id"]] for one in packed["sessions"]] if packed else []
        return packed and {
            **packed,
            "namespaces": [session.namespace.name for session in sessions],
            "records": [session.packed_record() for session in sessions],
            "putOut": [name for name, session in self._namespaces.items() if session is None],
            "incomplete": self._incomplete and self._incomplete.data.decode(),
        }

    def unpack(self, packed: Mapping[str, Any]) -> None:
        self._namespaces = dict.fromkeys(packed["putOut"])
        for name, moved, record in zip(packed["namespaces"], packed["sessions"], packed["records"], strict=True):
            namespace = self._served.get(name)
            if namespace is None:  # the gateways are being configured anew
                self._put_out(name)
                self._namespaces[name] = None
            else:
                session = self._namespaces[name] = SocketIOSession(self, namespace, {}, offered_token="")
                session.adopt_record(record)
                unpack(session, Moved.decode(moved))
        if packed["incomplete"] is not None:
            packet, *attachments = packed["incomplete"].encode().split(SEPARATOR)
            self.on_message(packet)
            for attachment in attachments:
                self.on_binary(base64.b64decode(attachment[1:]))

    # Its end.

    def ended(self, session: Session) -> None:
        assert isinstance(session, SocketIOSession)
        super().ended(session)
        session.release_record()
        if not self.sessions:
            self._idle_since = self.gateway.timers.now
            self._watch_idle()

    def _watch_idle(self) -> None:
        self.gateway.timers.after(self.gateway.limits.connect_timeout_s, Call(self._check_idle))

    def _check_idle(self) -> None:
        limit = self.gateway.limits.connect_timeout_s
        if self.is_open and not self.sessions and self.gateway.timers.now - self._idle_since >= limit:
            self.close(BeaconfireError(errors.TIMEOUT, f"in no namespace for {limit} s"))

    def hang_up(self, session: Session, error: BeaconfireError | None) -> None:
        assert isinstance(session, SocketIOSession)
        name, was_in = session.namespace.name, bool(session.user_id)
        if self._namespaces.get(name) is session:
            self._namespaces[name] = None
        if error is None:
            self._put_out(name)
        elif was_in:
            self.write(session.wire.encode(Error(None, error)))
            if error.code.retry is Retry.NO:
                self._put_out(name)
            else:
                self.lost()
                self.carrier.end(error)
        elif error.code.retry is Retry.BACKOFF and not self.sessions:
            self.carrier.end(error)
        else:
            self.write(message(encode_connect_error(name, error.message, error.body())))

    def _put_out(self, name: str) -> None:
        self.write(message(encode_disconnect(name)))
