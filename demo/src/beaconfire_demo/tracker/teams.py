"""Answer HTTP calls on teams. The key of a team begins the identifiers of its issues."""

from beaconfire_demo.tracker.collection import ACTIONS, Collection
from beaconfire_demo.tracker.feed import enter, old_and_new
from beaconfire_demo.tracker.fields import Name, TeamKey, Thing
from beaconfire_demo.tracker.store import ISSUES, TEAMS
from beaconfire_demo.tracker.workspaces import ONE
from beaconfire_kit import errors
from beaconfire_kit.access import Member
from beaconfire_kit.collection import Change
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.models import Body
from beaconfire_kit.store import Row, Writing


class TeamChanges(Body):
    """The fields of a team that may be changed. Its key stays: people have written down its issues' identifiers."""

    name: Name = ""


class NewTeam(TeamChanges):
    """A team to create."""

    name: Name
    key: TeamKey


class Team(Thing):
    """A team as callers see it."""

    name: str
    key: str


class Teams(Collection):
    """The teams of a workspace."""

    word = "team"
    plural = "teams"
    path = ONE + "/teams"
    thing_path = path + "/{id}"
    table = TEAMS
    new = NewTeam
    changes = TeamChanges
    answer = Team

    async def lock_others(self, tx: Writing, path: Row, wanted: Row) -> None:
        await super().lock_others(tx, path, wanted)
        if "key" in wanted and await tx.find_all(TEAMS, {"workspace_id": path["workspace_id"], "key": wanted["key"]}):
            raise BeaconfireError(errors.CONFLICT, f"key: another team of this workspace has the key {wanted['key']}")

    async def given(self, tx: Writing, caller: Member) -> Row:
        return {"last_number": 0}

    async def empty(self, tx: Writing, row: Row) -> None:
        """Refuse to delete a team with issues: each of them may be in a project, and people may be looking for it."""
        if count := await tx.count(ISSUES, {"team_id": row["id"]}):
            raise BeaconfireError(errors.CONFLICT, f"{row['name']} still has issues ({count}): delete them first")

    async def report(self, tx: Writing, change: Change) -> None:
        changes = old_and_new(change.before, change.row, change.fields) if change.operation == "update" else {}
        await enter(tx, change.caller.user_id, ACTIONS[change.operation], "team", change.row, changes=changes)
