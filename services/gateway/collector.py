"""When Python's garbage collector looks at what: never at ten thousand sessions that are not garbage.

A full collection looks at every object there is: 45 ms and more at 10,000 sessions, and everybody waits. Sessions are
freed without it (nothing of them refers back to itself once the connection is gone), so what has come to stay is taken
out of its sight (`gc.freeze`): after the start, and whenever the number of sessions has moved.
"""

import ctypes
import gc

STEP = 1_000
"""Sessions by which the number must move: what was added since the last time is all that is looked at."""
THRESHOLDS = (50_000, 20, 100)


def start() -> None:
    """What is there now stays. Call it once, when everything is imported and built."""
    gc.set_threshold(*THRESHOLDS)
    gc.collect()
    gc.freeze()


class Collector:
    """Watches the number of sessions. `look` is to be called every second or so."""

    def __init__(self) -> None:
        self._sessions = 0
        self._most = 0

    def look(self, sessions: int) -> None:
        """Freeze what came to stay; once three of four are gone, look at everything and give memory back."""
        if sessions - self._sessions >= STEP:
            gc.collect()
            gc.freeze()
        elif self._most - sessions >= STEP and sessions * 4 <= self._most:
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            _trim()
            self._most = sessions
        elif self._sessions - sessions < STEP:
            return
        self._sessions = sessions
        self._most = max(self._most, sessions)


def _trim() -> None:
    """Give free memory back to the system, where the C library can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
