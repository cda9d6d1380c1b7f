"""Create the tracker's demo over its public HTTP interface."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from beaconfire.api import call
from beaconfire.demo.people import add_members

WORKSPACE = "Beacon Keepers"
KEEPERS, SIGNALS = "Keepers", "Signals"
TEAMS = ({"name": KEEPERS, "key": "KEEP"}, {"name": SIGNALS, "key": "SIG"})
COAST, WATCH = "Coastal chain", "Night watch"
PROJECTS = (
    {"name": COAST, "status": "started", "description": "Twelve beacons between the capes."},
    {"name": WATCH, "status": "planned", "description": "On each hill a keeper is awake."},
)
CYCLE, CYCLE_DAYS = "Cycle 1", 14
# Each with its team, its project and its assignee, by name.
ISSUES: tuple[tuple[str, str | None, str | None, dict[str, Any]], ...] = (
    (KEEPERS, COAST, "Editor", {"title": "Trim the wicks on the north slope", "status": "started", "priority": "high"}),
    (KEEPERS, COAST, None, {"title": "Order oil for the winter", "status": "todo", "priority": "urgent"}),
    (KEEPERS, COAST, "Owner", {"title": "Repair the stairs of the west tower", "status": "review"}),
    (KEEPERS, COAST, "Editor", {"title": "Count the mirrors", "status": "done", "priority": "low"}),
    (KEEPERS, WATCH, None, {"title": "Train two keepers for the night", "status": "backlog", "priority": "medium"}),
    (SIGNALS, WATCH, "Owner", {"title": "Agree on a signal for fog", "status": "todo", "priority": "high"}),
    (SIGNALS, None, None, {"title": "List the answer times of the last month", "status": "done"}),
    (SIGNALS, COAST, "Owner", {"title": "Tell two fires from three", "status": "started", "priority": "urgent"}),
    (SIGNALS, None, None, {"title": "Write a book of all signals", "status": "backlog", "priority": "low"}),
)
COMMENT = ("Write a book of all signals", "The old one is in the west tower.")


def seed(auth_url: str, tracker_url: str, tokens: Mapping[str, str]) -> str:
    """Create the missing parts. Return the workspace's id. Raises ApiError. It can be repeated."""
    owner = tokens["Owner"]
    workspaces = f"{tracker_url}/v1/tracker/workspaces"
    description = "Created by beaconfire up. Move an issue and watch the other window."
    workspace: str = _ensure(workspaces, "workspace", {"name": WORKSPACE, "description": description}, owner)["id"]
    add_members(auth_url, f"workspace:{workspace}", owner)
    members = call("GET", f"{auth_url}/auth/roots/workspace:{workspace}/members", token=owner)["members"]
    people = {one["name"]: one["userId"] for one in members}
    _add_issues(f"{workspaces}/{workspace}", people, tokens)
    return workspace


def _add_issues(url: str, people: Mapping[str, str], tokens: Mapping[str, str]) -> None:
    owner = tokens["Owner"]
    teams = {team["name"]: _ensure(f"{url}/teams", "team", team, owner)["id"] for team in TEAMS}
    projects = {one["name"]: _ensure(f"{url}/projects", "project", one, owner)["id"] for one in PROJECTS}
    today = datetime.now(UTC).date()
    days = {"startsOn": today.isoformat(), "endsOn": (today + timedelta(days=CYCLE_DAYS - 1)).isoformat()}
    cycle = _ensure(f"{url}/cycles", "cycle", {"name": CYCLE, **days}, owner)["id"]
    for team, project, assignee, fields in ISSUES:
        planned = {
            "projectId": projects[project] if project else None,
            "assigneeId": people[assignee] if assignee else None,
            "cycleId": None if fields["status"] == "backlog" else cycle,
        }
        issues = f"{url}/teams/{teams[team]}/issues"
        issue = _ensure(issues, "issue", {**fields, **planned}, owner)
        if issue["title"] == COMMENT[0]:
            _ensure(f"{issues}/{issue['id']}/comments", "comment", {"body": COMMENT[1]}, tokens["Editor"])


def _ensure(url: str, kind: str, wanted: dict[str, Any], token: str) -> dict[str, Any]:
    """Return the thing with this name, title or text. Create it if it is missing."""
    named_by = next(field for field in ("name", "title", "body") if field in wanted)
    for one in call("GET", url, token=token)[f"{kind}s"]:
        if one[named_by] == wanted[named_by]:
            return dict(one)
    return dict(call("POST", url, wanted, token=token)[kind])
