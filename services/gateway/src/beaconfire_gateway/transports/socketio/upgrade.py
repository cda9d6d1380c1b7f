"""Let a client that polls go over to a WebSocket.

    TRYING ── 2probe ─▶ ASKED ─▶ 3probe, PROBED ── 5 ─▶ MOVING ─▶ the WebSocket carries its connection

A client polls on while it tries out a WebSocket, and pauses after `3probe`. So the process that has its connection lets
no poll wait from `2probe` on. After `5` the connection goes over with all that is not yet written.

The WebSocket may be at another process. Then the connection ends at the first one and goes on at the other, with its
sessions (`sessions.moving`). An upgrade that fails after `5` ends the connection, and its client connects again.
"""

import asyncio
import json
import zlib
from collections.abc import Coroutine
from enum import IntEnum
from functools import partial
from typing import Any

from aiohttp import web

from beaconfire_gateway.sessions.connection import MIXED_IN
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.moving import AGAIN_S, TRIES
from beaconfire_gateway.sessions.timers import Call
from beaconfire_gateway.transports.aiohttp_websocket_connection import AiohttpSocket
from beaconfire_gateway.transports.socketio.answers import UNKNOWN_SID
from beaconfire_gateway.transports.socketio.connection import AdoptConnection, EngineCarrier
from beaconfire_gateway.transports.socketio.polling_carrier import UPGRADE_TIMEOUT_S, Carriers, PollingCarrier
from beaconfire_gateway.transports.socketio.questions import Asked, Questions
from beaconfire_gateway.transports.socketio.sealed import process_of
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


