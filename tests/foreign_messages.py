"""Messages as the publishers of the workspace and of the issue tracker send them, and as releases before sent them.

Each is a subject, a type, and a payload as text: what a client gets must be the same text.
"""

from dataclasses import dataclass

WORKSPACE = "workspace.w-theirs"
ISSUE = f"{WORKSPACE}.team.m1.issue.i1"
USER = "user.u-theirs"
"""Tests replace it with a user of theirs."""


@dataclass(frozen=True)
class Message:
    name: str
    type: str
    subject: str
    payload: str

    def __str__(self) -> str:
        return f"{self.type}: {self.name}"


def _approvals() -> list[Message]:
    subject = f"{WORKSPACE}.approval.a1"
    return [
        Message("the whole item", "approval.created", subject, """\
{"id": "a1", "workspaceId": "w-theirs", "type": "expense", "title": "Flight to Oslo", "description": "One way",
 "status": "pending", "priority": "high", "amount": 1234.50, "currency": "EUR",
 "requester": {"id": "u7", "name": "Ann"},
 "approvers": ["u1", "u2"], "dueDate": "2026-12-24", "createdAt": "2026-11-21T10:00:00.000Z", "metadata": {},
 "version": 3, "subject": "Travel"}"""),
        Message("an item without ids", "approval.created", subject, '{"title": "Access", "status": "needs_review"}'),
        Message("an empty item", "approval.created", subject, "{}"),
        Message("null everywhere", "approval.created", subject, """\
{"id": "a1", "workspaceId": null, "title": null, "status": null, "assignee": null}"""),
        Message("a status and its id", "approval.updated", subject, '{"id": "a1", "status": "approved"}'),
        Message("a part without its id", "approval.updated", subject, '{"decidedBy": "u2", "comment": "ok"}'),
        Message("a field set to null", "approval.updated", subject, '{"id": "a1", "assigneeId": null}'),
        Message("numbers of every form", "approval.updated", subject, """\
{"id": "a1", "amount": 1.0, "tax": 1e2, "cents": 9007199254740993, "ratio": 0.10, "delta": -0.0}"""),
        Message("nested and in other scripts", "approval.updated", subject, """\
{"id": "a1", "title": "Genehmigung für 😀 \\u00e9 \\/ path",
 "history": [{"by": "u1", "at": 1732180000, "diff": [[], {}]}]}"""),
        Message("of a release before", "approval.updated", subject, """\
{"workspaceId": "w-theirs", "approvalId": "a1", "title": "A", "status": "approved", "changedFields": ["status"]}"""),
        Message("a counted item", "approval.updated", f"{WORKSPACE}.approval.17", '{"id": 17, "status": "ok"}'),
        Message("its id", "approval.deleted", subject, '{"id": "a1"}'),
        Message("nothing, as the subject has the id", "approval.deleted", subject, "{}"),
        Message("of a release before", "approval.deleted", subject, '{"workspaceId": "w-theirs", "approvalId": "a1"}'),
    ]  # fmt: skip


def _agents_and_runs() -> list[Message]:
    agent, run = f"{WORKSPACE}.agent.g1", f"{WORKSPACE}.run.r1"
    return [
        Message("agent and status", "agent.status.changed", agent, '{"agentId": "g1", "status": "running"}'),
        Message("a status in words", "agent.status.changed", agent, '{"agentId": "g1", "status": "Waiting for you…"}'),
        Message("with more than asked for", "agent.status.changed", agent, """\
{"agentId": "g1", "status": "error", "previousStatus": "running", "error": {"code": 5}, "lastSeen": 1732180000.25}"""),
        Message("the status alone", "agent.status.changed", agent, '{"status": "idle"}'),
        Message("the whole run", "ai.run.started", run, """\
{"runId": "r1", "agentId": "g1", "model": "m-large", "input": [{"role": "user", "content": "Hi"}], "heat": 0.70}"""),
        Message("a part of an answer", "ai.run.progress", run, '{"runId": "r1", "delta": "Hel", "index": 0}'),
        Message("a part without ids", "ai.run.progress", run, '{"delta": "lo", "index": 1, "tool": null}'),
        Message("a result", "ai.run.completed", run, '{"runId": "r1", "output": "Hello", "usage": {"tokens": 12}}'),
        Message("an error as text", "ai.run.failed", run, '{"runId": "r1", "error": "overloaded"}'),
        Message("an error as object", "ai.run.failed", run, '{"error": {"type": "overloaded", "retryAfter": 3}}'),
        Message("an entry", "activity.created", f"{WORKSPACE}.activity.x1", """\
{"id": "x1", "actor": {"id": "u1"}, "verb": "approved", "object": "approval:a1", "at": "2026-11-21T10:00:00Z"}"""),
    ]  # fmt: skip


def _chats_and_notifications() -> list[Message]:
    chat, notification = f"{WORKSPACE}.chat.h1", f"{USER}.notification.n1"
    return [
        Message("the whole message", "chat.message", chat, """\
{"id": "k1", "chatId": "h1", "senderId": "u1", "sender": {"name": "Ann"}, "content": "Hello\\nyou", "attachments": [],
 "reactions": {"👍": 2}, "createdAt": "2026-11-21T10:00:00Z", "editedAt": null}"""),
        Message("a numbered message", "chat.message", chat, '{"id": 4711, "text": "Hi"}'),
        Message("of a release before", "chat.message", chat, """\
{"workspaceId": "w-theirs", "chatId": "h1", "messageId": "k1", "senderId": "u1", "text": "Hi"}"""),
        Message("the whole notification", "notification.new", notification, """\
{"id": "n1", "type": "approval", "title": "Approve?", "message": "A flight", "read": false, "link": "/approvals/a1",
 "data": {"approvalId": "a1"}, "createdAt": "2026-11-21T10:00:00Z"}"""),
        Message("without ids or title", "notification.new", notification, '{"message": "A flight", "count": 3}'),
        Message("of a release before", "notification.new", notification, """\
{"notificationId": "n1", "title": "Approve?", "body": null}"""),
    ]  # fmt: skip


