"""A client's position in the stream, written `<epoch>:<offset>` wherever it leaves a process.

    cursor = Cursor.parse(text)              # None if it is not a cursor
    str(Cursor("9f0c3b1a2d4e", 812))         # "9f0c3b1a2d4e:812"

Clients treat the text as opaque: they send back what they were given.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cursor:
    """Everything up to and including `offset` is known. Offsets are comparable only within the same epoch."""

    epoch: str
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> "Cursor | None":
        """Return the cursor, or None if the text is not one. Bound the length of untrusted text before this call."""
        epoch, colon, digits = text.rpartition(":")
        return cls(epoch, int(digits)) if colon and digits.isascii() and digits.isdecimal() else None
