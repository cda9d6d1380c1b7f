"""Issues and comments over HTTP: each change is an event with the new and the old values, and an entry of the feed."""

import asyncio

from tests.databases import on_both_databases
from tests.demo.tracker.conftest import Tracker

pytestmark = on_both_databases


async def test_issue_is_opened_read_changed_archived_and_deleted_with_an_event_each(tracker: Tracker) -> None:
    issues = await tracker.team()
    path = f"{tracker.workspace}/{issues}"

    created = await tracker.editor.post(path, {"title": "Light the beacon", "priority": "high"})
    issue = created.body["issue"]
    one = f"{path}/{issue['id']}"
    read = await tracker.viewer.get(one)
    listed = await tracker.viewer.get(f"{tracker.workspace}/issues")
    changed = await tracker.editor.patch(one, {"status": "started", "assigneeId": tracker.editor.user_id})
    archived = await tracker.editor.patch(one, {"archived": True})
    deleted = await tracker.editor.delete(one)

    assert created.status == 201
    assert (issue["identifier"], issue["status"], issue["revision"]) == ("ENG-1", "backlog", 1)
    assert (read.body, listed.body) == ({"issue": issue}, {"issues": [issue]})
    assert read.headers["X-Beaconfire-Cursor"]
    assert (changed.status, archived.status, deleted.status) == (200, 200, 204)
    opened = await tracker.told("issue.created")
    assert {name: opened[name] for name in ("id", "identifier", "title", "teamId", "status", "priority")} == {
        "id": issue["id"],
        "identifier": "ENG-1",
        "title": "Light the beacon",
        "teamId": issue["teamId"],
        "status": "backlog",
        "priority": "high",
    }
    moved = await tracker.told("issue.updated")
    assert moved["changes"] == {"status": "started", "assigneeId": tracker.editor.user_id}
    assert moved["previous"] == {"status": "backlog", "assigneeId": None}
    assert (await tracker.told("issue.archived"))["id"] == issue["id"]
    assert (await tracker.told("issue.deleted"))["identifier"] == "ENG-1"


async def test_every_change_is_an_entry_of_the_feed_with_the_old_and_the_new_values(tracker: Tracker) -> None:
    issues = await tracker.team()
    issue = await tracker.create(issues, title="Trim the wick")
    one = f"{tracker.workspace}/{issues}/{issue['id']}"
    await tracker.owner.patch(one, {"title": "Trim every wick", "status": "done"})
    await tracker.create(f"{issues}/{issue['id']}/comments", body="All of them?")

    feed = await tracker.viewer.get(f"{tracker.workspace}/activity?issueId={issue['id']}")
    whole = await tracker.viewer.get(f"{tracker.workspace}/activity")
    commented, updated, opened = feed.body["activity"]

    assert [(one["kind"], one["action"], one["actorId"]) for one in (commented, updated, opened)] == [
        ("comment", "created", tracker.editor.user_id),
        ("issue", "updated", tracker.owner.user_id),
        ("issue", "created", tracker.editor.user_id),
    ]
    assert updated["changes"] == {
        "title": {"from": "Trim the wick", "to": "Trim every wick"},
        "status": {"from": "backlog", "to": "done"},
    }
    assert updated["about"] == {"identifier": "ENG-1", "title": "Trim every wick"}
    assert [one["kind"] for one in whole.body["activity"]] == ["comment", "issue", "issue", "team", "workspace"]
    assert whole.body["next"] is None
    told = [await tracker.told("issue.activity.created") for _ in range(3)]
    assert [one["id"] for one in told] == [one["id"] for one in (opened, updated, commented)]
    assert told[1]["changes"] == updated["changes"]


async def test_feed_is_read_page_by_page(tracker: Tracker) -> None:
    issues = await tracker.team()
    issue = await tracker.create(issues, title="Count")
    one = f"{tracker.workspace}/{issues}/{issue['id']}"
    for number in range(60):
        await tracker.editor.patch(one, {"title": f"Count {number}"})

    first = await tracker.viewer.get(f"{tracker.workspace}/activity?issueId={issue['id']}")
    second = await tracker.viewer.get(f"{tracker.workspace}/activity?issueId={issue['id']}&before={first.body['next']}")
    wrong = await tracker.viewer.get(f"{tracker.workspace}/activity?before=yesterday")

    titles = [entry["about"]["title"] for page in (first, second) for entry in page.body["activity"]]
    assert titles == [*(f"Count {number}" for number in reversed(range(60))), "Count"]
    assert (len(first.body["activity"]), second.body["next"]) == (50, None)
    assert wrong.error == (400, "bad_request")
    assert "before" in wrong.message


