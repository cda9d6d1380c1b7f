"""Bytes that several sessions need to catch up, made once: after an outage nearly all missed the same. No I/O."""

from collections.abc import Callable, Hashable
from typing import NamedTuple

KEEP_BYTES = 2_097_152
"""The writes that are kept, besides the newest. One is about 32 KiB, and sessions that resume at once need few
different ones."""


class CatchUpWrite(NamedTuple):
    """The bytes written to a session, and the offset through which they are complete."""

    data: bytes
    through: int


class CatchUpCache:
    """The newest writes, by everything that decides their bytes. Call `forget` now and then."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, CatchUpWrite] = {}
        self.bytes = 0

    def find(self, key: Hashable, make: Callable[[], CatchUpWrite]) -> CatchUpWrite:
        """The write of this key. `make` makes it if it is not here."""
        found = self._kept.get(key)
        if found is None:
            found = make()
            if self.bytes > KEEP_BYTES:
                self.forget()
            self._kept[key] = found
            self.bytes += len(found.data)
        return found

    def forget(self) -> None:
        """Drop everything."""
        self._kept.clear()
        self.bytes = 0
