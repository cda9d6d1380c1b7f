"""Answer HTTP calls on workspaces, the roots. The creator of a workspace is its owner. Auth keeps the members."""

from aiohttp import web

from beaconfire_demo.workspace.fields import Line, Text, Thing
from beaconfire_demo.workspace.store import WORKSPACES
from beaconfire_kit.access import Access
from beaconfire_kit.answers import answer, idempotency_key, tag
from beaconfire_kit.founding import create_root
from beaconfire_kit.models import Body
from beaconfire_kit.roles import Role
from beaconfire_kit.store import Row, Store, Writing
from beaconfire_kit.web import read_body

PATH = "/v1/workspaces"
ONE = PATH + "/{workspace_id}"


class NewWorkspace(Body):
    """A workspace to create."""

    name: Line
    description: Text = ""


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

        async def write(tx: Writing, workspace_id: str) -> None:
            await tx.add(WORKSPACES, {"id": workspace_id}, wanted.model_dump())

        workspace_id, tx = await create_root(self._store, self._access, caller, key, write)
        role = Role.OWNER if tx is not None else await self._access.role(request, workspace_id)
        return await self._show(workspace_id, role, status=201)

    async def _read(self, request: web.Request) -> web.Response:
        caller = await self._access.member(request)
        return await self._show(caller.path["workspace_id"], caller.role, status=200)

    async def _show(self, workspace_id: str, role: Role, *, status: int) -> web.Response:
        async with self._store.reading() as tx:
            row = await tx.find(WORKSPACES, {"id": workspace_id})
        return answer({"workspace": show(row, role)}, {**tag(row), **tx.headers}, status=status)
