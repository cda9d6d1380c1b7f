"""Answer HTTP calls on issues. Each belongs to a team, and may be planned for a project and a cycle."""

from aiohttp import web

from beaconfire_demo.tracker.collection import ACTIONS, Collection
from beaconfire_demo.tracker.feed import Action, enter, old_and_new, values
from beaconfire_demo.tracker.fields import Description, Name, Priority, Status, Thing
from beaconfire_demo.tracker.progress import PLANS, follow
from beaconfire_demo.tracker.store import ISSUES, TEAMS
from beaconfire_demo.tracker.workspaces import ONE
from beaconfire_kit import errors
from beaconfire_kit.access import Member
from beaconfire_kit.collection import Change
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.event import Event, Id
from beaconfire_kit.events.tracker import IssueArchived, IssueCreated, IssueDeleted, IssueUpdated
from beaconfire_kit.models import Body
from beaconfire_kit.store import Reading, Row, Writing

_NAMED = ("workspace_id", "team_id", "id", "identifier", "title", "revision")


class IssueChanges(Body):
    """The fields of an issue that may be changed."""

    title: Name = ""
    description: Description = ""
    status: Status = "backlog"
    priority: Priority = "none"
    assignee_id: Id | None = None
    project_id: Id | None = None
    cycle_id: Id | None = None
    archived: bool = False


class NewIssue(IssueChanges):
    """An issue to open."""

    title: Name


class Issue(Thing):
    """An issue as callers see it."""

    team_id: str
    identifier: str
    title: str
    description: str
    status: str
    priority: str
    assignee_id: str | None
    project_id: str | None
    cycle_id: str | None
    archived: bool
    creator_id: str
    comment_count: int


class Issues(Collection):
    """The issues of a team. Those of all teams can be listed together."""

    word = "issue"
    plural = "issues"
    path = ONE + "/teams/{team_id}/issues"
    thing_path = path + "/{id}"
    filters = ("project_id", "cycle_id", "status", "assignee_id")
    table = ISSUES
    new = NewIssue
    changes = IssueChanges
    answer = Issue

    def routes(self) -> list[web.RouteDef]:
        return [*super().routes(), web.get(ONE + "/issues", self._list)]

    async def check_parent(self, tx: Reading, path: Row) -> None:
        await super().check_parent(tx, path)
        if "team_id" in path:
            await tx.find(TEAMS, {"workspace_id": path["workspace_id"], "id": path["team_id"]})

    async def lock_others(self, tx: Writing, path: Row, wanted: Row) -> None:
        """Find the project and the cycle, so that they cannot be deleted in the meantime."""
        await super().lock_others(tx, path, wanted)
        for column, table in PLANS.items():
            if (plan_id := wanted.get(column)) is None:
                continue
            try:
                await tx.find(table, {"workspace_id": path["workspace_id"], "id": plan_id})
            except BeaconfireError:
                word = column.removesuffix("_id")
                raise BeaconfireError(errors.BAD_REQUEST, f"{word}Id: this workspace has no such {word}") from None

    async def given(self, tx: Writing, caller: Member) -> Row:
        team = await tx.find(TEAMS, {"id": caller.path["team_id"]})
        number = team["last_number"] + 1
        await tx.note(TEAMS, team, {"last_number": number})
        return {"identifier": f"{team['key']}-{number}", "creator_id": caller.user_id, "comment_count": 0}

    async def report(self, tx: Writing, change: Change) -> None:
        row, before, fields = change.row, change.before, change.fields
        action: Action = ACTIONS[change.operation]
        if change.operation == "create":
            tx.publish(IssueCreated.model_validate({"workspaceId": row["workspace_id"], **self.show(row)}))
        elif change.operation == "delete":
            tx.publish(IssueDeleted.model_validate(_named(row)))
        else:
            if "archived" in fields and row["archived"]:
                action = "archived"
                tx.publish(IssueArchived.model_validate(_named(row)))
            tx.publish(self.updated(before, row, fields))
        changes = old_and_new(before, row, fields) if change.operation == "update" else {}
        await enter(tx, change.caller.user_id, action, "issue", row, issue=row, changes=changes)
        await follow(tx, before, {} if change.operation == "delete" else row)

    @staticmethod
    def updated(before: Row, row: Row, fields: tuple[str, ...]) -> Event:
        """Return the event of changed fields. `changes` has the new values, and `previous` the old ones."""
        said = {"changes": values(row, fields), "previous": values(before, fields)}
        return IssueUpdated.model_validate({**_named(row), **said})


def _named(row: Row) -> Row:
    return {name: row[name] for name in _NAMED}
