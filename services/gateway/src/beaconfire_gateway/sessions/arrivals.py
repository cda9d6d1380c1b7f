"""Who waits until the gateway has got to an offset: one list for all, woken by delivery. No I/O."""

from bisect import bisect_left, insort
from typing import Protocol


class Waiting(Protocol):
    """A session whose question waits."""

    async def woken(self) -> None: ...
    def wake(self) -> None: ...


class Arrivals:
    """One for each gateway."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, int, Waiting]] = []
        """(Minus the offset, a number of its own, who waits), sorted: the nearest is the last."""

    async def wait(self, session: Waiting, offset: int) -> None:
        """Wait until `reached` was called with the offset, or the session is woken for another reason."""
        place = (-offset, id(session), session)
        insort(self.waiting, place)
        try:
            await session.woken()
        finally:
            at = bisect_left(self.waiting, place)
            if self.waiting[at : at + 1] == [place]:  # else `reached` or `begin` took it out
                del self.waiting[at]

    def reached(self, offset: int) -> None:
        """Wake who waited for this offset, or an earlier one."""
        while self.waiting and -self.waiting[-1][0] <= offset:
            self.waiting.pop()[2].wake()

    def begin(self) -> None:
        """Wake everybody: the gateway goes on at another place, maybe of another epoch."""
        waiting, self.waiting = self.waiting, []
        for _, _, session in waiting:
            session.wake()
