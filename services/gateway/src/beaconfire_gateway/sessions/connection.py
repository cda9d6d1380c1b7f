"""Define connections, the contract between a transport and its sessions. No I/O.

A connection has two halves. A transport writes the half towards the client: what is written, how it is pinged, and how
it ends. The half towards the sessions exists twice. `SoleSession` is a session that is its own connection, because
there may be very many of them. `SharedConnection` carries any number of sessions, as a protocol with namespaces needs.
The classes of both halves can be mixed, because all but one of them have no slots of their own.

The part of a connection that only moves bytes is a `Carrier`. Mostly the connection is its own carrier. Where a client
may change from one carrier to another, as in Engine.IO, they are objects of their own.
"""

import secrets
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from beaconfire_gateway.fanout.targets import Target, Writer
from beaconfire_kit.errors import BeaconfireError

if TYPE_CHECKING:
    from beaconfire_gateway.sessions.gateway import Gateway
    from beaconfire_gateway.sessions.session import Session

CLOSE_TIMEOUT_S = 5.0
"""How long a client may take to answer a goodbye. Then its connection is aborted."""
MIXED_IN: tuple[str, ...] = ()
"""The slots of a class that is mixed in. No literal, because mypy would then refuse every attribute."""


def farewell(error: BeaconfireError | None) -> tuple[int, str]:
    """The close code and the reason of a WebSocket whose session ended with an error, or was replaced (None)."""
    return (1000, "another connection took over") if error is None else (error.close_code, error.message)


class Carrier(ABC):
    """Moves the bytes of a connection. See the module. `id` names it in the log."""

    __slots__ = ()

    gateway: "Gateway"
    id: str

    # A transport implements these.

    @property
    @abstractmethod
    def transport(self) -> str:
        """What carries the bytes, for statistics and the log: `websocket`, `sse`, `poll`, or Engine.IO's `polling`."""

    @property
    @abstractmethod
    def writer(self) -> Writer:
        """The object that writes to `target`, one for all connections of a transport."""

    @property
    @abstractmethod
    def target(self) -> Target:
        """The connection, as `writer` knows it."""

    @property
    @abstractmethod
    def is_full(self) -> bool:
        """Whether it takes no more for now. It calls `full` and `drained` when that changes."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Write bytes of a session's wire, now. Once the connection is closed, this has no effect."""

    @abstractmethod
    def close(self, error: BeaconfireError) -> None:
        """End it and every session on it, with the error's close code."""

    # A transport calls these.

    @abstractmethod
    def heard(self) -> None:
        """A sign of life came."""

    @abstractmethod
    def full(self) -> None:
        """It takes no more for now."""

    @abstractmethod
    def drained(self) -> None:
        """It takes more again."""

    @abstractmethod
    def lost(self) -> None:
        """End every session on it, because the connection is gone."""

    @abstractmethod
    def gone(self) -> None:
        """It does not exist any more, however it ended. Call this once: it leaves the door."""


class Connection(Carrier):
    """See the module. It is counted at the door from before it is made until it is `gone`, once for all its sessions.

    `address` is what the door has counted. A transport implements the rest of the half towards the client here.
    `SoleSession` and `SharedConnection` implement the other half: what a transport calls of `Carrier`, and what a
    session calls here.
    """

    __slots__ = ()

    address: str

    @property
    def heartbeat_s(self) -> int:
        """Seconds between two pings of a session. A transport whose clients expect another pace overrides it."""
        return self.gateway.limits.heartbeat_s

    @property
    def patience_s(self) -> int:
        """Seconds that a client has to answer a ping, at least 1. They may be more than a heartbeat."""
        heartbeat_s = self.heartbeat_s
        return heartbeat_s - heartbeat_s // 2

    @abstractmethod
    def ping(self, session: "Session", data: bytes = b"") -> None:
        """Ask for a sign of life, and write `data` with it: bytes of the session's wire, or none.

        Every session asks once in `heartbeat_s`, and is dropped if `heard` was not called within `patience_s`. One ping
        may serve all sessions of a connection. A transport whose clients cannot answer (SSE) writes something, and
        reports `heard` once the client's socket has taken it.
        """

    @abstractmethod
    def hang_up(self, session: "Session", error: BeaconfireError | None) -> None:
        """Send the client the reason why a session has ended, after everything written before, and close.

        None means that another connection of its client took over. A WebSocket puts the `farewell` into its close
        frame. A framing without close codes writes the reason as a last message of its own, and then ends the response.
        If other sessions go on, only this session is reported as ended. The session has ended already. A stuck peer is
        not waited for.
        """

    @abstractmethod
    def abort(self, session: "Session") -> None:
        """Drop it at once, without a word: the session's client, which is every session's, gives no sign of life."""

    # A session calls these.

    @property
    @abstractmethod
    def is_connected(self) -> bool:
        """Whether it has an active session. Then another session on it does not count as a further connection."""

    @abstractmethod
    def opened(self, session: "Session") -> None:
        """A session is made on it."""

    @abstractmethod
    def begun(self, session: "Session") -> None:
        """A session's client was let in."""

    @abstractmethod
    def ended(self, session: "Session") -> None:
        """Note that a session has ended, even if it had not started."""


class SharedConnection(Connection):
    """A connection for any number of sessions, at the same time or one after the other.

    It counts once at the door. While it has no session, a gateway that stops still waits for it and closes it.
    """

    __slots__ = ("_begun", "address", "gateway", "id", "sessions")

    def __init__(self, gateway: "Gateway", *, address: str) -> None:
        self.gateway = gateway
        self.address = address
        self.id = gateway.session_prefix + secrets.token_hex(8)
        self.sessions: list[Session] = []
        """Its open sessions."""
        self._begun = 0
        gateway.connecting.add(self)

    def heard(self) -> None:
        for session in self.sessions:
            session.heard()

    def full(self) -> None:
        for session in list(self.sessions):
            session.full()

    def drained(self) -> None:
        for session in list(self.sessions):
            session.drained()

    def lost(self) -> None:
        for session in list(self.sessions):
            session.lost()
        self.gateway.connecting.discard(self)

    def gone(self) -> None:
        self.lost()
        self.gateway.door.leave(self.address, was_connected=False)

    @property
    def is_connected(self) -> bool:
        return self._begun > 0

    def opened(self, session: "Session") -> None:
        self.sessions.append(session)
        self.gateway.connecting.discard(self)  # the session itself is there now

    def begun(self, session: "Session") -> None:
        self._begun += 1
        if self._begun == 1:
            self.gateway.door.connected(self.address)

    def ended(self, session: "Session") -> None:
        self.sessions.remove(session)
        if session.user_id:
            self._begun -= 1
            if not self._begun:
                self.gateway.door.disconnected(self.address)
        if not self.sessions:
            self.gateway.connecting.add(self)
