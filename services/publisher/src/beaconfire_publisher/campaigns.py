"""Answer HTTP calls on campaigns, the roots. The creator of a campaign is its owner. Auth keeps the members."""

from datetime import UTC, datetime

from aiohttp import web

from beaconfire_kit.answers import answer, based_on, conflicts, idempotency_key, tag
from beaconfire_kit.events.campaign import EntityUpdated, Operation
from beaconfire_kit.founding import create_root
from beaconfire_kit.models import Body
from beaconfire_kit.roles import Role
from beaconfire_kit.store import Row
from beaconfire_kit.web import read_body
from beaconfire_publisher.access import Access
from beaconfire_publisher.fields import Clock, Description, Name, Thing
from beaconfire_publisher.store import CAMPAIGNS, Store, Writing

WORLD_BEGINS = datetime(1000, 1, 1, 8, tzinfo=UTC)


class CampaignChanges(Body):
    """The fields of a campaign that may be changed."""

    name: Name = ""
    description: Description = ""


class NewCampaign(CampaignChanges):
    """A campaign to create."""

    name: Name


class Campaign(Thing):
    """A campaign as a member sees it."""

    description: str
    world_time: datetime
    clock: Clock | None = None
    role: Role


def show(row: Row, role: Role) -> dict[str, object]:
    """Return a campaign as a member with this role sees it."""
    return Campaign.model_validate({**row, "role": role}).model_dump(mode="json")


class Campaigns:
    """The HTTP calls on campaigns."""

    def __init__(self, access: Access, store: Store) -> None:
        self._access = access
        self._store = store

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/campaigns", self._list),
            web.post("/v1/campaigns", self._create),
            web.get("/v1/campaigns/{campaign_id}", self._read),
            web.patch("/v1/campaigns/{campaign_id}", self._access.while_asking(self._change)),
            web.delete("/v1/campaigns/{campaign_id}", self._access.while_asking(self._delete)),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        roles = await self._access.roles(request)
        async with self._store.reading() as tx:
            rows = await tx.find_ids(CAMPAIGNS, list(roles))
        return answer({"campaigns": [show(row, roles[row["id"]]) for row in rows]}, tx.headers)

    async def _create(self, request: web.Request) -> web.Response:
        caller = await self._access.caller(request)
        wanted = await read_body(request, NewCampaign)
        key = idempotency_key(request, caller.user_id, wanted)
        row: Row = {}

        async def write(tx: Writing, campaign_id: str) -> None:
            nonlocal row
            values = {**wanted.model_dump(), "world_time": WORLD_BEGINS}
            row, fields = await tx.add(CAMPAIGNS, {"id": campaign_id}, values)
            tx.publish(event(row, "create", fields))

        async def check() -> None:
            await self._store.check_allowance(caller.user_id)  # a grant is an event, too

        campaign_id, tx = await create_root(self._store, self._access, caller, key, write, check=check)
        if tx is None:
            return await self._repeat(request, campaign_id)
        headers = {**tag(row), **await self._store.cursor_headers(tx)}
        return answer({"campaign": show(row, Role.OWNER)}, headers, status=201)

    async def _repeat(self, request: web.Request, campaign_id: str) -> web.Response:
        """Answer a repeated creation with the current campaign, if the caller may still see it."""
        role = await self._access.role(request, campaign_id)
        async with self._store.reading() as tx:
            row = await tx.find(CAMPAIGNS, {"id": campaign_id})
        return answer({"campaign": show(row, role)}, tag(row), status=201)

    async def _read(self, request: web.Request) -> web.Response:
        caller = await self._access.member(request)
        async with self._store.reading() as tx:
            row = await tx.find(CAMPAIGNS, {"id": caller.path["campaign_id"]})
        return answer({"campaign": show(row, caller.role)}, {**tag(row), **tx.headers})

    async def _change(self, request: web.Request) -> web.Response:
        caller = await self._access.editor(request)
        revision = based_on(request)
        wanted = (await read_body(request, CampaignChanges)).model_dump(exclude_unset=True)
        with conflicts(lambda row: show(row, caller.role)):
            async with self._store.writing(caller.metadata) as tx:
                found = await tx.find(CAMPAIGNS, {"id": caller.path["campaign_id"]})
                row, fields = await tx.change(CAMPAIGNS, found, wanted, based_on=revision)
                if fields:
                    tx.publish(event(row, "update", fields))
        return answer({"campaign": show(row, caller.role)}, {**tag(row), **await self._store.cursor_headers(tx)})

    async def _delete(self, request: web.Request) -> web.Response:
        caller = await self._access.owner(request)
        revision = based_on(request)
        with conflicts(lambda row: show(row, caller.role)):
            async with self._store.writing(caller.metadata) as tx:
                row = await tx.find(CAMPAIGNS, {"id": caller.path["campaign_id"]})
                await tx.delete(CAMPAIGNS, row, based_on=revision)
                tx.publish(event(row, "delete"))
        return web.Response(status=204, headers=await self._store.cursor_headers(tx))


def event(row: Row, operation: Operation, fields: tuple[str, ...] = ()) -> EntityUpdated:
    """Return the event of a change to a campaign."""
    return EntityUpdated(
        campaign_id=row["id"],
        entity_type="campaign",
        entity_id=row["id"],
        operation=operation,
        changed_fields=fields,
    )
