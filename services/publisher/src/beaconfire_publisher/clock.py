"""Set and stop a campaign's clock, for its editors. The scheduler advances it."""

from datetime import UTC, datetime, timedelta

from aiohttp import web

from beaconfire_kit import errors
from beaconfire_kit.answers import answer, tag
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.store import Row
from beaconfire_kit.web import read_body
from beaconfire_publisher import campaigns
from beaconfire_publisher.access import Access
from beaconfire_publisher.fields import Clock
from beaconfire_publisher.store import CAMPAIGNS, CLOCKS, Store, Writing

MAX_OF_A_USER = 20  # each may advance every second, and any user can create any number of campaigns


async def start(tx: Writing, campaign: Row, clock: Clock, user_id: str) -> Row:
    """Set the clock of a campaign. It is first due after one period. An unchanged clock continues as it is.

    Raises BeaconfireError `conflict` if the user has already set as many clocks as may run.
    """
    row, fields = await tx.change(CAMPAIGNS, campaign, {"clock": clock})
    if fields:
        if await tx.count(CLOCKS, {"set_by": user_id}) >= MAX_OF_A_USER and campaign["clock"] is None:
            raise BeaconfireError(
                errors.CONFLICT, f"{MAX_OF_A_USER} clocks that you have set are running: stop one first"
            )
        due_at = datetime.now(UTC) + timedelta(seconds=clock.every_s)
        await tx.put(CLOCKS, {"campaign_id": row["id"]}, {"due_at": due_at, "set_by": user_id})
        tx.publish(campaigns.event(row, "update", fields))
    return row


async def stop(tx: Writing, campaign: Row) -> None:
    """Stop the clock of a campaign, if it runs."""
    row, fields = await tx.change(CAMPAIGNS, campaign, {"clock": None})
    if fields:
        await tx.remove(CLOCKS, {"campaign_id": row["id"]})
        tx.publish(campaigns.event(row, "update", fields))


class Clocks:
    """The HTTP calls on clocks."""

    def __init__(self, access: Access, store: Store) -> None:
        self._access = access
        self._store = store

    def routes(self) -> list[web.RouteDef]:
        path = "/v1/campaigns/{campaign_id}/clock"
        while_asking = self._access.while_asking
        return [web.put(path, while_asking(self._set)), web.delete(path, while_asking(self._stop))]

    async def _set(self, request: web.Request) -> web.Response:
        caller = await self._access.editor(request)
        wanted = await read_body(request, Clock)
        async with self._store.writing(caller.metadata) as tx:
            found = await tx.find(CAMPAIGNS, {"id": caller.path["campaign_id"]})
            row = await start(tx, found, wanted, caller.user_id)
        headers = {**tag(row), **await self._store.cursor_headers(tx)}
        return answer({"campaign": campaigns.show(row, caller.role)}, headers)

    async def _stop(self, request: web.Request) -> web.Response:
        caller = await self._access.editor(request)
        async with self._store.writing(caller.metadata) as tx:
            await stop(tx, await tx.find(CAMPAIGNS, {"id": caller.path["campaign_id"]}))
        return web.Response(status=204, headers=await self._store.cursor_headers(tx))
