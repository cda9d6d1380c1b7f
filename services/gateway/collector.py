"""When Python's garbage collector looks at what: never at ten thousand sessions that are not garbage.

A full collection looks at every object there is: 0.1 s and more at 10,000 sessions, and everybody waits. Sessions are
freed without it (nothing of them refers back to itself once the connection is gone), so what has come to stay is taken
out of its sight (`gc.freeze`): after the start, and whenever the number of sessions has moved.

Memory goes back to the system once most sessions are gone and do not come back. Until then what is known of them is
kept, as a storm of them costs half as much with it; it lies scattered among all that was theirs, so that none of that
goes back either: 23 of 34 MiB stay.
"""

import ctypes
import gc
from collections.abc import Callable

STEP = 1_000
"""Sessions by which the number must move: what was added since the last time is all that is looked at."""
PATIENCE = 30
"""Looks for which most sessions have to be gone: as long as clients take to come back from an outage, at most."""
THRESHOLDS = (50_000, 20, 100)


def start() -> None:
    """What is there now stays. Call it once, when everything is imported and built."""
    gc.set_threshold(*THRESHOLDS)
    gc.collect()
    gc.freeze()


class Collector:
    """Watches the number of sessions. `look` is to be called every second or so.

    `let_go` is called before memory is given back: what is kept of those who are gone is of no more use.
    """

    def __init__(self, let_go: Callable[[], None]) -> None:
        self._let_go = let_go
        self._sessions = 0
        self._most = 0
        self._deserted = 0

    def look(self, sessions: int) -> None:
        """Freeze what came to stay; once three of four have been gone for a while, give their memory back."""
        if sessions - self._sessions >= STEP:
            gc.collect()
            gc.freeze()
        if abs(sessions - self._sessions) >= STEP:
            self._sessions = sessions
        self._most = max(self._most, sessions)
        is_deserted = self._most - sessions >= STEP and sessions * 4 <= self._most
        self._deserted = self._deserted + 1 if is_deserted else 0
        if self._deserted > PATIENCE:
            self._give_back()
            self._most, self._deserted = sessions, 0

    def _give_back(self) -> None:
        """Look at everything, also at what was frozen: garbage may have been frozen with it."""
        self._let_go()
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        _trim()


def _trim() -> None:
    """Give free memory back to the system, where the C library can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
