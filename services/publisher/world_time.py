"""World time: a campaign's clock, advanced by its editors."""

from datetime import timedelta
from typing import Annotated

from aiohttp import web
from pydantic import Field

from services.publisher import campaigns
from services.publisher.fields import Body
from services.publisher.http import Access
from services.publisher.store import CAMPAIGNS, Store
from shared import errors
from shared.errors import BeaconfireError
from shared.events.campaign import WorldTimeChanged
from shared.web import json_answer, read_body

YEAR_S = 365 * 24 * 3600


class Advance(Body):
    """How far to advance the clock, in seconds."""

    advance_seconds: Annotated[int, Field(ge=1, le=YEAR_S)]


class WorldTime:
    """The call that advances the clock."""

    def __init__(self, access: Access, store: Store) -> None:
        self._access = access
        self._store = store

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/campaigns/{campaign_id}/world-time", self._advance)]

    async def _advance(self, request: web.Request) -> web.Response:
        caller = await self._access.editor(request)
        wanted = await read_body(request, Advance)
        async with self._store.writing(caller.metadata) as tx:
            before = await tx.find(CAMPAIGNS, {"id": caller.path["campaign_id"]})
            try:
                new_time = before["world_time"] + timedelta(seconds=wanted.advance_seconds)
            except OverflowError:
                raise BeaconfireError(errors.CONFLICT, "world time ends with the year 9999") from None
            row, _ = await tx.change(CAMPAIGNS, before, {"world_time": new_time})
            tx.tell(
                WorldTimeChanged(
                    campaign_id=row["id"],
                    previous_time=before["world_time"],
                    new_time=new_time,
                    elapsed_seconds=wanted.advance_seconds,
                )
            )
        campaign = campaigns.show(row, caller.role)
        previous = campaigns.show(before, caller.role)["worldTime"]
        return json_answer({"campaign": campaign, "previousTime": previous})
