"""Sequence: offset N is delivered only after N-1 (ADR 0002). No I/O.

A message that arrives early is held, and the caller reads the hole below it from the stream. The last offset delivered
is the gateway's *position*. A paused sequence delivers nothing, whatever arrives.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

M = TypeVar("M")

_NONE = 0
"""No message of the stream has this offset."""


class Sequence(Generic[M]):
    """Puts messages that are heard live and messages that are read from the stream into one order without gaps.

    `deliver(offset, message)` is called once for each offset, ascending. It must not raise. At most `max_held` messages
    are held, and at most `max_held_bytes` of them as `size` counts. Beyond that the held messages are forgotten, and
    have to be read again.
    """

    def __init__(
        self,
        deliver: Callable[[int, M], None],
        *,
        size: Callable[[M], int] = lambda _message: 0,
        max_held: int = 50_000,
        max_held_bytes: int = 67_108_864,
    ) -> None:
        self._deliver = deliver
        self._size = size
        self._max_held = max_held
        self._max_held_bytes = max_held_bytes
        self._held_bytes = 0  # of all messages held since the last time that none was held
        self._held: dict[int, M] = {}
        self._expected = 0
        self._next = _NONE  # the offset that may be delivered now
        self.position: int | None = None
        """The last offset delivered; None until `start`."""

    @property
    def hole(self) -> int | None:
        """The offset up to which the stream must be read, or None if no message is known to be missing.

        None while nothing could be delivered.
        """
        if self.position is None or not self._next:
            return None
        if self._held:
            return min(self._held)
        return self._expected if self._expected > self.position else None

    def start(self, position: int) -> None:
        """Drop what was heard at or below `position`, and deliver what follows it."""
        self._move(position)
        self._advance()

    def pause(self) -> None:
        """Deliver nothing behind the position until `resume`. May be called by `deliver`."""
        self._next = _NONE

    @property
    def is_paused(self) -> bool:
        return self.position is not None and not self._next

    def resume(self) -> None:
        """Go on behind the position."""
        if self.position is not None:
            self.start(self.position)

    def reset(self) -> None:
        """Forget the position and the held messages. Everything heard until `start` is held."""
        self._held.clear()
        self._expected = 0
        self._next = _NONE
        self.position = None

    def hear(self, offset: int, message: M) -> bool:
        """Receive a live message. False if it lies behind a hole and is held: the caller has to read the hole."""
        if offset == self._next:
            self.position = offset
            self._next = offset + 1
            self._deliver(offset, message)
            if self._held:
                self._advance()
            return True
        if self.position is not None and offset <= self.position:
            return True
        self._held_bytes = self._size(message) + (self._held_bytes if self._held else 0)
        if len(self._held) >= self._max_held or (self._held and self._held_bytes > self._max_held_bytes):
            self._forget()
            self._held_bytes = self._size(message)
        self._held[offset] = message
        return False

    def fill(self, offset: int, message: M) -> None:
        """Receive a message that was read, and deliver it unless that was done before, or the sequence is paused.

        Raises ValueError if it is not the next one: only `skip` moves the position past an offset without a message.
        """
        if self.position is None or offset <= self.position or not self._next:
            return
        if offset > self.position + 1:
            raise ValueError(
                f"offset {offset} was read, but {self.position + 1} is next: call skip({offset - 1}) first"
            )
        self._move(offset)
        self._deliver(offset, message)
        self._advance()

    def skip(self, offset: int) -> None:
        """Move past offsets that are known to be gone from the stream, up to and including `offset`.

        Does nothing while the sequence is paused.
        """
        if not self.is_paused and self.position is not None and offset > self.position:
            self._move(offset)
            self._advance()

    def expect(self, offset: int) -> None:
        """The stream is known to reach `offset`. Unless it was heard, there is a hole up to there."""
        self._expected = max(self._expected, offset)

    def _move(self, position: int) -> None:
        self.position = position
        self._next = position + 1

    def _advance(self) -> None:
        """Deliver the held messages that are next, and drop those that were passed."""
        if not self._held:
            return
        while (message := self._held.pop(self._next, None)) is not None:
            self._move(self._next)
            assert self.position is not None
            self._deliver(self.position, message)
        position = self.position
        if self._held and position is not None and min(self._held) <= position:
            self._held = {offset: message for offset, message in self._held.items() if offset > position}

    def _forget(self) -> None:
        self.expect(max(self._held))
        self._held.clear()
