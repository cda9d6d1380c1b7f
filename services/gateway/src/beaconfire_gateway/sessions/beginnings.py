"""Remember from which offset on sessions hear their rooms, for operators who ask. No I/O.

`beaconfire why` needs it to tell a session that missed an event from one that joined the room after it. It is one
bounded table for all sessions, of 16 bytes for each entry, so no session is larger for it (docs/adr/0084).
"""

from array import array
from enum import IntEnum
from typing import NamedTuple
from zlib import crc32

MAX_KEPT = 65_536
"""Entries. Then the oldest are overwritten. A joined room is one, and every resume or `resync` is one more."""
_HOW_BITS = 2
_MOST = 2**32 - 1


class How(IntEnum):
    """What a session began with, in a room."""

    JOINED = 0
    """It joined, and hears what came since."""
    RESUMED = 1
    """Its client came back with a cursor, and was sent what it had missed."""
    RESTORED = 2
    """It joined with a cursor, and was sent what came since then."""
    RESYNC = 3
    """It was told to load its state again, and was sent nothing of what came before."""


class Beginning(NamedTuple):
    """A session was given the events of a room after the offset `after`. The gateway was at `position` then."""

    how: How
    after: int
    position: int


class Beginnings:
    """The newest entries of all sessions of a process."""

    def __init__(self, *, most: int = MAX_KEPT) -> None:
        self._most = most
        self._next = 0
        self._keys = array("I")
        self._after = array("q")
        self._away = array("I")

    def note(self, session_id: str, room: str, how: How, *, after: int, position: int) -> None:
        """Add an entry for a session's room, by the name that its client uses."""
        key, away = _key(session_id, room) | how, min(max(position - after, 0), _MOST)
        if len(self._keys) < self._most:
            self._keys.append(key)
            self._after.append(after)
            self._away.append(away)
            return
        at = self._next
        self._keys[at], self._after[at], self._away[at] = key, after, away
        self._next = (at + 1) % self._most

    def of(self, session_id: str, room: str) -> list[Beginning]:
        """Return what is known of a session's room, oldest first. Looks at every entry: only operators ask."""
        key, rows = _key(session_id, room), range(len(self._keys))
        in_order = (*rows[self._next :], *rows[: self._next])
        return [
            Beginning(How(self._keys[at] - key), self._after[at], self._after[at] + self._away[at])
            for at in in_order
            if 0 <= self._keys[at] - key < 1 << _HOW_BITS
        ]

    def forget(self) -> None:
        """Drop everything: the stream is another one, and its offsets mean nothing there."""
        self._next = 0
        for rows in (self._keys, self._after, self._away):
            del rows[:]


def _key(session_id: str, room: str) -> int:
    """Return 30 bits that stand for a session's room. Two of some ten thousand are rarely alike."""
    return crc32(f"{session_id} {room}".encode()) >> _HOW_BITS << _HOW_BITS
