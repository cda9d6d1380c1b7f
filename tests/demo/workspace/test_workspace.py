"""Agents report, members talk, notifications are their user's alone, and reads fit together with the events after."""

from tests.databases import on_both_databases
from tests.demo.workspace.conftest import Workspace

pytestmark = on_both_databases


async def test_agent_reports_its_status_and_the_same_report_again_is_no_event(workspace: Workspace) -> None:
    agents = f"{workspace.workspace}/agents"
    registered = await workspace.editor.post(agents, {"name": "Scout"}, Idempotency_Key="k1")
    again = await workspace.editor.post(agents, {"name": "Scout"}, Idempotency_Key="k1")
    first = await workspace.told("agent.status.changed")
    report = f"{agents}/{registered.body['agent']['id']}/status"
    answers = [
        await workspace.editor.call("PUT", report, {"status": "working", "detail": "Reads"}),
        await workspace.editor.call("PUT", report, {"status": "working", "detail": "Reads"}),
        await workspace.editor.call("PUT", report, {"status": "failed"}),
    ]
    changes = [await workspace.told("agent.status.changed") for _ in range(2)]

    assert registered.body == again.body
    assert (first["name"], first["status"], first.get("previousStatus")) == ("Scout", "idle", None)
    assert [answer.body["agent"]["revision"] for answer in answers] == [2, 2, 3]
    assert [(one["previousStatus"], one["status"], one["detail"]) for one in changes] == [
        ("idle", "working", "Reads"),
        ("working", "failed", ""),
    ]
    assert (await workspace.viewer.call("PUT", report, {"status": "idle"})).error == (403, "forbidden")
    assert (await workspace.editor.call("PUT", report, {"status": "asleep"})).error == (400, "bad_request")
    assert (await workspace.viewer.get(agents)).body["agents"] == [answers[2].body["agent"]]


async def test_every_member_writes_in_the_chat_and_reads_it_page_by_page(workspace: Workspace) -> None:
    by_viewer = await workspace.viewer.post(workspace.messages, {"text": "Hello"}, Idempotency_Key="k1")
    again = await workspace.viewer.post(workspace.messages, {"text": "Hello"}, Idempotency_Key="k1")
    heard = await workspace.told("chat.message")
    for number in range(2, 53):
        assert (await workspace.editor.post(workspace.messages, {"text": f"Message {number}"})).status == 201
    newest = (await workspace.owner.get(workspace.messages)).body["messages"]
    older = (await workspace.owner.get(f"{workspace.messages}?before={newest[0]['number']}")).body["messages"]

    assert by_viewer.body == again.body
    assert heard == by_viewer.body["message"]
    assert (heard["senderId"], heard["chatId"]) == (workspace.viewer.user_id, "general")
    assert [message["number"] for message in newest] == list(range(3, 53))
    assert [message["number"] for message in older] == [1, 2]
    assert (await workspace.stranger.post(workspace.messages, {"text": "Hi"})).error == (403, "forbidden")
    assert (await workspace.viewer.post(workspace.messages, {"text": " "})).error == (400, "bad_request")
    assert (await workspace.viewer.get(f"{workspace.messages}?before=x")).error == (400, "bad_request")


async def test_page_before_a_number_that_no_message_has_is_the_newest(workspace: Workspace) -> None:
    """The number may be larger than its column takes."""
    await workspace.viewer.post(workspace.messages, {"text": "Hello"})
    found = await workspace.viewer.get(f"{workspace.messages}?before={10**14}")

    assert found.status == 200, found.body
    assert [message["text"] for message in found.body["messages"]] == ["Hello"]


async def test_notification_is_seen_and_marked_by_its_user_alone_and_the_mark_is_an_event(workspace: Workspace) -> None:
    await workspace.approval(title="Buy oil")
    listed = (await workspace.owner.get("/v1/notifications")).body
    one = listed["notifications"][0]

    by_other = await workspace.editor.post("/v1/notifications/read", {"ids": [one["id"]]})
    unread = (await workspace.owner.get("/v1/notifications")).body["unread"]
    marked = [await workspace.owner.post("/v1/notifications/read", {"ids": [one["id"]]}) for _ in range(2)]
    heard = await workspace.told("notification.read")
    after = (await workspace.owner.get("/v1/notifications")).body

    assert (listed["unread"], unread, after["unread"]) == (1, 1, 0)
    assert [answer.status for answer in (by_other, *marked)] == [204, 204, 204]
    assert (heard["id"], heard["userId"]) == (one["id"], workspace.owner.user_id)
    assert after["notifications"][0]["readAt"] is not None
    assert (await workspace.editor.get("/v1/notifications")).body == {"notifications": [], "unread": 0}
    assert (await workspace.owner.post("/v1/notifications/read", {"ids": []})).error == (400, "bad_request")


async def test_reads_carry_a_cursor_that_contains_the_change_before(workspace: Workspace) -> None:
    changed = await workspace.editor.post(workspace.approvals, {"title": "Buy oil"})
    await workspace.told("approval.created")
    paths = ("", "/approvals", "/agents", "/chats/general/messages")
    reads = [await workspace.viewer.get(workspace.workspace + path) for path in paths]

    epoch, offset = changed.headers["X-Beaconfire-Offset"].split(":")
    cursors = [answer.headers["X-Beaconfire-Cursor"].split(":") for answer in reads]
    assert all(read_epoch == epoch and int(read_offset) >= int(offset) for read_epoch, read_offset in cursors)


async def test_workspace_is_listed_with_the_role_of_the_caller_and_created_once_under_a_key(
    workspace: Workspace,
) -> None:
    answers = [await workspace.stranger.post("/v1/workspaces", {"name": "Own"}, Idempotency_Key="k1") for _ in range(2)]
    listed = {
        name: [(one["name"], one["role"]) for one in (await api.get("/v1/workspaces")).body["workspaces"]]
        for name, api in workspace.users.items()
    }
    reads = ("", "/approvals", "/agents", "/chats/general/messages")
    by_stranger = [(await workspace.stranger.get(workspace.workspace + path)).error for path in reads]

    assert [answer.status for answer in answers] == [201, 201]
    assert answers[0].body == answers[1].body
    assert listed == {
        "owner": [("Lanterns", "owner")],
        "editor": [("Lanterns", "editor")],
        "viewer": [("Lanterns", "viewer")],
        "stranger": [("Own", "owner")],
    }
    assert by_stranger == [(403, "forbidden")] * len(reads)
