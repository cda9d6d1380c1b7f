"""How much of a project or a cycle is done, counted from its issues.

It is kept beside the project, and published when it changes. Canceled and archived issues do not count.
"""

from sqlalchemy import Table

from beaconfire_demo.tracker.store import CYCLES, ISSUES, PROJECTS
from beaconfire_kit.event import Event
from beaconfire_kit.events.tracker import CycleUpdated, ProjectUpdated
from beaconfire_kit.models import CamelModel
from beaconfire_kit.store import Row, Writing

STARTED = ("started", "review")
PLANS = {"project_id": PROJECTS, "cycle_id": CYCLES}
"""The columns of an issue that name what it is planned for."""
_EVENTS: dict[Table, type[ProjectUpdated | CycleUpdated]] = {PROJECTS: ProjectUpdated, CYCLES: CycleUpdated}


class Progress(CamelModel):
    """The number of issues, and how many of them are done or started."""

    total: int = 0
    started: int = 0
    done: int = 0


def updated(table: Table, row: Row, changes: Row, **more: object) -> Event:
    """Return the event of a change to a project or a cycle."""
    named = {"workspace_id": row["workspace_id"], "id": row["id"], "name": row["name"], "revision": row["revision"]}
    return _EVENTS[table].model_validate({**named, "changes": changes, **more})


async def follow(tx: Writing, before: Row, after: Row) -> None:
    """Count again what an issue left, joined, or has moved on in. An empty row is no issue. Publishes what changed."""
    for column, table in PLANS.items():
        for plan in sorted({one[column] for one in (before, after) if one and one[column]}):
            await _count(tx, table, column, plan)


async def _count(tx: Writing, table: Table, column: str, plan_id: str) -> None:
    row = await tx.find(table, {"id": plan_id})
    by_status = await tx.count_by(ISSUES, {column: plan_id, "archived": False}, "status")
    counted = sum(count for status, count in by_status.items() if status != "canceled")
    now = Progress(
        total=counted, started=sum(by_status.get(one, 0) for one in STARTED), done=by_status.get("done", 0)
    ).model_dump()
    if now != row["progress"]:
        tx.publish(updated(table, row, {"progress": now}, previous={"progress": row["progress"]}))
        await tx.note(table, row, {"progress": now})
