"""Define the connection of an Engine.IO client, and what carries it.

    client ── carrier ── EngineConnection ── sessions

A connection lives as long as its Engine.IO session. What carries its packets may be replaced: a client that
begins with polling goes on over a WebSocket (`move_to`). Its sessions do not notice. They write the same bytes over any
carrier (`wire.engineio`), and catch up on the new one, as sessions do whose socket was full.
"""

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from aiohttp import web

from beaconfire_gateway.fanout.targets import Target, Writer
from beaconfire_gateway.sessions.connection import MIXED_IN, Carrier, SharedConnection
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.limits import Limits
from beaconfire_gateway.sessions.moving import pack
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.transports import relay
from beaconfire_gateway.transports.any_websocket import CONTROL_PER_MINUTE
from beaconfire_gateway.wire.engineio import PING, InvalidPacket, Packet, PacketType, open_packet
from beaconfire_kit import logs
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.rates import spend

log = logs.get(__name__)

PING_TIMEOUT_S = 20
"""How long a client may take to answer a ping. Socket.IO's own default."""
MAX_POST_BYTES = relay.MAX_BYTES - 1_024
"""A relayed request is one message of the broker."""


def ping_timeout_s(limits: Limits) -> int:
    """Engine.IO's pingTimeout. Its pingInterval is the heartbeat, and no less."""
    return min(PING_TIMEOUT_S, limits.heartbeat_s)


def max_payload(limits: Limits) -> int:
    """Engine.IO's maxPayload: the bytes of a POST."""
    return min(limits.max_frame_bytes, MAX_POST_BYTES)


def first_packet(limits: Limits, sid: str, *, upgrades: Sequence[str] = ()) -> bytes:
    """Return the first packet of a connection, as a frame. It may go over to one of `upgrades`."""
    return open_packet(
        sid,
        upgrades=list(upgrades),
        ping_interval_s=limits.heartbeat_s,
        ping_timeout_s=ping_timeout_s(limits),
        max_payload=max_payload(limits),
    )


class EngineCarrier(Carrier):
    """Carries the packets of one engine connection. A transport mixes in the half towards the client.

    It reports to its connection only while the connection is carried by it. One that is being tried out, and one that
    was replaced, end without a trace. It has no slots: a class that mixes it in has `engine`, `gateway` and `id`.
    """

    __slots__ = MIXED_IN

    engine: "EngineConnection"

    def received(self, packet: Packet) -> None:
        """A packet came. Raises InvalidPacket: the transport ends the connection then, in its own way."""
        self.engine.receive(packet)

    @abstractmethod
    def take(self) -> bytes:
        """Stop carrying, and return the frames that were written to it and have not left."""

    @abstractmethod
    def end(self, error: BeaconfireError | None = None) -> None:
        """Say goodbye after everything that was written before, and end. A stuck peer is not waited for.

        Engine.IO has no place for a reason. A WebSocket's close frame names the error.
        """

    @abstractmethod
    def abort(self) -> None:
        """End at once."""

    @property
    def is_current(self) -> bool:
        """Whether its connection is carried by it."""
        return self.engine.carrier is self

    # connection.Carrier: what a transport calls.

    def heard(self) -> None:
        if self.is_current:
            self.engine.heard()

    def full(self) -> None:
        if self.is_current:
            self.engine.full()

    def drained(self) -> None:
        if self.is_current:
            self.engine.drained()

    def lost(self) -> None:
        if self.is_current:
            self.engine.lost()

    def gone(self) -> None:
        if self.is_current:
            self.engine.gone()

    def close(self, error: BeaconfireError) -> None:
        if self.is_current:
            self.engine.close(error)
        else:
            self.end(error)


