"""Answer HTTP calls on agents. An agent signs in as an editor of the workspace, and reports what it does."""

from typing import Literal

from aiohttp import web

from beaconfire_demo.workspace.fields import Detail, Line, Thing
from beaconfire_demo.workspace.store import AGENTS, WORKSPACES
from beaconfire_kit.access import Access
from beaconfire_kit.answers import answer, based_on, conflicts, idempotency_key, tag
from beaconfire_kit.events.workspace import AgentStatusChanged
from beaconfire_kit.models import Body
from beaconfire_kit.store import Row, Store, Writing, new_id
from beaconfire_kit.web import read_body

PATH = "/v1/workspaces/{workspace_id}/agents"
ONE = PATH + "/{id}"

Status = Literal["idle", "working", "waiting", "failed", "stopped"]


class AgentStatus(Body):
    """What an agent reports."""

    status: Status
    detail: Detail = ""


class NewAgent(AgentStatus):
    """An agent to register."""

    name: Line
    status: Status = "idle"


class Agent(Thing):
    """An agent as a member sees it."""

    workspace_id: str
    name: str
    status: Status
    detail: str


class Agents:
    """The HTTP calls on the agents of a workspace."""

    def __init__(self, access: Access, store: Store[Writing]) -> None:
        self._access = access
        self._store = store

    def routes(self) -> list[web.RouteDef]:
        while_asking = self._access.while_asking
        return [
            web.get(PATH, self._list),
            web.post(PATH, while_asking(self._register)),
            web.put(f"{ONE}/status", while_asking(self._report)),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        caller = await self._access.member(request)
        async with self._store.reading() as tx:
            await tx.find(WORKSPACES, {"id": caller.path["workspace_id"]})
            rows = await tx.find_all(AGENTS, caller.path)
        return answer({"agents": [_show(row) for row in rows]}, tx.headers)

    async def _register(self, request: web.Request) -> web.Response:
        caller = await self._access.editor(request)
        wanted = await read_body(request, NewAgent)
        key = idempotency_key(request, caller.user_id, wanted)
        id_ = new_id()
        async with self._store.writing(caller.metadata) as tx:
            await tx.find(WORKSPACES, {"id": caller.path["workspace_id"]})
            earlier = await tx.claim(key, {"id": id_}) if key else None
            if earlier is not None:
                row = await tx.find(AGENTS, {**caller.path, "id": earlier.outcome["id"]})
            else:
                row, _ = await tx.add(AGENTS, {**caller.path, "id": id_}, wanted.model_dump())
                tx.publish(_event(row, None))
        return answer({"agent": _show(row)}, {**tag(row), **await self._store.cursor_headers(tx)}, status=201)

    async def _report(self, request: web.Request) -> web.Response:
        """Take over a status. The last report counts; the same one again changes nothing and publishes nothing."""
        caller = await self._access.editor(request)
        revision = based_on(request)
        wanted = await read_body(request, AgentStatus)
        with conflicts(_show):
            async with self._store.writing(caller.metadata) as tx:
                found = await tx.find(AGENTS, caller.path)
                row, fields = await tx.change(AGENTS, found, wanted.model_dump(), based_on=revision)
                if fields:
                    tx.publish(_event(row, found["status"]))
        return answer({"agent": _show(row)}, {**tag(row), **await self._store.cursor_headers(tx)})


def _event(row: Row, previous: str | None) -> AgentStatusChanged:
    """Return the event of a report: the whole agent, and its status before, if it was there before."""
    said = {"agentId": row["id"], **_show(row), **({"previousStatus": previous} if previous else {})}
    return AgentStatusChanged.model_validate(said)


def _show(row: Row) -> dict[str, object]:
    return Agent.model_validate(row).model_dump(mode="json")
