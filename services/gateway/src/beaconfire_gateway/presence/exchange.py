"""Exchange who is here with the other gateways, over NATS. The only module of presence that does I/O.

    presence.<gateway>.changes         what has changed at a gateway, for all others
    presence.<gateway>.ask             another gateway asks it for everything, and names itself
    presence.<asker>.part.<gateway>    a part of the answer
    presence.<gateway>.typing          a user is typing at a gateway, or no longer is, for all others
    presence.<gateway>.selection       a user has selected something at a gateway, for all others

Only gateways may publish and hear these (deploy/nats). Messages may be lost: `peers` notices it.
"""

import asyncio
import re
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import nats.errors

from beaconfire_gateway.presence.attendance import GatewayAttendance
from beaconfire_gateway.presence.messages import Changes, InvalidSaying, Part, Selected, decode_typing, encode_typing
from beaconfire_gateway.presence.node import Outgoing
from beaconfire_gateway.presence.selections import UsersSelections
from beaconfire_gateway.presence.typing_users import RoomsTypingUsers
from beaconfire_kit import broker, logs, metrics
from beaconfire_kit.seams.nats_direct import DirectClient

log = logs.get(__name__)

SAID = metrics.Counter(
    "beaconfire_gateway_presence_messages_total", "Messages about presence that were sent to other gateways."
)
FOREIGN = metrics.Counter(
    "beaconfire_gateway_forged_presence_messages_total",
    "Messages on the subjects of presence that no gateway sent. They were dropped.",
)
ROOMS = metrics.Gauge("beaconfire_gateway_presence_rooms", "Rooms of the deployment in which a user is present.")
PEERS = metrics.Gauge("beaconfire_gateway_presence_gateways", "Other gateway processes whose users this process knows.")

EVERY_S = 0.2
"""How often changes are sent, and clients told."""
STOP_S = 1.0
"""How long the last word of a gateway may take."""
_subject = re.compile(r"presence\.([0-9a-f]{16})\.(changes|ask|part|typing|selection)(?:\.([0-9a-f]{16}))?").fullmatch


class Exchange:
    """One for each gateway process. `spawn` runs short sends, and owns them."""

    def __init__(
        self,
        nc: DirectClient,
        attendance: GatewayAttendance,
        typing: RoomsTypingUsers,
        selections: UsersSelections,
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nc = nc
        self._attendance = attendance
        self._node = attendance.node
        self._typing = typing
        typing.tell_others = lambda message: self._tell("typing", encode_typing(message))
        self._selections = selections
        selections.tell_others = lambda selected: self._tell("selection", selected.encode())
        self._spawn = spawn
        self._clock = clock

    async def subscribe(self) -> None:
        """Hear the other gateways from now on."""
        for pattern in ("*.changes", "*.typing", "*.selection", f"{self._node.gateway}.>"):
            await self._nc.subscribe_direct(f"{broker.PRESENCE_PREFIX}{pattern}", self._hear)

    async def run(self) -> None:
        """Send what has changed and tell the clients, forever. When it is cancelled, it takes leave."""
        try:
            while True:
                await asyncio.sleep(EVERY_S)
                try:
                    await self.turn()
                except Exception:
                    log.exception("could not tell who is here")
        finally:
            if self._attendance.is_active and self._nc.is_connected:
                with suppress(nats.errors.Error, TimeoutError):
                    async with asyncio.timeout(STOP_S):
                        await self.turn()
                        await self._send(self._node.stop())

    async def turn(self) -> None:
        """Do what is due."""
        if not self._attendance.is_active:
            return
        now = self._clock()
        for message in self._node.turn(now):
            await self._send(message)
        self._attendance.look(now)
        ROOMS.set(len(self._node.roster))
        PEERS.set(len(self._node.peers))

    async def _send(self, message: Outgoing | Part, to: str = "") -> None:
        if not self._nc.is_connected:
            return  # it would come late. The others notice the missing number, and ask
        with suppress(nats.errors.Error):
            if isinstance(message, Changes):
                await self._publish(f"{message.gateway}.changes", message.encode())
            elif isinstance(message, Part):
                await self._publish(f"{to}.part.{message.gateway}", message.encode())
            else:
                await self._publish(f"{message.gateway}.ask", self._node.gateway.encode())

    def _tell(self, call: str, data: bytes) -> None:
        """Tell all others something that a client has just said."""
        if self._nc.is_connected:  # otherwise it would come too late
            self._spawn(self._send_call(call, data))

    async def _send_call(self, call: str, data: bytes) -> None:
        with suppress(nats.errors.Error):
            await self._publish(f"{self._node.gateway}.{call}", data)

    async def _publish(self, subject: str, data: bytes) -> None:
        SAID.inc()
        await self._nc.publish(f"{broker.PRESENCE_PREFIX}{subject}", data)

    def _hear(self, subject: bytes, reply: bytes, body: bytes, headers: bytes | None) -> None:
        """Take a message. A gateway's has neither a reply nor headers, and a consumer's would."""
        try:
            found = None if reply or headers else _subject(subject.decode(errors="replace"))
            if found is None:
                raise InvalidSaying("no gateway publishes such a message")
            self._take(found[1], found[2], found[3] or "", body)
        except InvalidSaying as problem:
            FOREIGN.inc()
            text = "dropped a message about presence that no gateway sent"
            log.warning(text, subject=subject[:200].decode(errors="replace"), reason=str(problem))

    def _take(self, named: str, call: str, sender: str, body: bytes) -> None:
        if call == "changes":
            changes = Changes.decode(named, body)
            if named != self._node.gateway:
                self._attendance.activate()
                self._node.hear_changes(changes, self._clock())
        elif call == "typing":
            message = decode_typing(body)
            if named != self._node.gateway:
                self._typing.hear(message)
        elif call == "selection":
            selected = Selected.decode(body)
            if named != self._node.gateway:
                self._selections.hear(selected)
        elif call == "part":
            self._node.hear_part(Part.decode(sender, body), self._clock())
        else:
            asker = body.decode(errors="replace")
            if _subject(f"presence.{asker}.ask") is None:
                raise InvalidSaying("the question does not name a gateway")
            self._attendance.activate()
            self._spawn(self._answer(asker))

    async def _answer(self, asker: str) -> None:
        for part in self._node.answer():
            await self._send(part, asker)