class EngineConnection(SharedConnection):
    """See the module. A subclass says what its messages are.

    It pings the client while no session on it does.
    """

    __slots__ = ("_controls_empty_at", "_pinged_at", "_unanswered_since", "carrier")

    carrier: EngineCarrier

    def __init__(self, gateway: Gateway, carrier: EngineCarrier, *, address: str) -> None:
        super().__init__(gateway, address=address)
        self._carry_on(carrier)
        self._controls_empty_at = 0.0
        self._pinged_at = gateway.timers.now
        self._unanswered_since: int | None = None
        gateway.timers.within(self.heartbeat_s, self)

    @abstractmethod
    def on_message(self, data: bytes) -> None:
        """A message of text came. It is valid UTF-8. Raises InvalidPacket if the client broke the protocol."""

    @abstractmethod
    def on_binary(self, data: bytes) -> None:
        """A binary message came. Raises InvalidPacket if the client broke the protocol."""

    # For carriers.

    def receive(self, packet: Packet) -> None:
        """Take a client's packet. Raises InvalidPacket if the client broke the protocol."""
        if packet.type is PacketType.MESSAGE:
            if packet.is_binary:
                self.on_binary(packet.data)
            else:
                self.on_message(packet.data)
            return
        self.spend_control()
        if packet.type is PacketType.PONG:
            self.heard()
        elif packet.type is PacketType.CLOSE:
            self.lost()
            self.carrier.end()
        else:
            raise InvalidPacket(f"a client sends no {packet.type.name.lower()} here")

    def move_to(self, carrier: EngineCarrier) -> None:
        """Go on over another carrier. Nothing is lost, and the order stays."""
        for session in list(self.sessions):
            session.pause()
        before = self.carrier
        self._carry_on(carrier)
        for session in self.sessions:
            session.carried_on(before.transport)
        if data := before.take():
            carrier.write(data)
        self.heard()
        if not self.is_full:
            self.drained()

    def spend_control(self) -> None:
        """Count a packet that no session's limits count. Raises InvalidPacket if there are too many."""
        self._controls_empty_at, wait_s = spend(self._controls_empty_at, 1, CONTROL_PER_MINUTE, time.monotonic())
        if wait_s:
            raise InvalidPacket(f"a client sends at most {CONTROL_PER_MINUTE} packets a minute that are no events")

    # To go on at another process.

    @property
    def users(self) -> list[str] | None:
        """The users of its sessions. None if one of them has not started."""
        users = [session.user_id for session in self.sessions]
        return users if all(users) else None

    async def pack(self) -> dict[str, Any] | None:
        """End its sessions here, and return as JSON what goes on at another process.

        None if that cannot be. Then the connection has to be ended.
        """
        moved = await pack(self.sessions)
        return None if moved is None else {"sessions": [one.encode() for one in moved]}

    @abstractmethod
    def unpack(self, packed: Mapping[str, Any]) -> None:
        """Have the sessions go on here that another process has packed. Call it first."""

    def heard(self) -> None:
        self._unanswered_since = None
        super().heard()

    # timers.Timed.

    def on_timer(self) -> None:
        """Ping while no session does, and end a connection whose client does not answer."""
        if not self.is_open:
            return
        timers, interval_s = self.gateway.timers, self.heartbeat_s
        if not self.is_connected:
            if self._unanswered_since is not None and timers.now - self._unanswered_since >= self.patience_s:
                log.info("no sign of life", connection=self.id)
                self.carrier.abort()
                return
            if timers.now - self._pinged_at >= interval_s:
                self._ping()
        timers.within(min(interval_s, self.patience_s), self)

    def _carry_on(self, carrier: EngineCarrier) -> None:
        self.carrier = carrier
        carrier.engine, carrier.id = self, self.id

    @property
    def is_open(self) -> bool:
        """Whether it has neither ended nor been lost."""
        return bool(self.sessions) or self in self.gateway.connecting

    def _ping(self) -> None:
        self._pinged_at = self.gateway.timers.now
        if self._unanswered_since is None:
            self._unanswered_since = self._pinged_at
        self.write(PING)

    # connection.Connection.

    @property
    def patience_s(self) -> int:
        return ping_timeout_s(self.gateway.limits)

    @property
    def transport(self) -> str:
        return self.carrier.transport

    @property
    def writer(self) -> Writer:
        return self.carrier.writer

    @property
    def target(self) -> Target:
        return self.carrier.target

    @property
    def is_full(self) -> bool:
        return self.carrier.is_full

    def write(self, data: bytes) -> None:
        self.carrier.write(data)

    def ping(self, session: Session, data: bytes = b"") -> None:
        if data:
            self.write(data)
        self._ping()

    def abort(self, session: Session) -> None:
        self.carrier.abort()

    def close(self, error: BeaconfireError) -> None:
        """End it. Its client connects again by itself, as Engine.IO clients do after any end but their own."""
        users = [session.user_id for session in self.sessions if session.user_id]
        log.info("closing connection", connection=self.id, users=users, code=error.close_code, reason=error.message)
        self.lost()
        self.carrier.end(error)


MakeConnection: TypeAlias = Callable[[EngineCarrier, str, web.Request], EngineConnection]
"""(carrier, address, request): the connection of a new client, which the door has counted."""

AdoptConnection: TypeAlias = Callable[[EngineCarrier, str, Mapping[str, Any]], EngineConnection]
"""(carrier, address, packed): the connection of a client that comes from another process, which packed it."""
