"""Answer HTTP calls on workspaces, the roots. The creator of a workspace is its owner. Auth keeps the members."""

from aiohttp import web

from beaconfire_demo.tracker.feed import enter, old_and_new, tell
from beaconfire_demo.tracker.fields import Description, Name, Thing
from beaconfire_demo.tracker.store import WORKSPACES
from beaconfire_kit.access import Access
from beaconfire_kit.answers import answer, based_on, conflicts, idempotency_key, tag
from beaconfire_kit.founding import create_root
from beaconfire_kit.models import Body
from beaconfire_kit.roles import Role
from beaconfire_kit.store import Row, Store, Writing
from beaconfire_kit.web import read_body

PATH = "/v1/tracker/workspaces"
ONE = PATH + "/{workspace_id}"


class WorkspaceChanges(Body):
    """The fields of a workspace that may be changed."""

    name: Name = ""
    description: Description = ""


class NewWorkspace(WorkspaceChanges):
    """A workspace to create."""

    name: Name


class Workspace(Thing):
    """A workspace as a member sees it."""

    name: str
    description: str
    role: Role


def show(row: Row, role: Role) -> dict[str, object]:
    """Return a workspace as a member with this role sees it."""
    return Workspace.model_validate({**row, "role": role}).model_dump(mode="json")


class Workspaces:
    """The HTTP calls on workspaces."""

    def __init__(self, access: Access, store: Store[Writing]) -> None:
        self._access = access
        self._store = store

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(PATH, self._list),
            web.post(PATH, self._create),
            web.get(ONE, self._read),
            web.patch(ONE, self._change),
            web.delete(ONE, self._delete),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        roles = await self._access.roles(request)
        async with self._store.reading() as tx:
            rows = await tx.find_ids(WORKSPACES, list(roles))
        return answer({"workspaces": [show(row, roles[row["id"]]) for row in rows]}, tx.headers)

    async def _create(self, request: web.Request) -> web.Response:
        caller = await self._access.caller(request)
        wanted = await read_body(request, NewWorkspace)
        key = idempotency_key(request, caller.user_id, wanted)
        row: Row = {}

        async def write(tx: Writing, workspace_id: str) -> None:
            nonlocal row
            row, _ = await tx.add(WORKSPACES, {"id": workspace_id}, wanted.model_dump())
            await enter(tx, caller.user_id, "created", "workspace", row)

        workspace_id, tx = await create_root(self._store, self._access, caller, key, write)
        if tx is None:
            return await self._repeat(request, workspace_id)
        headers = {**tag(row), **await self._store.cursor_headers(tx)}
        return answer({"workspace": show(row, Role.OWNER)}, headers, status=201)

    async def _repeat(self, request: web.Request, workspace_id: str) -> web.Response:
        """Answer a repeated creation with the current workspace, if the caller may still see it."""
        role = await self._access.role(request, workspace_id)
        async with self._store.reading() as tx:
            row = await tx.find(WORKSPACES, {"id": workspace_id})
        return answer({"workspace": show(row, role)}, tag(row), status=201)

    async def _read(self, request: web.Request) -> web.Response:
        caller = await self._access.member(request)
        async with self._store.reading() as tx:
            row = await tx.find(WORKSPACES, {"id": caller.path["workspace_id"]})
        return answer({"workspace": show(row, caller.role)}, {**tag(row), **tx.headers})

    async def _change(self, request: web.Request) -> web.Response:
        caller = await self._access.owner(request)
        revision = based_on(request)
        wanted = (await read_body(request, WorkspaceChanges)).model_dump(exclude_unset=True)
        with conflicts(lambda row: show(row, caller.role)):
            async with self._store.writing(caller.metadata) as tx:
                found = await tx.find(WORKSPACES, {"id": caller.path["workspace_id"]})
                row, fields = await tx.change(WORKSPACES, found, wanted, based_on=revision)
                if fields:
                    changes = old_and_new(found, row, fields)
                    await enter(tx, caller.user_id, "updated", "workspace", row, changes=changes)
        return answer({"workspace": show(row, caller.role)}, {**tag(row), **await self._store.cursor_headers(tx)})

    async def _delete(self, request: web.Request) -> web.Response:
        caller = await self._access.owner(request)
        revision = based_on(request)
        with conflicts(lambda row: show(row, caller.role)):
            async with self._store.writing(caller.metadata) as tx:
                row = await tx.find(WORKSPACES, {"id": caller.path["workspace_id"]})
                await tx.delete(WORKSPACES, row, based_on=revision)
                tell(tx, caller.user_id, "deleted", "workspace", row)
        return web.Response(status=204, headers=await self._store.cursor_headers(tx))
