"""Waiting until a change of one's own has come back, by its place in the stream or by its event's id."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from beaconfire_client.core.actions import Action, Sighted
from beaconfire_client.core.cursor import Cursor
from beaconfire_client.core.timers import Timers

REMEMBERED = 1000
"""How many event ids are remembered: an event may arrive before the answer that names it."""


@dataclass(frozen=True, slots=True)
class _Waiter:
    mark: str | int
    place: Cursor | None
    """None if the mark is an event's id, or an offset of the current epoch."""


class Sightings:
    """What is waited for. `has_reached` says whether everything up to a cursor, or an offset, was applied."""

    def __init__(
        self, timers: Timers, has_reached: Callable[[Cursor | int], bool], tell: Callable[[Action], None]
    ) -> None:
        self._timers = timers
        self._has_reached = has_reached
        self._tell = tell
        self._numbers = count(1)
        self._waiters: dict[int, _Waiter] = {}
        self._ids: OrderedDict[str, None] = OrderedDict()

    def wait(self, mark: str | int, timeout_s: float) -> int:
        """Begin to wait. Returns the number that `Sighted` will have."""
        number = next(self._numbers)
        self._waiters[number] = _Waiter(mark, _place_of(mark))
        late = f"{mark} was not seen within {timeout_s:g} s"
        self._timers.start(f"seen {number}", timeout_s, lambda: self._end(number, "timeout", late))
        self.look()
        return number

    def note(self, event_id: str) -> None:
        """An event was applied."""
        self._ids[event_id] = None
        self._ids.move_to_end(event_id)
        if len(self._ids) > REMEMBERED:
            self._ids.popitem(last=False)

    def look(self) -> None:
        """Something was applied, or the cursor moved: end what waited for it."""
        for number, waiter in list(self._waiters.items()):
            if self._is_seen(waiter):
                self._end(number)

    def skipped(self, epoch: str) -> None:
        """Events were missed for good. `epoch` is the current one. End what may be among them."""
        self.look()
        for number, waiter in list(self._waiters.items()):
            is_ahead = isinstance(waiter.mark, int) or (waiter.place is not None and waiter.place.epoch == epoch)
            if not is_ahead:
                self._end(number, "resync", "Events were missed for good: load the state again")

    def fail(self, code: str, message: str) -> None:
        """End all waiting."""
        for number in list(self._waiters):
            self._end(number, code, message)

    def forget(self, number: int) -> None:
        """Nobody waits for this any more."""
        self._waiters.pop(number, None)
        self._timers.stop(f"seen {number}")

    def _is_seen(self, waiter: _Waiter) -> bool:
        if isinstance(waiter.mark, int):
            return self._has_reached(waiter.mark)
        # An id may look like a cursor: "EVENTS:12" is both.
        return waiter.mark in self._ids or (waiter.place is not None and self._has_reached(waiter.place))

    def _end(self, number: int, code: str | None = None, message: str = "") -> None:
        self.forget(number)
        self._tell(Sighted(number, code, message))


def _place_of(mark: str | int) -> Cursor | None:
    try:
        return Cursor.parse(mark)
    except ValueError:
        return None
