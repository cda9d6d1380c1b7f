"""Wake sessions, and whatever else waits, when the gateway has reached an offset: one list for all. No I/O."""

from bisect import bisect_left, insort
from typing import Protocol


class Waiter(Protocol):
    """What is called when the offset is reached."""

    def wake(self) -> None: ...


class Waiting(Waiter, Protocol):
    """A session whose request waits."""

    async def woken(self) -> None: ...


class OffsetWaiters:
    """One for each gateway."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, int, Waiter]] = []
        """(Minus the offset, a number of its own, the waiter), sorted: the nearest is the last."""

    def add(self, waiter: Waiter, offset: int) -> None:
        """Wake it once, when `reached` is called with the offset."""
        insort(self.waiting, (-offset, id(waiter), waiter))

    async def wait(self, session: Waiting, offset: int) -> None:
        """Wait until `reached` was called with the offset, or the session is woken for another reason."""
        entry = (-offset, id(session), session)
        insort(self.waiting, entry)
        try:
            await session.woken()
        finally:
            at = bisect_left(self.waiting, entry)
            if self.waiting[at : at + 1] == [entry]:  # else `reached` or `release` took it out
                del self.waiting[at]

    def reached(self, offset: int) -> None:
        """Wake the sessions that wait for this offset or an earlier one."""
        while self.waiting and -self.waiting[-1][0] <= offset:
            self.waiting.pop()[2].wake()

    def release(self) -> None:
        """Wake all of them: the gateway goes on at another offset, perhaps of another epoch."""
        waiting, self.waiting = self.waiting, []
        for _, _, session in waiting:
            session.wake()