async def test_edits_of_different_fields_are_merged_and_a_conflict_shows_the_others_value(tracker: Tracker) -> None:
    issues = await tracker.team()
    issue = await tracker.create(issues, title="Light the beacon")
    one = f"{tracker.workspace}/{issues}/{issue['id']}"

    first = await tracker.editor.patch(one, {"title": "Light both beacons"}, If_Match='"1"')
    other_field = await tracker.owner.patch(one, {"status": "todo"}, If_Match='"1"')
    same_field = await tracker.owner.patch(one, {"title": "Light no beacon"}, If_Match='"1"')

    assert (first.status, other_field.status) == (200, 200)
    assert other_field.body["issue"]["title"] == "Light both beacons"
    assert same_field.error == (409, "conflict")
    assert same_field.body["error"]["conflicts"] == ["title"]
    assert same_field.body["error"]["current"]["title"] == "Light both beacons"
    assert same_field.body["error"]["current"]["revision"] == 3


async def test_repeated_creation_opens_one_issue(tracker: Tracker) -> None:
    issues = await tracker.team()
    path = f"{tracker.workspace}/{issues}"

    answers = await asyncio.gather(
        *(tracker.insist("POST", path, {"title": "Once"}, Idempotency_Key="k1") for _ in range(3))
    )
    other = await tracker.editor.post(path, {"title": "Twice"}, Idempotency_Key="k1")
    listed = await tracker.viewer.get(path)

    assert {answer.body["issue"]["id"] for answer in answers} == {listed.body["issues"][0]["id"]}
    assert len(listed.body["issues"]) == 1
    assert other.error == (409, "conflict")


async def test_issues_opened_at_once_get_different_numbers_and_those_of_deleted_ones_are_not_used_again(
    tracker: Tracker,
) -> None:
    issues = await tracker.team("OPS")
    path = f"{tracker.workspace}/{issues}"

    opened = await asyncio.gather(*(tracker.insist("POST", path, {"title": f"Issue {n}"}) for n in range(8)))
    identifiers = {answer.body["issue"]["identifier"]: answer.body["issue"]["id"] for answer in opened}
    await tracker.editor.delete(f"{path}/{identifiers['OPS-8']}")
    after = await tracker.create(issues, title="After")

    assert sorted(identifiers) == [f"OPS-{number}" for number in range(1, 9)]
    assert after["identifier"] == "OPS-9"


async def test_comment_is_changed_by_its_author_and_deleted_by_its_author_or_an_owner(tracker: Tracker) -> None:
    issues = await tracker.team()
    issue = await tracker.create(issues, title="Light the beacon")
    one = f"{tracker.workspace}/{issues}/{issue['id']}"
    comment = (await tracker.owner.post(f"{one}/comments", {"body": "Tonight"})).body["comment"]
    path = f"{one}/comments/{comment['id']}"
    commented = await tracker.viewer.get(one)

    by_other = await tracker.editor.patch(path, {"body": "Tomorrow"})
    by_author = await tracker.owner.patch(path, {"body": "At dusk"}, If_Match='"1"')
    not_deleted = await tracker.editor.delete(path)
    deleted = await tracker.owner.delete(path)
    empty = await tracker.editor.post(f"{one}/comments", {"body": "  "})
    elsewhere = await tracker.editor.post(f"{tracker.workspace}/{issues}/nowhere/comments", {"body": "Hello"})

    assert commented.body["issue"]["commentCount"] == 1
    assert (by_other.error, not_deleted.error) == ((403, "forbidden"), (403, "forbidden"))
    assert (by_author.status, deleted.status) == (200, 204)
    assert (empty.error, elsewhere.error) == ((400, "bad_request"), (404, "not_found"))
    assert (await tracker.viewer.get(one)).body["issue"]["commentCount"] == 0
    assert (await tracker.told("comment.created"))["authorId"] == tracker.owner.user_id
    edited = await tracker.told("comment.updated")
    assert (edited["changes"], edited["previous"]) == ({"body": "At dusk"}, {"body": "Tonight"})
    gone = await tracker.told("comment.deleted")
    assert (gone["issueId"], gone["id"]) == (issue["id"], comment["id"])
    assert [one["authorId"] for one in (edited, gone)] == [tracker.owner.user_id] * 2


async def test_change_whose_event_would_be_too_large_is_refused_and_undone(tracker: Tracker) -> None:
    """The event has the old text and the new one, so each may be allowed by itself."""
    issues = await tracker.team()
    path = f"{tracker.workspace}/{issues}"
    created = await tracker.editor.post(path, {"title": "Light the beacon", "description": "\u0001" * 9_000})
    one = f"{path}/{created.body['issue']['id']}"
    refused = await tracker.editor.patch(one, {"description": "\u0002" * 9_000})
    read = await tracker.viewer.get(one)
    emptied = await tracker.editor.patch(one, {"description": ""})

    assert created.status == 201
    assert refused.error == (413, "too_large")
    assert "too long" in refused.body["error"]["message"]
    assert read.body == created.body
    assert emptied.status == 200
