"""A second protocol for the core: another dialect and another framing, and a connection that carries sessions of it."""

from beaconfire_gateway.fanout.targets import CALLING, Target, Writer
from beaconfire_gateway.sessions.connection import SharedConnection, farewell
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.wire.dialect import Spliced
from beaconfire_gateway.wire.messages import (
    Connect,
    Event,
    GoAway,
    InvalidMessage,
    Message,
    Position,
    Request,
    Subscribe,
)
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError


class Words:
    """A dialect of lines: `connect USER CURSOR ROOM…` and `subscribe CURSOR ROOM…`.

    An event is its offset and its reversed body. There is no `goaway`.
    """

    name = "words"

    def __init__(self) -> None:
        self.encoded: list[int] = []
        """The offsets of the events that were encoded."""

    def decode(self, data: bytes) -> Request:
        match data.decode().split():
            case ["connect", user, cursor, *rooms]:
                return Connect(1, token=user, cursor=cursor, rooms=rooms)
            case ["subscribe", cursor, *rooms]:
                return Subscribe(2, rooms=rooms, cursor=cursor)
        raise InvalidMessage(errors.BAD_REQUEST, "neither connect nor subscribe")

    def encode(self, message: Message) -> bytes:
        if isinstance(message, GoAway):
            return b""
        return f"position {message.cursor}".encode() if isinstance(message, Position) else message.TYPE.encode()

    def event(self, event: Event) -> Spliced:
        self.encoded.append(event.offset)
        return b"%d " % event.offset, event.body[::-1], b""


class Brackets:
    """A framing: a payload in brackets. Brackets of several kinds stand for namespaces."""

    def __init__(self, brackets: bytes = b"[]") -> None:
        self._open, self._close = brackets[:1], brackets[1:]

    def frame(self, payload: Spliced, content: Message | Event) -> Spliced:
        before, body, after = payload
        return self._open + before, body, after + self._close


class Line(SharedConnection):
    """A connection over no socket, for any number of sessions."""

    transport = "line"

    def __init__(self, core: Gateway) -> None:
        core.door.enter("an address")
        self.written = b""
        self.is_open = True
        self._is_full = False
        super().__init__(core, address="an address")

    @property
    def writer(self) -> Writer:
        return CALLING

    @property
    def target(self) -> Target:
        return self.write

    @property
    def is_full(self) -> bool:
        return self._is_full

    def write(self, data: bytes) -> None:
        self.written += data

    def ping(self, session: Session, data: bytes = b"") -> None:
        self.written += b"?" + data

    def hang_up(self, session: Session, error: BeaconfireError | None) -> None:
        """Say goodbye for one session. The connection ends with the last one."""
        self.written += b"!%d" % farewell(error)[0]
        self.is_open = bool(self.sessions)

    def abort(self, session: Session) -> None:
        self.is_open = False

    def close(self, error: BeaconfireError) -> None:
        self.lost()
        self.is_open = False

    def fill(self) -> None:
        self._is_full = True
        self.full()

    def drain(self) -> None:
        self._is_full = False
        self.drained()

    def taken(self) -> bytes:
        """Return the bytes written since the last call."""
        written, self.written = self.written, b""
        return written


class Lined(Session):
    """One of the sessions of a shared connection."""

    def __init__(self, wire: Wire, line: SharedConnection) -> None:
        self._line = line
        super().__init__(line.gateway, wire, address=line.address)

    @property
    def connection(self) -> SharedConnection:
        return self._line
