"""Do long work in steps, a few in each turn of the loop for all sessions together, so that other work never waits."""

from collections import deque
from collections.abc import Callable

Step = Callable[[], None]

STEPS = 8
"""In one turn of the loop. A step is a page of the ring looked at and written to a session: about 0.2 ms."""


class FairQueue:
    """Steps of all sessions, first come, first served."""

    def __init__(self, call_soon: Callable[[Step], object], *, steps_per_turn: int = STEPS) -> None:
        self._call_soon = call_soon
        self._steps_per_turn = steps_per_turn
        self._steps: deque[Step] = deque()

    def add(self, step: Step) -> None:
        """Run a step in one of the next turns of the loop."""
        self._steps.append(step)
        if len(self._steps) == 1:
            self._call_soon(self._turn)

    def _turn(self) -> None:
        for _ in range(min(self._steps_per_turn, len(self._steps))):
            self._call_soon(self._steps.popleft())  # separately, so that a failure does not affect the others
        if self._steps:
            self._call_soon(self._turn)
