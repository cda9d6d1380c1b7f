"""Tell everybody in a workspace, a team, an issue, a chat what has changed: one function for each event.

    publisher = NatsPublisher(nc, source="tracker")  # or HttpPublisher: `beaconfire_kit.publishing`

    await broadcast_issue_updated(
        publisher, workspace_id="w1", team_id="m1", issue_id="i1", changes={"status": "done"}, user_id="u1"
    )

Each takes the ids of the event's subject, and the item or what changed of it, as the workspace or the tracker has it.
The last arguments are those of `Publisher.publish`: `user_id`, `correlation_id`, `audience`, `timeout_s`. Raises
NotPublished, and ValidationError for an id that cannot be part of a subject.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

from beaconfire_kit.event import ItemId
from beaconfire_kit.events.notification import NotificationNew
from beaconfire_kit.events.tracker import (
    CommentCreated,
    CommentDeleted,
    CommentUpdated,
    CycleUpdated,
    IssueActivityCreated,
    IssueArchived,
    IssueCreated,
    IssueDeleted,
    IssueUpdated,
    ProjectUpdated,
)
from beaconfire_kit.events.workspace import (
    ActivityCreated,
    AgentStatusChanged,
    AiRunCompleted,
    AiRunFailed,
    AiRunProgress,
    AiRunStarted,
    ApprovalCreated,
    ApprovalDeleted,
    ApprovalUpdated,
    ChatMessage,
    UserTyping,
)
from beaconfire_kit.publishing import Published, Publisher
from beaconfire_kit.roles import Role

Item = Mapping[str, Any]
"""An item of the other system, or a part of it, with the names that it has there."""


class About(TypedDict, total=False):
    """The last arguments of every function."""

    user_id: str | None
    """The user who caused the event."""
    correlation_id: str | None
    audience: Sequence[Role] | None
    """The roles that may see it. None: every member."""
    timeout_s: float


# --- approvals, agents, chats


async def broadcast_approval_created(
    publisher: Publisher, *, workspace_id: ItemId, approval: Item, **about: Unpack[About]
) -> Published:
    """Publish a new approval: the whole item, with its `id`."""
    event = ApprovalCreated.model_validate({**approval, "workspaceId": workspace_id})
    return await publisher.publish(event, **about)


async def broadcast_approval_updated(
    publisher: Publisher, *, workspace_id: ItemId, approval: Item, **about: Unpack[About]
) -> Published:
    """Publish the changed part of an approval, with its `id`."""
    event = ApprovalUpdated.model_validate({**approval, "workspaceId": workspace_id})
    return await publisher.publish(event, **about)


async def broadcast_approval_deleted(
    publisher: Publisher, *, workspace_id: ItemId, approval_id: ItemId, **about: Unpack[About]
) -> Published:
    """Publish that an approval was deleted."""
    return await publisher.publish(ApprovalDeleted(workspace_id=workspace_id, id=approval_id), **about)


async def broadcast_agent_status_changed(
    publisher: Publisher, *, workspace_id: ItemId, agent_id: ItemId, status: str, **about: Unpack[About]
) -> Published:
    """Publish an agent's new status."""
    event = AgentStatusChanged(workspace_id=workspace_id, agent_id=agent_id, status=status)
    return await publisher.publish(event, **about)


async def broadcast_chat_message(
    publisher: Publisher, *, workspace_id: ItemId, chat_id: ItemId, message: Item, **about: Unpack[About]
) -> Published:
    """Publish a message of a chat: the whole message."""
    event = ChatMessage.model_validate({**message, "workspaceId": workspace_id, "chatId": chat_id})
    return await publisher.publish(event, **about)


async def broadcast_ai_run_started(
    publisher: Publisher, *, workspace_id: ItemId, run_id: ItemId, run: Item | None = None, **about: Unpack[About]
) -> Published:
    """Publish that a model started to work: the whole run."""
    event = AiRunStarted.model_validate({**(run or {}), "workspaceId": workspace_id, "runId": run_id})
    return await publisher.publish(event, **about)


async def broadcast_ai_run_progress(
    publisher: Publisher, *, workspace_id: ItemId, run_id: ItemId, progress: Item, **about: Unpack[About]
) -> Published:
    """Publish a step of a run, or a part of its answer."""
    event = AiRunProgress.model_validate({**progress, "workspaceId": workspace_id, "runId": run_id})
    return await publisher.publish(event, **about)


async def broadcast_ai_run_completed(
    publisher: Publisher, *, workspace_id: ItemId, run_id: ItemId, result: Item, **about: Unpack[About]
) -> Published:
    """Publish the result of a run."""
    event = AiRunCompleted.model_validate({**result, "workspaceId": workspace_id, "runId": run_id})
    return await publisher.publish(event, **about)


async def broadcast_ai_run_failed(
    publisher: Publisher, *, workspace_id: ItemId, run_id: ItemId, error: Any, **about: Unpack[About]
) -> Published:
    """Publish why a run has no result: a text, or an object."""
    return await publisher.publish(AiRunFailed(workspace_id=workspace_id, run_id=run_id, error=error), **about)


