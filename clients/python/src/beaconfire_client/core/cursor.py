"""The client's place in the stream (PROTOCOL.md §5, "Order and cursor")."""

import re
from dataclasses import dataclass

_CURSOR = re.compile(r"(?s)(.+):([0-9]{1,16})")


@dataclass(frozen=True, slots=True)
class Cursor:
    """An epoch of the stream, and an offset in it."""

    epoch: str
    offset: int

    @classmethod
    def parse(cls, text: object) -> "Cursor":
        """Parse `"<epoch>:<offset>"`. Raises ValueError if it is something else."""
        found = _CURSOR.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise ValueError(f"Not a cursor: {str(text)[:100]!r}. Expected '<epoch>:<offset>'")
        return cls(found[1], int(found[2]))

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}"


class Place:
    """A cursor that moves. It has none at first."""

    __slots__ = ("cursor",)

    def __init__(self, cursor: Cursor | None = None) -> None:
        self.cursor = cursor

    @property
    def epoch(self) -> str:
        return self.cursor.epoch if self.cursor else ""

    def begin(self, cursor: Cursor) -> None:
        """Take the cursor of an ack. It never moves back within an epoch."""
        if self.cursor is None or self.cursor.epoch != cursor.epoch or self.cursor.offset < cursor.offset:
            self.cursor = cursor

    def take(self, epoch: str, offset: int) -> bool:
        """Move to an event. Returns whether the event is new: an event of another epoch is."""
        if self.cursor is not None and self.cursor.epoch == epoch and offset <= self.cursor.offset:
            return False
        self.cursor = Cursor(epoch, offset)
        return True

    def advance(self, cursor: Cursor) -> None:
        """Move to a `position`: only forward, and only within the epoch."""
        if self.cursor is not None and self.cursor.epoch == cursor.epoch and self.cursor.offset < cursor.offset:
            self.cursor = cursor

    def lower(self, cursor: Cursor) -> None:
        """Move back to a lower cursor of the same epoch: events after it have not been applied."""
        if self.cursor is not None and self.cursor.epoch == cursor.epoch and cursor.offset < self.cursor.offset:
            self.cursor = cursor

    def has_reached(self, cursor: Cursor) -> bool:
        """Return whether it is at or above a cursor. False if that has another epoch."""
        return self.cursor is not None and self.cursor.epoch == cursor.epoch and cursor.offset <= self.cursor.offset


def earlier(one: Cursor, other: Cursor, epoch: str) -> Cursor:
    """Return the cursor that serves both.

    If they have different epochs, it is the one whose epoch is not `epoch`, the current one: the gateway answers that
    with `resync`.
    """
    if one.epoch != other.epoch:
        return other if one.epoch == epoch else one
    return one if one.offset <= other.offset else other
