"""Answer HTTP calls on approvals: editors request and decide, and every member sees them. The first decision counts."""

from collections.abc import Container
from datetime import UTC, datetime
from itertools import chain
from typing import Literal

from aiohttp import web

from beaconfire_demo.workspace.fields import Detail, Id, Line, Text, Thing
from beaconfire_demo.workspace.notifications import notify
from beaconfire_demo.workspace.people import People
from beaconfire_demo.workspace.store import AGENTS, APPROVALS, WORKSPACES
from beaconfire_kit import errors
from beaconfire_kit.access import Access, Member
from beaconfire_kit.answers import answer, based_on, conflicts, idempotency_key, tag
from beaconfire_kit.changes import changed_since
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.events.workspace import ApprovalCreated, ApprovalDeleted, ApprovalUpdated
from beaconfire_kit.models import Body
from beaconfire_kit.roles import can_own
from beaconfire_kit.store import Changed, Row, Store, Writing, new_id
from beaconfire_kit.web import read_body

PATH = "/v1/workspaces/{workspace_id}/approvals"
ONE = PATH + "/{id}"
PENDING = "pending"
STATUSES = (PENDING, "approved", "rejected")
MOST = 100
"""How many approvals of each status a list has, the newest first."""

Decided = Literal["approved", "rejected"]


class NewApproval(Body):
    """An approval to request."""

    title: Line
    detail: Text = ""
    agent_id: Id | None = None
    """The agent that asks, if it is one."""


class Decision(Body):
    """What an editor decides."""

    status: Decided
    reason: Detail = ""


class Approval(Thing):
    """An approval as a member sees it."""

    workspace_id: str
    title: str
    detail: str
    status: Literal["pending", "approved", "rejected"]
    agent_id: str | None
    requested_by: str
    decided_by: str | None
    decided_at: datetime | None
    reason: str


