"""Write the activity feed: an entry for each thing that a member did, with the old and the new values.

Each entry is also an event: `issue.activity.created` if it is about an issue, otherwise `activity.created`.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic.alias_generators import to_camel

from beaconfire_demo.tracker.store import ACTIVITY
from beaconfire_kit.event import Event
from beaconfire_kit.events.tracker import IssueActivityCreated
from beaconfire_kit.events.workspace import ActivityCreated
from beaconfire_kit.models import CamelModel
from beaconfire_kit.store import Row, Writing, new_id

LONG = 200
"""Longer texts are cut in entries: the feed is no history of documents."""
_NAMES = ("identifier", "title", "name")

Action = Literal["created", "updated", "archived", "deleted"]
Kind = Literal["workspace", "team", "project", "cycle", "issue", "comment"]
OldAndNew = Mapping[str, Mapping[str, Any]]


class Entry(CamelModel):
    """An entry as callers see it."""

    id: str
    workspace_id: str
    team_id: str | None
    issue_id: str | None
    actor_id: str
    kind: str
    action: str
    about: dict[str, Any]
    """What it is about, by the names of that time: `identifier` and `title` of an issue, `name` of anything else."""
    changes: dict[str, dict[str, Any]]
    """Each changed field with its value `from` and `to`."""
    created_at: datetime


def values(row: Row, fields: Iterable[str]) -> dict[str, Any]:
    """Return these fields of a row, by their names on the wire."""
    by_name = {to_camel(column): value for column, value in row.items()}
    return {field: by_name[field] for field in fields}


def old_and_new(before: Row, after: Row, fields: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return each changed field with its value `from` and `to`."""
    old, new = values(before, fields := tuple(fields)), values(after, fields)
    return {field: {"from": _short(old[field]), "to": _short(new[field])} for field in fields}


async def enter(
    tx: Writing,
    actor_id: str,
    action: Action,
    kind: Kind,
    about: Row,
    *,
    issue: Row | None = None,
    changes: OldAndNew | None = None,
) -> None:
    """Add an entry to the feed of its workspace, and publish it. `issue` is the issue that it belongs to."""
    entry = tell(tx, actor_id, action, kind, about, issue=issue, changes=changes)
    await tx.put(ACTIVITY, {"id": entry["id"]}, entry)


def tell(
    tx: Writing,
    actor_id: str,
    action: Action,
    kind: Kind,
    about: Row,
    *,
    issue: Row | None = None,
    changes: OldAndNew | None = None,
) -> dict[str, Any]:
    """Publish an entry that is not kept, because its workspace is deleted. Returns it."""
    named = issue or about
    entry = {
        "id": new_id(),
        "workspace_id": about["id"] if kind == "workspace" else about["workspace_id"],
        "team_id": about["id"] if kind == "team" else about.get("team_id"),
        "issue_id": issue["id"] if issue else None,
        "actor_id": actor_id,
        "kind": kind,
        "action": action,
        "about": {name: named[name] for name in _NAMES if name in named},
        "changes": dict(changes or {}),
        "created_at": datetime.now(UTC),
    }
    event: type[Event] = IssueActivityCreated if issue else ActivityCreated
    tx.publish(event.model_validate(Entry.model_validate(entry).model_dump(mode="json")))
    return entry


def _short(value: object) -> object:
    return f"{value[:LONG]}…" if isinstance(value, str) and len(value) > LONG else value
