"""A campaign that changes while its stream or databases are replaced, and clients whose history is checked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.conftest import Broker
from tests.cursors import cursor_of
from tests.e2e.conftest import Line
from tests.faults.checker import check
from tests.faults.follower import Follower
from tests.faults.world import events_of
from tests.people import Person

PATIENCE_S = 60


class Story:
    """A campaign that changes, and clients that follow it. What they got is judged once for each epoch."""

    def __init__(self, line: Line, owner: Person, campaign: str, settlement: str) -> None:
        self.line, self.services, self._owner = line, line.services, owner
        self._path = f"/v1/campaigns/{campaign}/settlements/{settlement}"
        self.campaign = campaign
        self.broker: Broker = self.services.nats
        """The broker that has the stream."""
        self._tasks: dict[Follower, asyncio.Task[None]] = {}
        self.last = 0
        """The offset of the last event."""

    async def change(self, level: int) -> None:
        """Change the level: a row and an event."""
        await self.line.patiently("PATCH", self._path, {"level": level}, token=self._owner.token)

    async def level(self) -> int:
        """The level as a client reads it."""
        return int((await self.line.patiently("GET", self._path, token=self._owner.token))["settlement"]["level"])

    async def publish(self) -> int:
        """Publish an event that changes no row, until its offset is known. Returns the offset."""
        payload = {
            "campaignId": self.campaign,
            "settlementId": "s1",
            "operation": "update",
            "changedFields": ["mark"],
        }
        event = {"type": "settlement_updated", "payload": payload}
        async with asyncio.timeout(PATIENCE_S):
            while not (
                offset := (await self.line.patiently("POST", "/v1/events", event, token=self._owner.token)).get(
                    "offset"
                )
            ):
                pass
        self.last = cursor_of(offset).offset
        return self.last

    def follow(self, name: str, since: str = "") -> "Reloading":
        urls = [one.url for one in self.services.gateways]
        one = Reloading(name, urls, self._owner.token, [f"campaign:{self.campaign}"], since=since)
        self._tasks[one] = asyncio.create_task(one.run(), name=name)
        return one

    async def leave(self, *followers: Follower) -> None:
        for one in followers:
            task = self._tasks.pop(one)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def heard_by(self, *followers: Follower) -> None:
        """Wait until an event that is published now has reached the clients."""
        offset = await self.publish()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(one.reach(offset) for one in followers))

    async def told(self, *followers: "Reloading") -> None:
        """Wait until each client was told of a new epoch since the last time."""
        async with asyncio.timeout(PATIENCE_S):
            for one in followers:
                while not any(found.reason == "epoch_changed" for found in one.reloads):
                    await asyncio.sleep(0.02)
                one.reloads.clear()

    async def times_in_stream(self, event_id: str) -> int:
        """Return how often the stream has an event."""
        return [event.id for event in (await events_of(self.broker, self.last)).values()].count(event_id)

    async def wrong(self, *followers: "Reloading") -> dict[str, str]:
        """Compare what each client got since its last reload with the stream. Returns what is wrong."""
        stream = await events_of(self.broker, self.last)
        assert len({event.id for event in stream.values()}) == len(stream), "an event is in the stream twice"
        found = {}
        for one in followers:
            got = one.applied[one.reloaded_at :]
            verdict = check(got, stream, rooms=one.rooms, after=one.reloaded_to or one.started_at or 0, upto=self.last)
            twice = len(one.applied) - len({event_id for _, event_id in one.applied})
            if not verdict.is_clean or not verdict.delivered or twice:
                found[one.name] = f"{verdict}, {twice} applied in two epochs"
        return found


class Reloading(Follower):
    """A client that remembers where it loaded its state again."""

    reloaded_at = 0
    """How many events it had applied then."""
    reloaded_to = 0
    """The offset from which it follows since then."""

    def _take(self, frame: dict[str, Any]) -> None:
        super()._take(frame)
        if frame["type"] == "resync":
            self.reloaded_at, self.reloaded_to = len(self.applied), self.offset


@asynccontextmanager
async def story(line: Line) -> AsyncIterator[Story]:
    owner = await line.sign_up("owner")
    campaign = await line.campaign(owner)
    one = Story(line, owner, campaign, await line.settlement(owner, campaign))
    try:
        yield one
    finally:
        await one.leave(*list(one._tasks))