BEGIN, END, MOVE = "upgrade", "stay", "move"
"""The calls between processes."""
BEGIN_S = 5.0
MOVE_S = 8.0


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
    def is_tried(self) -> bool:
        """Whether its client tries it out, and has not left."""
        return self.attempt is not None and not self.attempt.is_over

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

    def __init__(
        self,
        gateway: Gateway,
        opening: WebSocketOpening,
        carriers: Carriers,
        questions: Questions,
        adopt: AdoptConnection,
    ) -> None:
        self.gateway = gateway
        self._opening = opening
        self._carriers = carriers
        self._questions = questions
        self._adopt = adopt
        questions.answers(BEGIN, self._answer_begin)
        questions.answers(END, _answer_end)
        questions.answers(MOVE, self._answer_move)

    async def handle(self, request: web.Request, sid: str) -> web.StreamResponse:
        """The handler. The caller has checked the request's version. Raises as `WebSocketOpening.open`."""
        owner = process_of(sid)
        if owner is None or (owner == self.gateway.process_id and self._carriers.get(sid) is None):
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

    async def begin(self, sid: str, address: str) -> bool:
        """Let no poll of the connection wait. False if it cannot go over now to a WebSocket from this address."""
        carrier = self._carriers.get(sid)
        if carrier is not None:
            return carrier.begin_upgrade()
        if self.gateway.goaways is not None:  # it would have to leave again soon
            return False
        answer = await self._questions.ask(sid, BEGIN, b"", timeout_s=BEGIN_S)
        if answer is None:
            return False
        if all(map(self._has_room, json.loads(answer))) and not self.gateway.door.is_full(address, replaced=None):
            return True
        self.end(sid)
        return False

    def end(self, sid: str) -> None:
        """Let polls wait again: the client does not go over."""
        carrier = self._carriers.get(sid)
        if carrier is not None:
            carrier.end_upgrade()
        elif process_of(sid) != self.gateway.process_id:
            self.gateway.spawn(self._end_elsewhere(sid))

    async def move(self, sid: str, carrier: Upgrading, address: str) -> bool:
        """Have the connection carried by a WebSocket, which the door has counted. False if that cannot be."""
        polling = self._carriers.get(sid)
        if polling is None:
            return await self._fetch(sid, carrier, address)
        if not polling.is_open:
            return False
        carrier.attempt = None
        polling.engine.move_to(carrier)
        self.gateway.door.leave(address, was_connected=False)  # the connection was counted when it began to poll
        return True

    def _has_room(self, user_id: str) -> bool:
        """Whether a session of this user may come here."""
        return len(self.gateway.hub.sessions_of(user_id)) < self.gateway.limits.max_sessions_per_user

    async def _end_elsewhere(self, sid: str) -> None:
        await self._questions.ask(sid, END, b"", timeout_s=BEGIN_S)

    async def _fetch(self, sid: str, carrier: Upgrading, address: str) -> bool:
        """Have a connection of another process go on here."""
        answer = await self._questions.ask(sid, MOVE, b"", timeout_s=MOVE_S)
        if not answer or not carrier.is_tried:
            return False
        packed, _, frames = zlib.decompress(answer).partition(b"\n")
        engine = self._adopt(carrier, address, json.loads(packed))
        carrier.attempt = None
        carrier.write(frames)
        engine.heard()
        return True

    # For other processes.

    def _answer_begin(self, carrier: PollingCarrier, asked: Asked) -> None:
        self.gateway.spawn(_answering(asked, self._begin_for(carrier, asked)))

    def _answer_move(self, carrier: PollingCarrier, asked: Asked) -> None:
        self.gateway.spawn(_answering(asked, self._move_for(carrier, asked)))

    async def _begin_for(self, carrier: PollingCarrier, asked: Asked) -> None:
        """Answer with the users of the connection. A client tries out a WebSocket while its token is being verified."""
        for _ in range(TRIES):
            if carrier.engine.users is not None:
                break
            await asyncio.sleep(AGAIN_S)
        users = carrier.engine.users
        if users is None or not carrier.begin_upgrade():
            asked.fail()
        else:
            asked.answer(json.dumps(users).encode())

    async def _move_for(self, carrier: PollingCarrier, asked: Asked) -> None:
        engine = carrier.engine
        try:
            packed = await engine.pack() if carrier.is_open else None
        except Exception:
            log.exception("could not pack a connection", connection=engine.id)
            packed = None
        if packed is None or not carrier.is_open:  # it may have been lost meanwhile
            asked.fail()
            engine.close(_NO_UPGRADE)
            return
        frames = carrier.take()
        engine.gone()
        asked.answer(zlib.compress(json.dumps(packed, separators=(",", ":")).encode() + b"\n" + frames, level=1))


async def _answering(asked: Asked, answer: Coroutine[Any, Any, None]) -> None:
    """Answer a question, in any case."""
    try:
        await answer
    except Exception:
        log.exception("could not answer another gateway process")
        asked.fail()


def _answer_end(carrier: PollingCarrier, asked: Asked) -> None:
    carrier.end_upgrade()
    asked.answer(b"")


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

    @property
    def is_over(self) -> bool:
        """Whether the WebSocket carries the connection now, or is gone."""
        return self._step is Step.OVER

    def lost(self) -> None:
        """The WebSocket is gone. The connection polls on, unless it has gone over."""
        if self._step is Step.OVER:
            return
        if self._step in (Step.PROBED, Step.MOVING):
            self._upgrades.end(self._sid)
        self._over()
        self._gateway.door.leave(self._address, was_connected=False)

    async def _ask(self) -> None:
        can = await self._upgrades.begin(self._sid, self._address)
        if self._step is not Step.ASKED:  # the WebSocket is gone
            self._upgrades.end(self._sid)
        elif can:
            self._step = Step.PROBED
            self._carrier.write(_ANSWER)
        else:
            self._carrier.end(_NO_UPGRADE)

    async def _move(self) -> None:
        try:
            has_moved = await self._upgrades.move(self._sid, self._carrier, self._address)
        except Exception:  # what another version of the gateway has packed
            log.exception("could not unpack a connection")
            has_moved = False
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