async def broadcast_activity_created(
    publisher: Publisher, *, workspace_id: ItemId, activity: Item, **about: Unpack[About]
) -> Published:
    """Publish a new entry of a workspace's activity feed: the whole entry, with its `id`."""
    event = ActivityCreated.model_validate({**activity, "workspaceId": workspace_id})
    return await publisher.publish(event, **about)


# --- users


async def broadcast_notification_new(
    publisher: Publisher, *, to_user_id: str, notification: Item, **about: Unpack[About]
) -> Published:
    """Publish a notification for one user: the whole notification, with its `id`."""
    event = NotificationNew.model_validate({**notification, "userId": to_user_id})
    return await publisher.publish(event, **about)


async def broadcast_user_typing(
    publisher: Publisher,
    *,
    workspace_id: ItemId,
    target_kind: str,
    target_id: ItemId,
    typing_user_id: str,
    typing: bool,
    **about: Unpack[About],
) -> Published:
    """Tell connected clients that a user types in a chat or an issue (`target_kind`). Only over NATS."""
    event = UserTyping(
        workspace_id=workspace_id,
        target_kind=target_kind,
        target_id=target_id,
        user_id=typing_user_id,
        typing=typing,
    )
    return await publisher.publish(event, **about)


# --- the issue tracker


async def broadcast_issue_created(
    publisher: Publisher, *, workspace_id: ItemId, issue: Item, **about: Unpack[About]
) -> Published:
    """Publish a new issue, with its `id` and `teamId`."""
    event = IssueCreated.model_validate({**issue, "workspaceId": workspace_id})
    return await publisher.publish(event, **about)


async def broadcast_issue_updated(
    publisher: Publisher,
    *,
    workspace_id: ItemId,
    team_id: ItemId,
    issue_id: ItemId,
    changes: Item,
    **about: Unpack[About],
) -> Published:
    """Publish the changed fields of an issue, each with its new value."""
    event = IssueUpdated(workspace_id=workspace_id, team_id=team_id, id=issue_id, changes=changes)
    return await publisher.publish(event, **about)


async def broadcast_issue_deleted(
    publisher: Publisher, *, workspace_id: ItemId, team_id: ItemId, issue_id: ItemId, **about: Unpack[About]
) -> Published:
    """Publish that an issue was deleted."""
    return await publisher.publish(IssueDeleted(workspace_id=workspace_id, team_id=team_id, id=issue_id), **about)


async def broadcast_issue_archived(
    publisher: Publisher, *, workspace_id: ItemId, team_id: ItemId, issue_id: ItemId, **about: Unpack[About]
) -> Published:
    """Publish that an issue was archived."""
    return await publisher.publish(IssueArchived(workspace_id=workspace_id, team_id=team_id, id=issue_id), **about)


async def broadcast_issue_activity_created(
    publisher: Publisher,
    *,
    workspace_id: ItemId,
    team_id: ItemId,
    issue_id: ItemId,
    activity: Item,
    **about: Unpack[About],
) -> Published:
    """Publish a new entry of an issue's activity feed: the whole entry, with its `id`."""
    ids = {"workspaceId": workspace_id, "teamId": team_id, "issueId": issue_id}
    return await publisher.publish(IssueActivityCreated.model_validate({**activity, **ids}), **about)


async def broadcast_comment_created(
    publisher: Publisher,
    *,
    workspace_id: ItemId,
    team_id: ItemId,
    issue_id: ItemId,
    comment: Item,
    **about: Unpack[About],
) -> Published:
    """Publish a new comment: the whole comment, with its `id`."""
    ids = {"workspaceId": workspace_id, "teamId": team_id, "issueId": issue_id}
    return await publisher.publish(CommentCreated.model_validate({**comment, **ids}), **about)


async def broadcast_comment_updated(
    publisher: Publisher,
    *,
    workspace_id: ItemId,
    team_id: ItemId,
    issue_id: ItemId,
    comment_id: ItemId,
    changes: Item,
    **about: Unpack[About],
) -> Published:
    """Publish the changed fields of a comment, each with its new value."""
    event = CommentUpdated(
        workspace_id=workspace_id, team_id=team_id, issue_id=issue_id, id=comment_id, changes=changes
    )
    return await publisher.publish(event, **about)


async def broadcast_comment_deleted(
    publisher: Publisher,
    *,
    workspace_id: ItemId,
    team_id: ItemId,
    issue_id: ItemId,
    comment_id: ItemId,
    **about: Unpack[About],
) -> Published:
    """Publish that a comment was deleted."""
    event = CommentDeleted(workspace_id=workspace_id, team_id=team_id, issue_id=issue_id, id=comment_id)
    return await publisher.publish(event, **about)


async def broadcast_project_updated(
    publisher: Publisher, *, workspace_id: ItemId, project_id: ItemId, changes: Item, **about: Unpack[About]
) -> Published:
    """Publish the changed fields of a project, each with its new value."""
    return await publisher.publish(ProjectUpdated(workspace_id=workspace_id, id=project_id, changes=changes), **about)


async def broadcast_cycle_updated(
    publisher: Publisher, *, workspace_id: ItemId, cycle_id: ItemId, changes: Item, **about: Unpack[About]
) -> Published:
    """Publish the changed fields of a cycle, each with its new value."""
    return await publisher.publish(CycleUpdated(workspace_id=workspace_id, id=cycle_id, changes=changes), **about)
