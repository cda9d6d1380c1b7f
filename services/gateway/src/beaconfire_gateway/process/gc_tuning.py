"""When Python's garbage collector looks at what: never at ten thousand sessions that are not garbage.

A full collection looks at every object there is: 0.1 s and more at 10,000 sessions, and everybody waits. Sessions are
freed without it (nothing of them refers back to itself once the connection is gone), so what has come to stay is taken
out of its sight (`gc.freeze`): after the start, and whenever the number of sessions has moved.

Memory goes back to the system once most sessions are gone and do not come back. Until then what is known of them is
kept, as a storm of them costs half as much with it. It can go back as sessions lie apart (`beaconfire_kit.memory`).
"""

import gc
from collections.abc import Callable

from beaconfire_kit.memory import give_back

STEP = 1_000
"""Sessions by which the number must move: what was added since the last time is all that is looked at."""
PATIENCE_S = 30.0
"""For how long most sessions have to be gone, at least: clients take no longer to come back from an outage."""
THRESHOLDS = (50_000, 20, 100)


def start() -> None:
    """What is there now stays. Call it once, when everything is imported and built."""
    gc.set_threshold(*THRESHOLDS)
    gc.collect()
    gc.freeze()


class Collector:
    """Watches the number of sessions. `look` is to be called every second or so.

    `let_go` is called before memory is given back: what is kept of those who are gone is of no more use. Sessions that
    have ended are held for `held_s` seconds, at most: memory is not given back before.
    """

    def __init__(self, let_go: Callable[[], None], held_s: float = 0.0) -> None:
        self._let_go = let_go
        self._patience_s = max(PATIENCE_S, held_s)
        self._sessions = 0
        self._most = 0
        self._deserted_at: float | None = None

    def look(self, sessions: int, now: float) -> None:
        """Freeze what came to stay; once three of four have been gone for a while, give their memory back.

        `now` is of any steady clock, in seconds.
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
        """Look at everything, also at what was frozen: garbage may have been frozen with it."""
        self._let_go()
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        give_back()
