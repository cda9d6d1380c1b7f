"""Let a client that polls go over to a WebSocket.

    TRYING ── 2probe ─▶ ASKED ─▶ 3probe, PROBED ── 5 ─▶ MOVING ─▶ the WebSocket carries its connection

A client polls on while it tries out a WebSocket, and pauses after `3probe`. So the process that has its connection lets
no poll wait from `2probe` on. After `5` the connection goes over with all that is not yet written.
"""

from enum import IntEnum
from functools import partial

from aiohttp import web

from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.timers import Call
from beaconfire_gateway.transports.aiohttp_websocket_connection import AiohttpSocket
from beaconfire_gateway.transports.socket_connection import MIXED_IN
from beaconfire_gateway.transports.socketio.answers import UNKNOWN_SID
from beaconfire_gateway.transports.socketio.connection import EngineCarrier
from beaconfire_gateway.transports.socketio.polling import Polling
from beaconfire_gateway.transports.socketio.polling_carrier import UPGRADE_TIMEOUT_S
from beaconfire_gateway.transports.socketio.websocket_carrier import AiohttpWebSocketCarrier, WebSocketCarrier
from beaconfire_gateway.transports.sockets import Sockets
from beaconfire_gateway.transports.websocket_opening import WebSocketOpening
from beaconfire_gateway.wire.engineio import PROBE, InvalidPacket, Packet, PacketType
from beaconfire_gateway.wire.websocket_frames import encode
from beaconfire_kit import errors, logs
from beaconfire_kit.errors import BeaconfireError

log = logs.get(__name__)

_ANSWER = encode(b"%d" % PacketType.PONG + PROBE)
MAX_EARLY = 100
MAX_EARLY_BYTES = 65_536
"""Of what a client sends while its connection goes over."""
_NO_UPGRADE = BeaconfireError(errors.UNAVAILABLE, "the connection cannot go over to this WebSocket")


class Step(IntEnum):
    TRYING = 0
    ASKED = 1
    PROBED = 2
    MOVING = 3
    OVER = 4


class Upgrading(EngineCarrier):
    """A carrier that a client tries out first. `attempt` is None from when it carries the connection."""

    __slots__ = MIXED_IN

    attempt: "Attempt | None"

    def received(self, packet: Packet) -> None:
        if self.attempt is None:
            super().received(packet)
        else:
            self.attempt.received(packet)

    @property
    def is_current(self) -> bool:
        return self.attempt is None and super().is_current

    def gone(self) -> None:
        if self.attempt is None:
            super().gone()
        else:
            self.attempt.lost()


class UpgradingWebSocket(Upgrading, WebSocketCarrier):
    """On a socket of ours."""

    __slots__ = ("attempt",)


class UpgradingAiohttpWebSocket(Upgrading, AiohttpWebSocketCarrier):
    """On a socket that aiohttp serves."""

    __slots__ = ("attempt",)


