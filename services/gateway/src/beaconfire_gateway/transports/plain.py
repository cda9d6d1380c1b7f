"""One session of the plain protocol over a WebSocket: `GET /ws?token=…`, without a subprotocol.

The request says everything that `connect` says, so the session starts without a message. As in `websocket`, one class
has it on a socket of ours, and one on a socket that aiohttp serves.
"""

from collections.abc import Mapping

from aiohttp import web
from pydantic import ConfigDict, field_validator

from beaconfire_gateway.sessions.connection import MIXED_IN, farewell
from beaconfire_gateway.sessions.gateway import Gateway, Incoming
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.sessions.sole_session import SoleSession
from beaconfire_gateway.transports.admission import offered_token
from beaconfire_gateway.transports.aiohttp_websocket_connection import AiohttpSocket
from beaconfire_gateway.transports.any_websocket import AnyWebSocket
from beaconfire_gateway.transports.sockets import Sockets
from beaconfire_gateway.transports.wanted import Wanted, read_query
from beaconfire_gateway.transports.websocket import AiohttpWebSocket, WebSocket
from beaconfire_gateway.wire.messages import Connect, Message, Position, Subscribe
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError

POLICY_VIOLATION = 1008
"""The close code of the existing system for a missing or invalid token."""


def resumes(request: web.Request) -> bool:
    """Whether the client keeps a cursor. A new one has none yet: it connects with `&cursor=`."""
    return "cursor" in request.query


def read_connect(request: web.Request) -> Connect:
    """Read `?token=…&cursor=…&rooms=team:t1,issue:i1&types=issue.updated`. Raises BeaconfireError."""
    wanted = read_query(request, _Wanted)
    return wanted.connect(offered_token(request))


class _Wanted(Wanted):
    """Clients of the existing system may have further parameters, which mean nothing here."""

    model_config = ConfigDict(extra="ignore")

    @field_validator("cursor")
    @classmethod
    def _none_yet(cls, cursor: str | None) -> str | None:
        return cursor or None


class PlainSession(AnyWebSocket, SoleSession):
    """A session of the plain protocol, whoever serves its socket."""

    __slots__ = MIXED_IN

    _cursor: str | None
    """The cursor of a client that came without naming its rooms, until it has subscribed to them.

    Until then, no message moves its cursor, unless it has automatic rooms (PROTOCOL.md §10). Else it would miss what
    came before, if its connection is lost just then.
    """

    def _start(self, request: Connect) -> None:
        """Connect, as if the client had sent this. It may name the rooms in the request, or subscribe to them later."""
        self._cursor = None if request.rooms else request.cursor
        self.gateway.handle(self, request)

    @property
    def heartbeat_s(self) -> int:
        return self.gateway.limits.plain_ping_s

    @property
    def patience_s(self) -> int:
        limits = self.gateway.limits
        return limits.plain_dead_after_s - limits.plain_ping_s

    def ping(self, session: Session, data: bytes = b"") -> None:
        super().ping(session, data if self._cursor is None else b"")

    def send_now(self, message: Message) -> None:
        if self._cursor is None or not isinstance(message, Position):
            super().send_now(message)

    def resume(self, offset: int) -> None:
        if self.rooms:  # else there is nothing to catch up on, and its first `subscribe` does
            super().resume(offset)

    def hang_up(self, session: Session, error: BeaconfireError | None) -> None:
        code, reason = farewell(error)
        is_about_token = error is not None and error.code is errors.TOKEN_INVALID
        self._close(POLICY_VIOLATION if is_about_token else code, reason)

    def _decode(self, data: bytes) -> Incoming:
        incoming = super()._decode(data)
        if isinstance(incoming, Subscribe) and incoming.cursor is None and self._cursor is not None:
            return Subscribe(incoming.id, incoming.rooms, incoming.types, self._cursor)
        return incoming

    async def keep_rooms(self, presence: Mapping[str, bool]) -> None:
        """Once it is in rooms, what it missed in them was sent, and later rooms start at the present."""
        if self.rooms:
            self._cursor = None


class PlainWebSocket(PlainSession, WebSocket):
    """On a socket of ours."""

    __slots__ = ("_cursor",)

    def __init__(
        self,
        gateway: Gateway,
        wire: Wire,
        sockets: Sockets,
        descriptor: int,
        *,
        address: str,
        request: Connect,
        inflates: bool = False,
    ) -> None:
        super().__init__(gateway, wire, sockets, descriptor, address=address, offered_token="", inflates=inflates)
        self._start(request)


class AiohttpPlainWebSocket(PlainSession, AiohttpWebSocket):
    """On a socket that aiohttp serves."""

    __slots__ = ("_cursor",)

    def __init__(self, gateway: Gateway, wire: Wire, socket: AiohttpSocket, *, address: str, request: Connect) -> None:
        super().__init__(gateway, wire, socket, address=address, offered_token="")
        self._start(request)
