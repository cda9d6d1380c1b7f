"""Answer HTTP calls on projects and cycles: what issues are planned for. Their progress is counted from the issues."""

from beaconfire_demo.tracker.collection import ACTIONS, Collection
from beaconfire_demo.tracker.feed import Kind, enter, old_and_new, values
from beaconfire_demo.tracker.fields import Day, Description, Name, ProjectStatus, Thing
from beaconfire_demo.tracker.issues import Issues
from beaconfire_demo.tracker.progress import Progress, updated
from beaconfire_demo.tracker.store import CYCLES, ISSUES, PROJECTS
from beaconfire_demo.tracker.workspaces import ONE
from beaconfire_kit import errors
from beaconfire_kit.access import Member
from beaconfire_kit.collection import Change
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.models import Body
from beaconfire_kit.store import Row, Writing


class ProjectChanges(Body):
    """The fields of a project that may be changed."""

    name: Name = ""
    description: Description = ""
    status: ProjectStatus = "planned"
    target_on: Day | None = None


class NewProject(ProjectChanges):
    """A project to create."""

    name: Name


class CycleChanges(Body):
    """The fields of a cycle that may be changed."""

    name: Name = ""
    description: Description = ""
    starts_on: Day = ""
    ends_on: Day = ""


class NewCycle(CycleChanges):
    """A cycle to create: the days on which it starts and ends."""

    name: Name
    starts_on: Day
    ends_on: Day


class Plan(Thing):
    """The fields that projects and cycles have in an answer."""

    name: str
    description: str
    progress: Progress


class Project(Plan):
    """A project as callers see it."""

    status: str
    target_on: str | None


class Cycle(Plan):
    """A cycle as callers see it."""

    starts_on: str
    ends_on: str


class Plans(Collection):
    """What projects and cycles have in common."""

    column: str
    """The column of an issue that names it."""
    kind: Kind

    async def given(self, tx: Writing, caller: Member) -> Row:
        return {"progress": Progress().model_dump()}

    async def empty(self, tx: Writing, row: Row) -> None:
        """Take its issues out of it. They are not deleted."""
        for found in await tx.find_all(ISSUES, {self.column: row["id"]}):
            issue, fields = await tx.change(ISSUES, found, {self.column: None})
            tx.publish(Issues.updated(found, issue, fields))

    async def report(self, tx: Writing, change: Change) -> None:
        row, before = change.row, change.before
        changes = old_and_new(before, row, change.fields) if change.operation == "update" else {}
        await enter(tx, change.caller.user_id, ACTIONS[change.operation], self.kind, row, changes=changes)
        if change.operation == "delete":
            tx.publish(updated(self.table, row, {"deleted": True}, previous={"deleted": False}))
        else:
            old = values(before, change.fields) if before else {}
            tx.publish(updated(self.table, row, values(row, change.fields), previous=old))


class Projects(Plans):
    """The projects of a workspace."""

    word = "project"
    plural = "projects"
    kind = "project"
    column = "project_id"
    path = ONE + "/projects"
    thing_path = path + "/{id}"
    table = PROJECTS
    new = NewProject
    changes = ProjectChanges
    answer = Project


class Cycles(Plans):
    """The cycles of a workspace: the weeks for which its teams plan."""

    word = "cycle"
    plural = "cycles"
    kind = "cycle"
    column = "cycle_id"
    path = ONE + "/cycles"
    thing_path = path + "/{id}"
    table = CYCLES
    new = NewCycle
    changes = CycleChanges
    answer = Cycle

    def check(self, row: Row, fields: tuple[str, ...]) -> None:
        if row["ends_on"] < row["starts_on"]:
            raise BeaconfireError(
                errors.BAD_REQUEST, f"endsOn: {row['ends_on']} is before the start, {row['starts_on']}"
            )
