"""What tests of a running set share: a campaign with a member who listens, and the wait for an event or for doctor."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert

from beaconfire.diagnosis import Check
from beaconfire.local_services import Services
from beaconfire_kit.database import Database
from beaconfire_kit.envelope import Envelope
from beaconfire_publisher.store import OUTBOX
from tests.client import SocketClient, open_socket
from tests.e2e.conftest import Line
from tests.e2e.examined import looked_at
from tests.people import Person


async def until(services: Services, name: str, verdict: str) -> Check:
    """Ask doctor until a check has this verdict."""
    async with asyncio.timeout(60):
        while (check := (await looked_at(services)).get(name)) is None or check.verdict != verdict:
            await asyncio.sleep(0.2)
        return check


class Watched:
    """A campaign with a member who listens, and a way to change it."""

    def __init__(self, line: Line, owner: Person, campaign: str, settlement: str, client: SocketClient) -> None:
        self.line, self.owner, self.campaign, self.client = line, owner, campaign, client
        self._path = f"/v1/campaigns/{campaign}/settlements/{settlement}"

    async def change(self, level: int) -> None:
        await self.line.publisher("PATCH", self._path, {"level": level}, token=self.owner.token)

    async def hears(self) -> dict[str, Any]:
        """Wait for the next change of the settlement."""
        return await next_update(self.client)


async def next_update(client: SocketClient) -> dict[str, Any]:
    """The next change of a settlement. Older events may still be on their way: its creation, and a new member."""
    while (frame := await next_of(client, "settlement_updated"))["event"]["payload"]["operation"] != "update":
        pass
    return frame


async def next_of(client: SocketClient, type_: str) -> dict[str, Any]:
    """The next event of a type."""
    while (frame := await client.next("event"))["event"]["type"] != type_:
        pass
    return frame


@asynccontextmanager
async def watched(line: Line) -> AsyncIterator[Watched]:
    owner = await line.sign_up("owner")
    campaign = await line.campaign(owner)
    settlement = await line.settlement(owner, campaign)
    async with open_socket(line.services.gateways[0].url) as client:
        await client.connect(owner.token, [f"campaign:{campaign}"])
        yield Watched(line, owner, campaign, settlement, client)


async def write_row(url: str, envelope: Envelope, *, age: timedelta) -> None:
    """Write an event into an outbox, as if it had waited there."""
    store = Database(url)
    try:
        async with store.writing() as tx:
            row = {"event_id": envelope.id, "subject": envelope.subject, "body": envelope.encode()}
            await tx.execute(insert(OUTBOX).values(**row, created_at=datetime.now(UTC) - age))
    finally:
        await store.close()
