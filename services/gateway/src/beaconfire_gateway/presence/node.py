"""Know who is here, as one gateway: its own sessions, and what the others say. No I/O.

node.join(session, "u1", "campaign:c1")
for message in node.turn(now): …         # give them to the other gateways, several times a second
node.hear_changes(changes, now)          # and this is what the others gave
node.roster.count("campaign:c1")
"""

from collections.abc import Hashable, Iterable, Iterator
from typing import TypeAlias

from beaconfire_gateway.presence.messages import Changes, Part, Question, Share, split
from beaconfire_gateway.presence.own import OwnSessions
from beaconfire_gateway.presence.peers import HEARTBEAT_S, Peers
from beaconfire_gateway.presence.roster import Roster
from beaconfire_gateway.wire.messages import Status

Outgoing: TypeAlias = Changes | Question


class Node:
    """One gateway process. Its id is another one after each start."""

    def __init__(self, gateway: str) -> None:
        self.gateway = gateway
        self.roster = Roster()
        self.peers = Peers(self.roster)
        self._own = OwnSessions()
        self._number = 0
        self._said_at = float("-inf")
        self._untold: dict[str, dict[str, Share | None]] = {}

    # Its own sessions.

    def join(self, session: Hashable, user: str, room: str) -> None:
        """A session is in a room. It may be there already."""
        self._own.join(session, user, room)
        self._enter()

    def leave(self, session: Hashable, user: str, room: str) -> None:
        """A session has left a room, or was removed from it."""
        self._own.leave(session, user, room)
        self._enter()

    def lose(self, session: Hashable, user: str, rooms: Iterable[str], now: float) -> None:
        """A session is out of these rooms, and its client may come back soon."""
        self._own.lose(session, user, rooms, now)
        self._enter()

    def forget(self, user: str, root: str | None) -> None:
        """A user may not come back to the rooms of a root, or to any."""
        self._own.forget(user, root)
        self._enter()

    def set_status(self, session: Hashable, user: str, rooms: Iterable[str], status: Status) -> None:
        """A session says how its user is."""
        self._own.set_status(session, user, rooms, status)
        self._enter()

    def status(self, session: Hashable) -> Status:
        """Return what a session has said of its user."""
        return self._own.status(session)

    def forget_status(self, session: Hashable) -> None:
        """A session has ended."""
        self._own.forget_status(session)

    # The others.

    def hear_changes(self, changes: Changes, now: float) -> None:
        """Another gateway says what has changed."""
        if changes.gateway != self.gateway:
            self.peers.hear_changes(changes, now)

    def hear_part(self, part: Part, now: float) -> None:
        """Another gateway answers this one's question."""
        if part.gateway != self.gateway:
            self.peers.hear_part(part, now)

    def answer(self) -> list[Part]:
        """Return everything, for a gateway that asks."""
        parts = list(split(self._own.everything())) or [{}]
        number = self._number
        return [Part(self.gateway, number, index, len(parts), one) for index, one in enumerate(parts)]

    def turn(self, now: float) -> list[Outgoing]:
        """Do what is due, several times a second. Returns what to send: changes to all others, questions to one."""
        self._own.expire(now)
        self._enter()
        said: list[Outgoing] = list(self._say(now))
        if not said and now >= self._said_at + HEARTBEAT_S:
            self._said_at = now
            said.append(Changes(self.gateway, self._number))
        return [*said, *self.peers.turn(now)]

    def stop(self) -> Changes:
        """Return the last word of this gateway: it stops, and its users may come back elsewhere."""
        return Changes(self.gateway, self._number, is_last=True)

    def _say(self, now: float) -> Iterator[Changes]:
        untold, self._untold = self._untold, {}
        for entries in split(untold):
            self._number += 1
            self._said_at = now
            yield Changes(self.gateway, self._number, entries)

    def _enter(self) -> None:
        """Enter what has changed here into the roster, and keep it to be told."""
        for room, users in self._own.take_changes().items():
            self._untold.setdefault(room, {}).update(users)
            for user, share in users.items():
                self.roster.put(self.gateway, room, user, share)
