"""Contiguity: offset N is delivered only after N-1 (ADR 0002). No I/O.

What comes early is held; the hole below it is for the caller to read from the stream. W, the last offset delivered, is
the gateway's *position*.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

M = TypeVar("M")


class Sequence(Generic[M]):
    """Puts what is heard live and what is read from the stream into one order without gaps.

    `deliver(offset, message)` is called for each offset once, ascending; it must not raise. What is held is bounded by
    `max_held` messages, and by `max_held_bytes` of what `size` says of them; beyond that the hold is forgotten: W then
    lies further behind, that is all.
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
        self._held_bytes = 0  # of everything held since the hold was last empty
        self._held: dict[int, M] = {}
        self._expected = 0
        self.position: int | None = None
        """W; None until `start`."""

    @property
    def hole(self) -> int | None:
        """The offset up to which the stream must be read, or None where nothing is known to be missing."""
        if self.position is None:
            return None
        if self._held:
            return min(self._held)
        return self._expected if self._expected > self.position else None

    def start(self, position: int) -> None:
        """From here on: what was heard at or below `position` is dropped, what follows is delivered."""
        self.position = position
        self._advance()

    def reset(self) -> None:
        """Forget the position and what is held. Everything heard until `start` is held."""
        self._held.clear()
        self._expected = 0
        self.position = None

    def hear(self, offset: int, message: M) -> bool:
        """Take a live message. False where it lies behind a hole and had to be held (the caller reads the hole)."""
        position = self.position
        if position is not None:
            if offset == position + 1:
                self.position = offset
                self._deliver(offset, message)
                if self._held:
                    self._advance()
                return True
            if offset <= position:
                return True
        self._held_bytes = self._size(message) + (self._held_bytes if self._held else 0)
        if len(self._held) >= self._max_held or (self._held and self._held_bytes > self._max_held_bytes):
            self._forget()
            self._held_bytes = self._size(message)
        self._held[offset] = message
        return False

    def fill(self, offset: int, message: M) -> None:
        """Take a message that was read, unless it was delivered before.

        Raises ValueError if it is not the next one: only `skip` moves the position past an offset without a message.
        """
        if self.position is None or offset <= self.position:
            return
        if offset > self.position + 1:
            raise ValueError(
                f"offset {offset} was read, but {self.position + 1} is next: call skip({offset - 1}) first"
            )
        self.position = offset
        self._deliver(offset, message)
        self._advance()

    def skip(self, offset: int) -> None:
        """Go past offsets that are known to be gone from the stream, up to and including `offset`."""
        if self.position is not None and offset > self.position:
            self.position = offset
            self._advance()

    def expect(self, offset: int) -> None:
        """The stream is known to reach `offset`: without hearing it, there is a hole up to there."""
        self._expected = max(self._expected, offset)

    def _advance(self) -> None:
        """Deliver what is held and now in order; drop what was passed."""
        if not self._held or self.position is None:
            return
        position = self.position
        while (message := self._held.pop(position + 1, None)) is not None:
            position += 1
            self.position = position
            self._deliver(position, message)
        if self._held and min(self._held) <= position:
            self._held = {offset: message for offset, message in self._held.items() if offset > position}

    def _forget(self) -> None:
        self.expect(max(self._held))
        self._held.clear()