class Approvals:
    """The HTTP calls on the approvals of a workspace."""

    def __init__(self, access: Access, store: Store[Writing], people: People) -> None:
        self._access = access
        self._store = store
        self._people = people

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(PATH, self._list),
            web.post(PATH, self._request),
            web.get(ONE, self._read),
            web.post(f"{ONE}/decision", self._decide),
            web.delete(ONE, self._delete),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        caller = await self._access.member(request)
        async with self._store.reading() as tx:
            await tx.find(WORKSPACES, {"id": caller.path["workspace_id"]})
            found = [
                await tx.find_last(APPROVALS, {**caller.path, "status": status}, "created_at", most=MOST)
                for status in STATUSES
            ]
        rows = chain.from_iterable(found)
        return answer({"approvals": [show(row) for row in rows]}, tx.headers)

    async def _read(self, request: web.Request) -> web.Response:
        caller = await self._access.member(request)
        async with self._store.reading() as tx:
            row = await tx.find(APPROVALS, caller.path)
        return answer({"approval": show(row)}, {**tag(row), **tx.headers})

    async def _request(self, request: web.Request) -> web.Response:
        caller = await self._access.editor(request)
        wanted = await read_body(request, NewApproval)
        key = idempotency_key(request, caller.user_id, wanted)
        deciders = await self._people.deciders(request, caller.path["workspace_id"])
        id_ = new_id()
        async with self._store.writing(caller.metadata) as tx:
            await tx.find(WORKSPACES, {"id": caller.path["workspace_id"]})
            earlier = await tx.claim(key, {"id": id_}) if key else None
            if earlier is not None:
                row = await tx.find(APPROVALS, {**caller.path, "id": earlier.outcome["id"]})
            else:
                row = await self._add(tx, caller, id_, wanted, deciders)
        return answer({"approval": show(row)}, {**tag(row), **await self._store.cursor_headers(tx)}, status=201)

    async def _add(self, tx: Writing, caller: Member, id_: str, wanted: NewApproval, deciders: list[str]) -> Row:
        agent = {**caller.path, "id": wanted.agent_id}
        if wanted.agent_id is not None and await tx.count(AGENTS, agent) == 0:
            raise BeaconfireError(errors.BAD_REQUEST, f"agentId: no agent {wanted.agent_id!r} is in this workspace")
        given = {
            "status": PENDING,
            "requested_by": caller.user_id,
            "decided_by": None,
            "decided_at": None,
            "reason": "",
        }
        row, _ = await tx.add(APPROVALS, {**caller.path, "id": id_}, {**wanted.model_dump(), **given})
        tx.publish(ApprovalCreated.model_validate(show(row)))
        others = [user_id for user_id in deciders if user_id != caller.user_id]
        await notify(
            tx,
            others,
            workspace_id=row["workspace_id"],
            title=f"Approval wanted: {row['title']}",
            body=row["detail"],
            link=id_,
        )
        return row

    async def _decide(self, request: web.Request) -> web.Response:
        """Decide an approval that is pending. A repeat under the same key gets the same answer."""
        caller = await self._access.editor(request)
        revision = based_on(request)
        wanted = await read_body(request, Decision)
        key = idempotency_key(request, caller.user_id, wanted)
        members = await self._people.roles(request, caller.path["workspace_id"])
        with conflicts(show):
            async with self._store.writing(caller.metadata) as tx:
                row = await tx.find(APPROVALS, caller.path)
                earlier = await tx.claim(key, {"id": row["id"]}) if key else None
                if earlier is None:
                    _check_pending(row, revision)
                    row = await self._write(tx, caller, row, wanted, members)
        return answer({"approval": show(row)}, {**tag(row), **await self._store.cursor_headers(tx)})

    async def _write(self, tx: Writing, caller: Member, found: Row, wanted: Decision, members: Container[str]) -> Row:
        decided = {"decided_by": caller.user_id, "decided_at": datetime.now(UTC)}
        row, _ = await tx.change(APPROVALS, found, {**wanted.model_dump(), **decided})
        part = ("id", "workspaceId", "revision", "updatedAt", "status", "reason", "decidedBy", "decidedAt")
        shown = show(row)
        tx.publish(ApprovalUpdated.model_validate({name: shown[name] for name in part}))
        # Whoever has left the workspace may learn nothing more of it.
        if row["requested_by"] != caller.user_id and row["requested_by"] in members:
            title = f"{wanted.status.capitalize()}: {row['title']}"
            to = {"workspace_id": row["workspace_id"], "link": row["id"]}
            await notify(tx, [row["requested_by"]], title=title, body=wanted.reason, **to)
        return row

    async def _delete(self, request: web.Request) -> web.Response:
        """Delete an approval. Editors withdraw their own while it is pending, and owners delete any."""
        caller = await self._access.editor(request)
        revision = based_on(request)
        with conflicts(show):
            async with self._store.writing(caller.metadata) as tx:
                row = await tx.find(APPROVALS, caller.path)
                is_own = row["requested_by"] == caller.user_id and row["status"] == PENDING
                if not is_own and not can_own(caller.role):
                    why = "only owners may delete this: it is decided, or another user requested it"
                    raise BeaconfireError(errors.FORBIDDEN, why)
                await tx.delete(APPROVALS, row, based_on=revision)
                tx.publish(ApprovalDeleted(workspace_id=row["workspace_id"], id=row["id"]))
        return web.Response(status=204, headers=await self._store.cursor_headers(tx))


def show(row: Row) -> dict[str, object]:
    """Return an approval as callers see it."""
    return Approval.model_validate(row).model_dump(mode="json")


def _check_pending(row: Row, revision: int | None) -> None:
    """Raise BeaconfireError `conflict` if the approval was decided, and Changed if it is not what the caller saw."""
    if row["status"] != PENDING:
        raise BeaconfireError(
            errors.CONFLICT,
            f"this was already {row['status']}: the first decision counts",
            details={"conflicts": ["status"], "current": show(row)},
        )
    if revision is not None and revision != row["revision"]:
        raise Changed(row, changed_since(row["field_revisions"], revision))