def _issues() -> list[Message]:
    return [
        Message("as documented", "issue.created", ISSUE, """\
{"id": "i1", "identifier": "ENG-123", "title": "Login is broken", "teamId": "m1", "status": "todo", "priority": 2}"""),
        Message("a priority in words", "issue.created", ISSUE, """\
{"id": "i1", "identifier": "ENG-123", "title": "", "teamId": "m1", "status": "in review", "priority": "urgent"}"""),
        Message("with nulls and more", "issue.created", ISSUE, """\
{"id": "i1", "identifier": "ENG-123", "title": "T", "teamId": "m1", "status": "todo", "priority": null,
 "estimate": 0.5, "labels": ["bug"], "assignee": null, "cycleId": null, "sortOrder": -12.25, "number": 123}"""),
        Message("without ids", "issue.created", ISSUE, '{"identifier": "ENG-123", "title": "T"}'),
        Message("of a release before", "issue.created", ISSUE, """\
{"workspaceId": "w-theirs", "teamId": "m1", "issueId": "i1", "title": "T"}"""),
        Message("numbered issues", "issue.created", f"{WORKSPACE}.team.3.issue.4711", """\
{"id": 4711, "identifier": "ENG-4711", "title": "T", "teamId": 3, "status": "todo", "priority": 0}"""),
        Message("one change", "issue.updated", ISSUE, '{"id": "i1", "changes": {"status": "done"}}'),
        Message("changes of every kind", "issue.updated", ISSUE, """\
{"id": "i1", "changes": {"title": "New", "assigneeId": null, "priority": 1, "estimate": 1.50, "labels": ["a", "b"],
 "description": {"type": "doc", "content": []}, "isTriaged": true}}"""),
        Message("no change", "issue.updated", ISSUE, '{"id": "i1", "changes": {}}'),
        Message("who changed it", "issue.updated", ISSUE, '{"changes": {"status": "done"}, "actorId": "u1"}'),
        Message("of a release before", "issue.updated", ISSUE, """\
{"workspaceId": "w-theirs", "teamId": "m1", "issueId": "i1", "changedFields": ["status"]}"""),
        Message("its id", "issue.deleted", ISSUE, '{"id": "i1"}'),
        Message("its id and its name", "issue.archived", ISSUE, '{"id": "i1", "identifier": "ENG-123"}'),
        Message("an entry", "issue.activity.created", f"{ISSUE}.activity.x1", """\
{"id": "x1", "issueId": "i1", "kind": "status", "from": "todo", "to": "done"}"""),
        Message("the whole comment", "comment.created", f"{ISSUE}.comment.k1", """\
{"id": "k1", "issueId": "i1", "body": "Same *here*", "authorId": "u1", "parentId": null, "createdAt": "2026-11-21"}"""),
        Message("of a release before", "comment.created", f"{ISSUE}.comment.k1", """\
{"workspaceId": "w-theirs", "teamId": "m1", "issueId": "i1", "commentId": "k1", "authorId": "u1"}"""),
        Message("its changes", "comment.updated", f"{ISSUE}.comment.k1", '{"id": "k1", "changes": {"body": "x"}}'),
        Message("the whole comment again", "comment.updated", f"{ISSUE}.comment.k1", """\
{"id": "k1", "body": "x", "editedAt": "2026-11-21T10:00:00Z"}"""),
        Message("its id", "comment.deleted", f"{ISSUE}.comment.k1", '{"id": "k1", "issueId": "i1"}'),
        Message("its changes", "project.updated", f"{WORKSPACE}.project.p1", """\
{"id": "p1", "changes": {"name": "Relaunch", "targetDate": null, "progress": 0.30}}"""),
        Message("of a release before", "project.updated", f"{WORKSPACE}.project.p1", """\
{"workspaceId": "w-theirs", "projectId": "p1", "changedFields": ["name"]}"""),
        Message("its changes", "cycle.updated", f"{WORKSPACE}.cycle.y1", """\
{"id": "y1", "changes": {"endsAt": "2026-12-01"}, "number": 12}"""),
    ]  # fmt: skip


STORED = [*_approvals(), *_agents_and_runs(), *_chats_and_notifications(), *_issues()]

TYPING = [
    Message("in a chat", "user.typing", f"ephemeral.{WORKSPACE}.chat.h1.typing", '{"userId": "u1", "typing": true}'),
    Message("in an issue", "user.typing", f"ephemeral.{WORKSPACE}.issue.i1.typing", """\
{"userId": "u1", "userName": "Ann", "issueId": "i1"}"""),
    Message("of a release before", "user.typing", f"ephemeral.{WORKSPACE}.chat.h1.typing", """\
{"workspaceId": "w-theirs", "targetKind": "chat", "targetId": "h1", "userId": "u1", "typing": false}"""),
]  # fmt: skip
