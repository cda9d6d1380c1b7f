"""The first decision counts, and everyone whom it concerns is told."""

import asyncio

from tests.databases import on_both_databases
from tests.demo.workspace.conftest import Workspace

pytestmark = on_both_databases


async def test_request_and_decision_are_events_and_notify_those_whom_they_concern(workspace: Workspace) -> None:
    requested = await workspace.editor.post(workspace.approvals, {"title": "Buy oil", "detail": "20 litres"})
    created = await workspace.told("approval.created")
    wanted = await workspace.told("notification.new")
    approval = requested.body["approval"]
    decision = {"status": "approved", "reason": "Before winter"}
    decided = await workspace.owner.post(f"{workspace.approvals}/{approval['id']}/decision", decision)
    updated = await workspace.told("approval.updated")
    answered = await workspace.told("notification.new")

    assert requested.status == 201
    assert created == approval
    assert (approval["status"], approval["requestedBy"]) == ("pending", workspace.editor.user_id)
    assert (wanted["userId"], wanted["title"]) == (workspace.owner.user_id, "Approval wanted: Buy oil")
    assert decided.body["approval"]["status"] == "approved"
    assert updated.items() <= decided.body["approval"].items()
    assert (updated["decidedBy"], updated["reason"]) == (workspace.owner.user_id, "Before winter")
    assert (answered["userId"], answered["title"]) == (workspace.editor.user_id, "Approved: Buy oil")
    assert (await workspace.viewer.get(workspace.approvals)).body["approvals"] == [decided.body["approval"]]


async def test_of_two_decisions_at_once_the_first_counts_and_the_second_is_refused(workspace: Workspace) -> None:
    approval = await workspace.approval()
    path = f"{workspace.approvals}/{approval['id']}/decision"

    answers = await asyncio.gather(
        workspace.owner.post(path, {"status": "approved"}), workspace.editor.post(path, {"status": "rejected"})
    )
    first, second = sorted(answers, key=lambda answer: answer.status)
    winner = first.body["approval"]["status"]
    after = await workspace.viewer.get(f"{workspace.approvals}/{approval['id']}")

    assert (first.status, second.error) == (200, (409, "conflict"))
    assert second.message == f"this was already {winner}: the first decision counts"
    assert second.body["error"]["conflicts"] == ["status"]
    assert second.body["error"]["current"] == first.body["approval"] == after.body["approval"]


async def test_repeated_request_and_decision_have_no_second_effect(workspace: Workspace) -> None:
    body = {"title": "Buy oil"}
    requests = [await workspace.editor.post(workspace.approvals, body, Idempotency_Key="k1") for _ in range(2)]
    path = f"{workspace.approvals}/{requests[0].body['approval']['id']}/decision"
    decisions = [await workspace.owner.post(path, {"status": "rejected"}, Idempotency_Key="k2") for _ in range(2)]
    other = await workspace.owner.post(path, {"status": "approved"}, Idempotency_Key="k2")

    assert [answer.status for answer in (*requests, *decisions)] == [201, 201, 200, 200]
    assert requests[0].body == requests[1].body
    assert decisions[0].body == decisions[1].body
    assert other.error == (409, "conflict")
    assert len((await workspace.viewer.get(workspace.approvals)).body["approvals"]) == 1
    assert (await workspace.owner.get("/v1/notifications")).body["unread"] == 1


async def test_viewers_see_editors_withdraw_their_own_and_owners_delete_any(workspace: Workspace) -> None:
    own, other = await workspace.approval(), await workspace.owner.post(workspace.approvals, {"title": "Hire"})
    path, others = f"{workspace.approvals}/{own['id']}", f"{workspace.approvals}/{other.body['approval']['id']}"

    refused = [
        await workspace.viewer.post(workspace.approvals, {"title": "Mine"}),
        await workspace.viewer.post(f"{path}/decision", {"status": "approved"}),
        await workspace.viewer.delete(path),
        await workspace.editor.delete(others),
        await workspace.stranger.get(path),
    ]
    withdrawn = await workspace.editor.delete(path)
    deleted = await workspace.told("approval.deleted")
    by_owner = await workspace.owner.delete(others)

    assert [answer.error for answer in refused] == [(403, "forbidden")] * len(refused)
    assert (withdrawn.status, by_owner.status) == (204, 204)
    assert deleted["id"] == own["id"]


async def test_decision_on_an_older_revision_or_of_nonsense_is_refused_and_changes_nothing(
    workspace: Workspace,
) -> None:
    approval = await workspace.approval()
    path = f"{workspace.approvals}/{approval['id']}/decision"

    answers = [
        await workspace.owner.post(path, {"status": "approved"}, If_Match='"7"'),
        await workspace.owner.post(path, {"status": "pending"}),
        await workspace.owner.post(path, {"status": "approved", "reason": "x" * 501}),
        await workspace.owner.post(workspace.approvals, {"title": " "}),
        await workspace.owner.post(workspace.approvals, {"title": "A", "agentId": "nobody"}),
        await workspace.owner.post(f"{workspace.approvals}/none/decision", {"status": "approved"}),
    ]

    assert [answer.status for answer in answers] == [409, 400, 400, 400, 400, 404]
    assert (await workspace.viewer.get(f"{workspace.approvals}/{approval['id']}")).body["approval"] == approval


async def test_requester_who_has_left_the_workspace_is_not_told_of_the_decision(workspace: Workspace) -> None:
    approval = await workspace.approval()
    members = f"/auth/roots/workspace:{workspace.workspace_id}/members"
    removed = await workspace.auth.call("DELETE", f"{members}/{workspace.editor.user_id}", token=workspace.owner.token)
    path = f"{workspace.approvals}/{approval['id']}/decision"
    decided = await workspace.owner.post(path, {"status": "rejected", "reason": "She has left us"})

    assert (removed.status, decided.status) == (204, 200)
    assert (await workspace.editor.get("/v1/notifications")).body["notifications"] == []
