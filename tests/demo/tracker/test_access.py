"""Members read, editors change, owners manage the workspace, and strangers get nothing."""

from tests.databases import on_both_databases
from tests.demo.tracker.conftest import Tracker

pytestmark = on_both_databases


async def test_members_read_editors_change_owners_delete_and_strangers_get_nothing(tracker: Tracker) -> None:
    issues = await tracker.team()
    issue = await tracker.create(issues, title="Light the beacon")
    one = f"{tracker.workspace}/{issues}/{issue['id']}"
    reads = ["", "/teams", "/issues", "/projects", "/cycles", "/activity", f"/{issues}/{issue['id']}/comments"]

    by_viewer = [(await tracker.viewer.get(tracker.workspace + path)).status for path in reads]
    by_stranger = [(await tracker.stranger.get(tracker.workspace + path)).status for path in reads]
    changes = [
        await tracker.viewer.patch(one, {"status": "done"}),
        await tracker.viewer.post(f"{one}/comments", {"body": "Hello"}),
        await tracker.viewer.post(f"{tracker.workspace}/projects", {"name": "Mine"}),
        await tracker.viewer.delete(one),
        await tracker.editor.patch(tracker.workspace, {"name": "Mine"}),
        await tracker.editor.delete(tracker.workspace),
    ]

    assert by_viewer == [200] * len(reads)
    assert by_stranger == [403] * len(reads)
    assert [answer.error for answer in changes] == [(403, "forbidden")] * len(changes)
    assert (await tracker.owner.patch(tracker.workspace, {"name": "Beacons"})).status == 200
    assert (await tracker.owner.delete(tracker.workspace)).status == 204
    assert (await tracker.viewer.get(tracker.workspace)).error == (404, "not_found")


async def test_workspace_is_listed_with_the_role_of_the_caller_and_created_once_under_a_key(tracker: Tracker) -> None:
    answers = [
        await tracker.stranger.post("/v1/tracker/workspaces", {"name": "Own"}, Idempotency_Key="k1") for _ in range(2)
    ]
    listed = {
        name: [(one["name"], one["role"]) for one in (await api.get("/v1/tracker/workspaces")).body["workspaces"]]
        for name, api in tracker.users.items()
    }

    assert [answer.status for answer in answers] == [201, 201]
    assert answers[0].body == answers[1].body
    assert listed == {
        "owner": [("Lanterns", "owner")],
        "editor": [("Lanterns", "editor")],
        "viewer": [("Lanterns", "viewer")],
        "stranger": [("Own", "owner")],
    }


async def test_team_keeps_its_key_and_cannot_be_deleted_while_it_has_issues(tracker: Tracker) -> None:
    team = await tracker.create("teams", name="Engineering", key="ENG")
    path = f"{tracker.workspace}/teams/{team['id']}"
    issue = await tracker.create(f"teams/{team['id']}/issues", title="Light the beacon")

    same_key = await tracker.editor.post(f"{tracker.workspace}/teams", {"name": "Energy", "key": "ENG"})
    lower_case = await tracker.editor.post(f"{tracker.workspace}/teams", {"name": "Energy", "key": "eng"})
    other_key = await tracker.editor.patch(path, {"key": "ENV"})
    renamed = await tracker.editor.patch(path, {"name": "Keepers"})
    refused = await tracker.editor.delete(path)
    await tracker.editor.delete(f"{path}/issues/{issue['id']}")
    deleted = await tracker.editor.delete(path)

    assert same_key.error == (409, "conflict")
    assert (lower_case.error, other_key.error) == ((400, "bad_request"), (400, "bad_request"))
    assert renamed.body["team"]["name"] == "Keepers"
    assert refused.error == (409, "conflict")
    assert refused.message == "Keepers still has issues (1): delete them first"
    assert deleted.status == 204
    entry = await tracker.told("activity.created")
    while entry["action"] != "updated":
        entry = await tracker.told("activity.created")
    assert entry["changes"] == {"name": {"from": "Engineering", "to": "Keepers"}}
