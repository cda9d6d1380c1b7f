"""Projects and cycles over HTTP: their progress is that of their issues, and is published when it changes."""

import asyncio

import pytest

from tests.databases import on_both_databases
from tests.demo.tracker.conftest import Tracker

pytestmark = on_both_databases

NOTHING = {"total": 0, "started": 0, "done": 0}
CYCLE = {"name": "Week 1", "startsOn": "2030-01-07", "endsOn": "2030-01-20"}


async def progress(tracker: Tracker, path: str) -> dict[str, int]:
    (plan,) = (await tracker.viewer.get(f"{tracker.workspace}/{path}")).body.values()
    return dict(plan["progress"])


async def test_project_and_cycle_count_their_issues_and_publish_each_change(tracker: Tracker) -> None:
    issues = await tracker.team()
    project = await tracker.create("projects", name="Beacons")
    cycle = await tracker.create("cycles", **CYCLE)
    issue = await tracker.create(issues, title="Light", projectId=project["id"], cycleId=cycle["id"], status="todo")
    other = await tracker.create(issues, title="Trim", projectId=project["id"], status="canceled")
    one = f"{tracker.workspace}/{issues}/{issue['id']}"

    counts = [await progress(tracker, f"projects/{project['id']}")]
    for change in ({"status": "started"}, {"status": "done"}, {"projectId": None}):
        await tracker.editor.patch(one, change)
        counts.append(await progress(tracker, f"projects/{project['id']}"))
    of_cycle = await progress(tracker, f"cycles/{cycle['id']}")
    await tracker.editor.patch(one, {"archived": True})

    assert project["progress"] == NOTHING
    assert counts == [
        {"total": 1, "started": 0, "done": 0},
        {"total": 1, "started": 1, "done": 0},
        {"total": 1, "started": 0, "done": 1},
        NOTHING,
    ]
    assert of_cycle == {"total": 1, "started": 0, "done": 1}
    assert await progress(tracker, f"cycles/{cycle['id']}") == NOTHING
    assert other["projectId"] == project["id"]
    told = [await tracker.told("project.updated") for _ in range(5)]
    assert told[0]["changes"]["name"] == "Beacons"
    assert [one["changes"] for one in told[1:]] == [{"progress": one} for one in counts]
    assert told[2]["previous"] == {"progress": counts[0]}


async def test_progress_is_right_after_issues_were_moved_at_once(tracker: Tracker) -> None:
    issues = await tracker.team()
    project = await tracker.create("projects", name="Beacons")
    opened = [await tracker.create(issues, title=f"Issue {n}", projectId=project["id"]) for n in range(6)]

    await asyncio.gather(
        *(
            tracker.insist("PATCH", f"{tracker.workspace}/{issues}/{issue['id']}", {"status": "done"})
            for issue in opened[:4]
        )
    )

    assert await progress(tracker, f"projects/{project['id']}") == {"total": 6, "started": 0, "done": 4}


async def test_issues_leave_a_deleted_project_with_an_event_each(tracker: Tracker) -> None:
    issues = await tracker.team()
    project = await tracker.create("projects", name="Beacons")
    issue = await tracker.create(issues, title="Light", projectId=project["id"])

    deleted = await tracker.editor.delete(f"{tracker.workspace}/projects/{project['id']}")
    read = await tracker.viewer.get(f"{tracker.workspace}/{issues}/{issue['id']}")

    assert deleted.status == 204
    assert read.body["issue"]["projectId"] is None
    left = await tracker.told("issue.updated")
    assert (left["changes"], left["previous"]) == ({"projectId": None}, {"projectId": project["id"]})
    assert (await tracker.told("project.updated"))["changes"] == {"deleted": True}


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("cycles", CYCLE | {"endsOn": "2030-01-01"}, "before the start"),
        ("cycles", CYCLE | {"startsOn": "2030-02-30"}, "is no day"),
        ("projects", {"name": "Beacons", "status": "half"}, "status"),
    ],
)
async def test_impossible_plan_is_refused(tracker: Tracker, path: str, body: dict[str, str], words: str) -> None:
    answer = await tracker.editor.post(f"{tracker.workspace}/{path}", body)

    assert answer.error == (400, "bad_request")
    assert words in answer.message


async def test_issue_cannot_be_planned_for_a_project_of_another_workspace(tracker: Tracker) -> None:
    issues = await tracker.team()
    elsewhere = (await tracker.editor.post("/v1/tracker/workspaces", {"name": "Elsewhere"})).body["workspace"]["id"]
    foreign = (await tracker.editor.post(f"/v1/tracker/workspaces/{elsewhere}/projects", {"name": "Theirs"})).body

    answer = await tracker.editor.post(
        f"{tracker.workspace}/{issues}", {"title": "Light", "projectId": foreign["project"]["id"]}
    )

    assert answer.error == (400, "bad_request")
    assert answer.message == "projectId: this workspace has no such project"
