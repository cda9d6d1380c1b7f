"""Show a campaign's world time, and advance it for its editors."""

from datetime import timedelta

from aiohttp import web

from beaconfire_kit import errors
from beaconfire_kit.access import check_editor
from beaconfire_kit.answers import KEY_HEADER, answer, idempotency_key, tag
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.events.campaign import WorldTimeChanged
from beaconfire_kit.models import Body
from beaconfire_kit.store import Row
from beaconfire_kit.web import read_body
from beaconfire_publisher import campaigns
from beaconfire_publisher.access import Access
from beaconfire_publisher.fields import ElapsedSeconds
from beaconfire_publisher.store import CAMPAIGNS, Store, Writing


class Advance(Body):
    """How far to advance the clock, in seconds."""

    advance_seconds: ElapsedSeconds


async def advance(tx: Writing, campaign: Row, seconds: int) -> Row:
    """Advance the world time of a campaign and publish that. Return the new campaign.

    Raises OverflowError if world time would pass the year 9999.
    """
    new_time = campaign["world_time"] + timedelta(seconds=seconds)
    row, _ = await tx.change(CAMPAIGNS, campaign, {"world_time": new_time})
    tx.publish(
        WorldTimeChanged(
            campaign_id=row["id"],
            previous_time=campaign["world_time"],
            new_time=new_time,
            elapsed_seconds=seconds,
        )
    )
    return row


class WorldTime:
    """The HTTP call that advances the clock."""

    def __init__(self, access: Access, store: Store) -> None:
        self._access = access
        self._store = store

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/campaigns/{campaign_id}/world-time", self._access.while_asking(self._advance))]

    async def _advance(self, request: web.Request) -> web.Response:
        caller = await self._access.member(request)
        if KEY_HEADER not in request.headers:  # otherwise it may be a repeat, and every reader may see its result
            check_editor(caller)
        wanted = await read_body(request, Advance)
        key = idempotency_key(request, caller.user_id, wanted)
        async with self._store.writing(caller.metadata) as tx:
            row = await tx.find(CAMPAIGNS, {"id": caller.path["campaign_id"]})
            outcome = {"previousTime": campaigns.show(row, caller.role)["worldTime"]}
            earlier = await tx.claim(key, outcome) if key else None
            if earlier is not None:
                outcome = dict(earlier.outcome)
            else:
                check_editor(caller)
                try:
                    row = await advance(tx, row, wanted.advance_seconds)
                except OverflowError:
                    raise BeaconfireError(errors.CONFLICT, "world time ends with the year 9999") from None
        headers = {**tag(row), **await self._store.cursor_headers(tx)}
        return answer({"campaign": campaigns.show(row, caller.role), **outcome}, headers)