class Upgrades:
    """Answers requests for a WebSocket that name a connection which polls. One for each gateway process."""

    def __init__(self, gateway: Gateway, opening: WebSocketOpening, polling: Polling) -> None:
        self.gateway = gateway
        self._opening = opening
        self._polling = polling

    async def handle(self, request: web.Request, sid: str) -> web.StreamResponse:
        """The handler. The caller has checked the request's version. Raises as `WebSocketOpening.open`."""
        if sid not in self._polling.carriers:
            return UNKNOWN_SID.response()
        accept = self._opening.check(request)
        ours, aiohttps = partial(self._ours, sid), partial(self._aiohttps, sid)
        return await self._opening.open(request, accept, ours=ours, aiohttps=aiohttps)

    def _ours(self, sid: str, sockets: Sockets, descriptor: int, /, *, address: str) -> UpgradingWebSocket:
        carrier = UpgradingWebSocket(self.gateway, sockets, descriptor)
        Attempt(self, carrier, sid, address)
        return carrier

    def _aiohttps(self, sid: str, socket: AiohttpSocket, /, *, address: str) -> UpgradingAiohttpWebSocket:
        carrier = UpgradingAiohttpWebSocket(self.gateway, socket)
        Attempt(self, carrier, sid, address)
        return carrier

    # For attempts.

    async def begin(self, sid: str) -> bool:
        """Let no poll of the connection wait. False if it cannot go over now."""
        polling = self._polling.carriers.get(sid)
        return polling is not None and polling.begin_upgrade()

    def end(self, sid: str) -> None:
        """Let polls wait again: the client does not go over."""
        polling = self._polling.carriers.get(sid)
        if polling is not None:
            polling.end_upgrade()

    async def move(self, sid: str, carrier: Upgrading, address: str) -> bool:
        """Have the connection carried by a WebSocket, which the door has counted. False if that cannot be."""
        polling = self._polling.carriers.get(sid)
        if polling is None or not polling.is_open:
            return False
        carrier.attempt = None
        polling.engine.move_to(carrier)
        self.gateway.door.leave(address, was_connected=False)  # the connection was counted when it began to poll
        return True


class Attempt:
    """A WebSocket that is tried out for a connection."""

    def __init__(self, upgrades: Upgrades, carrier: Upgrading, sid: str, address: str) -> None:
        self._upgrades = upgrades
        self._gateway = upgrades.gateway
        self._carrier = carrier
        self._sid = sid
        self._address = address
        self._step = Step.TRYING
        self._early: list[Packet] = []
        carrier.attempt = self
        carrier.id = "tried out"
        self._gateway.connecting.add(carrier)
        self._gateway.timers.after(UPGRADE_TIMEOUT_S, Call(self._expire))

    def received(self, packet: Packet) -> None:
        """Take a packet. Raises InvalidPacket."""
        if self._step is Step.TRYING and packet == Packet(PacketType.PING, PROBE):
            self._step = Step.ASKED
            self._gateway.spawn(self._ask())
        elif self._step is Step.PROBED and packet.type is PacketType.UPGRADE:
            self._step = Step.MOVING
            self._gateway.spawn(self._move())
        elif self._step is Step.MOVING:
            self._early.append(packet)
            if len(self._early) > MAX_EARLY or sum(len(one.data) for one in self._early) > MAX_EARLY_BYTES:
                raise InvalidPacket("too many packets before the upgrade is done")
        else:
            raise InvalidPacket("a WebSocket for an upgrade begins with the packets 2probe and 5")

    def lost(self) -> None:
        """The WebSocket is gone. The connection polls on, unless it has gone over."""
        if self._step is Step.OVER:
            return
        if self._step is not Step.TRYING:
            self._upgrades.end(self._sid)
        self._over()
        self._gateway.door.leave(self._address, was_connected=False)

    async def _ask(self) -> None:
        can = await self._upgrades.begin(self._sid)
        if self._step is not Step.ASKED:
            return
        if can:
            self._step = Step.PROBED
            self._carrier.write(_ANSWER)
        else:
            self._carrier.end(_NO_UPGRADE)

    async def _move(self) -> None:
        has_moved = await self._upgrades.move(self._sid, self._carrier, self._address)
        if self._step is not Step.MOVING:
            return
        if not has_moved:
            self._carrier.end(_NO_UPGRADE)
            return
        self._over()
        try:
            for packet in self._early:
                self._carrier.received(packet)
        except InvalidPacket as broken:
            self._carrier.close(BeaconfireError(errors.BAD_REQUEST, str(broken)))

    def _expire(self) -> None:
        if self._step is not Step.OVER:
            self._carrier.end(BeaconfireError(errors.TIMEOUT, f"no upgrade within {UPGRADE_TIMEOUT_S} s"))

    def _over(self) -> None:
        self._step = Step.OVER
        self._gateway.connecting.discard(self._carrier)
