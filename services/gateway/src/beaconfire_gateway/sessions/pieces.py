"""Bytes that several sessions get, made once: after an outage nearly everybody missed the same. No I/O."""

from collections.abc import Callable, Hashable

KEEP_BYTES = 2_097_152
"""Of pieces, and the newest. One is 32 KiB or so; those who resume at once need few different ones."""

Piece = tuple[bytes, int]
"""What is written, and the offset through which that is all."""


class Pieces:
    """The newest pieces, by what they depend on. Let go of all of them now and then (`forget`)."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Piece] = {}
        self.bytes = 0

    def find(self, key: Hashable, make: Callable[[], Piece]) -> Piece:
        """The piece of this key. `make` makes it where it is not here."""
        piece = self._kept.get(key)
        if piece is None:
            piece = make()
            if self.bytes > KEEP_BYTES:
                self.forget()
            self._kept[key] = piece
            self.bytes += len(piece[0])
        return piece

    def forget(self) -> None:
        """Let go of all of them."""
        self._kept.clear()
        self.bytes = 0
