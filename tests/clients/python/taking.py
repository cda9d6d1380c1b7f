"""What the tests of the Python client share: taking events, and waiting for a state."""

import asyncio

from beaconfire_client import Event, Notice, Room, State, StateChanged, Status

ROOM, OTHER = "campaign:c1", "campaign:c2"
WAIT_S = 20.0


async def take(room: Room, count: int) -> list[Event]:
    """The next events of a room."""
    async with asyncio.timeout(WAIT_S):
        return [await anext(room) for _ in range(count)]


def ids(events: list[Event]) -> list[str]:
    """The settlements that the events are about."""
    return [event.payload["settlementId"] for event in events]


class Diary:
    """The notices of a client. `Diary` itself is its `on_notice`."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self._changed = asyncio.Event()

    def __call__(self, notice: Notice) -> None:
        self.notices.append(notice)
        self._changed.set()

    @property
    def states(self) -> list[Status]:
        return [notice.status for notice in self.notices if isinstance(notice, StateChanged)]

    async def until(self, state: State, *, transport: str | None = None, times: int = 1) -> Status:
        """Wait until a state was there so many times; of a transport, if one is given."""
        async with asyncio.timeout(WAIT_S):
            while True:
                found = [one for one in self.states if one.state is state and transport in (None, one.transport)]
                if len(found) >= times:
                    return found[-1]
                self._changed.clear()
                await self._changed.wait()
