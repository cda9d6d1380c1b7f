"""Connect who is here with this gateway's sessions: count them, and tell those that watch a room. No I/O.

Nothing is counted before the first client or backend of the deployment asks who is in a room. From then on this gateway
counts its sessions in the rooms of roots that have presence, and tells the other gateways. They then count theirs. So
a deployment that does not use presence does not pay for it.
"""

import time
from collections.abc import Callable, Iterable

from beaconfire_gateway.presence.node import Node
from beaconfire_gateway.presence.peers import HEARTBEAT_S
from beaconfire_gateway.presence.telling import tell
from beaconfire_gateway.presence.view import View
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.wire.messages import Presence, PresenceChange, Status
from beaconfire_kit import logs
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.subjects import Pair, RoomKey

log = logs.get(__name__)

SETTLE_S = 2 * HEARTBEAT_S
"""After so long, every other gateway has said something."""


class _Watched:
    """A room that sessions watch."""

    __slots__ = ("version", "view", "watchers")

    def __init__(self, view: View) -> None:
        self.view = view
        self.version = 0
        self.watchers: dict[Session, int] = {}
        """Each with the version that it was given when it came. Later ones change that."""


class GatewayAttendance:
    """Implements `sessions.gateway.Attendance`."""

    def __init__(self, gateway: Gateway, node: Node, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._gateway = gateway
        self._clock = clock
        self.node = node
        self.is_active = False
        """Whether anybody uses presence."""
        self._active_since = 0.0
        self._catalogue: Catalogue | None = None
        self._kinds: frozenset[str] = frozenset()
        self._rooms: dict[RoomKey, _Watched] = {}
        self._watching: dict[Session, set[RoomKey]] = {}

    def activate(self) -> None:
        """Count the sessions from now on."""
        if not self.is_active:
            log.info("counting who is in rooms")
            self.is_active = True
            self._active_since = self._clock()
            self._read_catalogue()

    @property
    def is_settled(self) -> bool:
        """Whether it knows of all gateways by now."""
        return self.is_active and self._clock() >= self._active_since + SETTLE_S and self.node.peers.is_complete

    def covers(self, room: RoomKey) -> bool:
        """Whether the room's kind of root has presence, by the newest catalogue."""
        root = self._gateway.catalogue.known.roots.get(room.root.kind)
        return root is not None and root.presence

    # Reports of sessions.

    def joined(self, session: Session, room: RoomKey) -> None:
        """A session is in a room."""
        if self.is_active and room.root.kind in self._kinds:
            self.node.join(session, session.user_id, str(room))

    def left(self, session: Session, room: RoomKey) -> None:
        """A session has left a room, or was removed from it."""
        if self.is_active:
            self.node.leave(session, session.user_id, str(room))
        self.unwatch(session, room)

    def paused(self, session: Session, room: RoomKey) -> None:
        """A session is out of a room for a moment."""
        if self.is_active:
            self.node.lose(session, session.user_id, (str(room),), self._clock())
        self.unwatch(session, room)

    def ended(self, session: Session) -> None:
        """A session ends, and is still in its rooms."""
        if self.is_active:
            self.node.lose(session, session.user_id, _rooms(session), self._clock())
        self.node.forget_status(session)
        for room in tuple(self._watching.get(session, ())):
            self.unwatch(session, room)

    def removed(self, user_id: str, root: Pair | None) -> None:
        """A user has lost the access to a root, or to all. Do not wait for a connection that was just lost."""
        if self.is_active:
            self.node.forget(user_id, None if root is None else str(root))

    def set_status(self, session: Session, status: Status) -> None:
        """A session says how its user is."""
        self.node.set_status(session, session.user_id, _rooms(session), status)

    def status(self, session: Session) -> Status:
        """Return what a session has said of its user."""
        return self.node.status(session)

    def caught_up(self, session: Session) -> None:
        """A session is live again. It missed what was told meanwhile."""
        for room in self._watching.get(session, ()):
            session.send(self._rooms[room].view.presence())
            self._rooms[room].watchers[session] = self._rooms[room].version

    # Watching.

    def watch(self, session: Session, room: RoomKey) -> Presence | None:
        """Tell a session from now on who is in a room. Returns who is there now; None if the room has no presence."""
        if not self.covers(room):
            return None
        self.activate()
        watched = self._rooms.get(room)
        if watched is None:
            watched = self._rooms[room] = _Watched(View(self.node.roster, str(room)))
        watched.watchers[session] = watched.version
        self._watching.setdefault(session, set()).add(room)
        return watched.view.presence()

    def unwatch(self, session: Session, room: RoomKey) -> None:
        """Undo `watch`."""
        rooms = self._watching.get(session)
        if rooms is None or room not in rooms:
            return
        rooms.remove(room)
        if not rooms:
            del self._watching[session]
        watched = self._rooms[room]
        del watched.watchers[session]
        if not watched.watchers:
            watched.view.close()
            del self._rooms[room]

    def is_watching(self, session: Session, room: RoomKey) -> bool:
        """Whether a session is told who is in a room."""
        return room in self._watching.get(session, ())

    # Time.

    def look(self, now: float) -> None:
        """Tell the sessions what has changed. Call it several times a second."""
        if not self.is_active:
            return
        self._read_catalogue()
        for watched in list(self._rooms.values()):
            change = watched.view.look(now)
            if change is not None:
                self._tell(watched, change)

    def _tell(self, watched: _Watched, change: PresenceChange) -> None:
        """Tell a room's watchers, except those that know it: they came after it, or have caught up since."""
        watched.version += 1
        version, watchers = watched.version, watched.watchers
        tell(self._gateway, change, watchers, lambda session: watchers.get(session, version) < version)

    # The catalogue.

    def _read_catalogue(self) -> None:
        """Find out which kinds of roots have presence, if that may have changed."""
        known = self._gateway.catalogue.known
        if known is self._catalogue:
            return
        self._catalogue = known
        before, self._kinds = self._kinds, frozenset(kind for kind, root in known.roots.items() if root.presence)
        if before == self._kinds:
            return
        for session in self._gateway.hub.all_sessions():
            for room in {one.room for one in session.rooms.values()}:
                if room.root.kind in self._kinds - before:
                    self.node.join(session, session.user_id, str(room))
                elif room.root.kind in before - self._kinds:
                    self.left(session, room)


def _rooms(session: Session) -> Iterable[str]:
    return {str(one.room) for one in session.rooms.values()}
