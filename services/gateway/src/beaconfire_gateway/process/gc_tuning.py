"""Keep Python's garbage collector from scanning ten thousand sessions that are not garbage.

A full collection looks at every object: 0.1 s and more at 10,000 sessions, and all clients wait. Sessions are freed
without the collector, because none refers to itself once its connection is gone. So objects that will stay are hidden
from it (`gc.freeze`): after the start, and whenever the number of sessions has grown by a step.

Once most sessions are gone and do not return, everything kept for them is dropped. Free memory goes back to the system
as far as possible (ADR 0029). Until then it is kept, because clients that return cost half as much with it.
"""

import ctypes
import gc
from collections.abc import Callable

STEP = 1_000
"""Growth of the number of sessions that is frozen at a time. Only what was added since the last time is scanned."""
PATIENCE_S = 30.0
"""How long most sessions must have been gone. Clients return from an outage within this time."""
THRESHOLDS = (50_000, 20, 100)


def start() -> None:
    """Freeze everything that exists. Call it once, when everything is imported and built."""
    gc.set_threshold(*THRESHOLDS)
    gc.collect()
    gc.freeze()


class Collector:
    """Watch the number of sessions. Call `look` about every second.

    `let_go` is called before memory is given back. It drops what is kept for sessions that are gone. Sessions that have
    ended are held for at most `held_s` seconds, and memory is not given back earlier.
    """

    def __init__(self, let_go: Callable[[], None], held_s: float = 0.0) -> None:
        self._let_go = let_go
        self._patience_s = max(PATIENCE_S, held_s)
        self._sessions = 0
        self._most = 0
        self._deserted_at: float | None = None

    def look(self, sessions: int, now: float) -> None:
        """Freeze new sessions. Once three of four sessions have been gone for a while, give their memory back.

        `now` is the time of any steady clock, in seconds.
        """
        if sessions - self._sessions >= STEP:
            gc.collect()
            gc.freeze()
        if abs(sessions - self._sessions) >= STEP:
            self._sessions = sessions
        self._most = max(self._most, sessions)
        if self._most - sessions < STEP or sessions * 4 > self._most:
            self._deserted_at = None
        elif self._deserted_at is None:
            self._deserted_at = now
        elif now - self._deserted_at >= self._patience_s:
            self._give_back()
            self._most, self._deserted_at = sessions, None

    def _give_back(self) -> None:
        """Collect everything, also what was frozen: garbage may have been frozen with it."""
        self._let_go()
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        _trim_heap()


def _trim_heap() -> None:
    """Return free memory of the C library to the system, if the library can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
