"""The session of a Socket.IO client in a namespace, which the client may recover on another connection.

A client that comes back sends the secret and the offset that it had. If both are good, its session goes on: with the
same id, in its rooms, and with the events after the offset. Otherwise it starts over, and its application sees that
(`socket.recovered`). So a session whose continuity is broken ends, and is not recovered.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from beaconfire_gateway.sessions.connection import SharedConnection
from beaconfire_gateway.sessions.session import Session, State
from beaconfire_gateway.sessions.starting import reach
from beaconfire_gateway.transports.socketio.recovery import Kept, Record, Recovery
from beaconfire_gateway.wire.engineio import MessagePackets
from beaconfire_gateway.wire.messages import Ack, Connect, Message, Resync
from beaconfire_gateway.wire.socketio import SocketIO
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit import errors, metrics
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.resync import ResyncCause
from beaconfire_kit.tokens import Claims

RECOVERIES = metrics.Counter(
    "beaconfire_gateway_socketio_recoveries_total",
    "Socket.IO clients that came back, by result: `recovered`, or why they started over.",
    ["result"],
)
START_OVER = BeaconfireError(errors.UNAVAILABLE, "events are missing: connect again and load the state again")


class Namespace:
    """What all sessions of a namespace share."""

    def __init__(self, dialect: SocketIO, recovery: Recovery | None) -> None:
        """Without `recovery`, no session is recovered."""
        self.name = dialect.namespace
        self.recovery = recovery
        self.dialect = dialect
        self.wire = Wire(dialect, MessagePackets())


class SocketIOSession(Session):
    """See the module. `auth` is what its client sent to connect."""

    __slots__ = ("_connection", "_kept", "_offset", "_pid", "_watched", "namespace")

    KEEPS_ROOMS = True

    def __init__(
        self, connection: SharedConnection, namespace: Namespace, auth: Mapping[str, Any], *, offered_token: str
    ) -> None:
        self._connection = connection
        self.namespace = namespace
        self._kept: Kept | None = None
        self._watched: frozenset[str] = frozenset()
        """The rooms in which it is told who is there. It may have left some."""
        self._pid = _text(auth.get("pid"))
        self._offset = _text(auth.get("offset"))
        super().__init__(connection.gateway, namespace.wire, address=connection.address, offered_token=offered_token)

    @property
    def connection(self) -> SharedConnection:
        return self._connection

    async def recognise(self, claims: Claims, request: Connect) -> Connect:
        """Recover what its client had."""
        recovery = self.namespace.recovery
        if recovery is None:
            return request
        request = await self._recovered(recovery, claims, request)
        if self.state is State.CLOSED:
            self.release_record()
        return request

    @property
    def watched_before(self) -> Collection[str]:
        return self._watched

    async def keep_first_rooms(
        self, claims: Claims, rooms: Mapping[str, Sequence[str] | None], *, presence: bool
    ) -> None:
        """Begin a record of its own, unless its client has brought one."""
        recovery, namespace = self.namespace.recovery, self.namespace.name
        if presence:
            self._watched = frozenset(rooms)
        if recovery is None or self._kept is not None:
            return
        watched, user_id = tuple(self._watched), claims.user_id
        self._kept = await recovery.begin(self, namespace=namespace, user_id=user_id, rooms=rooms, watched=watched)
        if self.state is State.CLOSED:
            self.release_record()

    async def _recovered(self, recovery: Recovery, claims: Claims, request: Connect) -> Connect:
        if not self._pid:
            return request
        if not await self._can_go_on():
            RECOVERIES.labels("offset").inc()
            return request

        def is_its_own(record: Record) -> bool:
            return record.user_id == claims.user_id and record.namespace == self.namespace.name

        self._kept = await recovery.recover(self._pid, self, is_its_own)
        if self._kept is None:
            RECOVERIES.labels("unknown").inc()
            return request
        RECOVERIES.labels("recovered").inc()
        record = self._kept.record
        self.id = record.sid
        self._watched = frozenset(record.watched)
        types = {name: types for name, types in record.rooms.items() if types is not None}
        return replace(
            request,
            rooms=tuple(dict.fromkeys([*record.rooms, *request.rooms])),
            types={**types, **request.types},
            cursor=self._offset,
            replaces=record.sid,
        )

    async def _can_go_on(self) -> bool:
        """Whether the stream goes on from the client's offset."""
        if self.gateway.read_cursor(self._offset) is None:
            return False
        await reach(self, self._offset)
        return self.gateway.find_start(self._offset)[1] is None

    async def keep_rooms(self, presence: Mapping[str, bool]) -> None:
        before = self._watched
        self._watched = before - presence.keys() | {name for name, is_wanted in presence.items() if is_wanted}
        try:
            if self.namespace.recovery is not None and self._kept is not None:
                await self.namespace.recovery.keep(self._kept)
        except BeaconfireError:
            self._watched = before
            raise

    def wanted_rooms(self) -> Mapping[str, Sequence[str] | None] | None:
        if self.state is State.CONNECTING:
            return None
        return {name: None if one.types is None else sorted(one.types) for name, one in self.rooms.items()}

    def watched_rooms(self) -> Sequence[str]:
        return sorted(self._watched & self.rooms.keys())

    def send_now(self, message: Message) -> None:
        if isinstance(message, Ack) and self._kept is not None:
            message = replace(message, recovery_secret=self._kept.pid)
        super().send_now(message)
        # The stream may have been replaced since `recognise`, and its client has just read that it was recovered.
        if isinstance(message, Resync) and self._kept is not None and self._kept.pid == self._pid:
            self._end_and_start_over()

    def resync(self, cause: ResyncCause, cursor: str) -> None:
        """End, because it cannot go on: its client starts over on a new connection.

        It hears nothing more from now on. A later offset than its last one would hide what is missing.
        """
        if self.state in (State.LIVE, State.CATCHING_UP):
            super().send_now(self.resync_of(self.rooms, cause, cursor))
            self._end_and_start_over()

    def _end_and_start_over(self) -> None:
        self.lost()
        self.gateway.spawn(self._start_over())

    async def _start_over(self) -> None:
        await self.forget()
        self._connection.close(START_OVER)

    async def forget(self) -> None:
        """Its client will not come back to it."""
        if self.namespace.recovery is not None and self._kept is not None:
            await self.namespace.recovery.forget(self._kept)

    def packed_record(self) -> dict[str, Any] | None:
        """Return what `adopt_record` takes in the process in which it goes on."""
        return None if self._kept is None else self._kept.pack()

    def adopt_record(self, packed: Mapping[str, Any] | None) -> None:
        """Go on with the record that it had in another process."""
        if self.namespace.recovery is not None and packed is not None:
            self._kept = self.namespace.recovery.adopt(self, packed)
            self._watched = frozenset(self._kept.record.watched)

    def release_record(self) -> None:
        """It has ended, and its record waits for its client."""
        if self.namespace.recovery is not None and self._kept is not None:
            self.namespace.recovery.release(self._kept)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
