"""Events of a workspace of approvals and agents, in the shapes of that system's own publishers and clients.

An event carries the whole item, or the changed part of it, with whatever fields the item has. The fields declared here
are those that the system gives a meaning to. None of them must be in the body: the subject has the ids.
"""

from typing import Any

from beaconfire_kit.event import Id, ItemId, OpenEvent


class _InWorkspace(OpenEvent):
    workspace_id: ItemId | None = None


class _Approval(_InWorkspace):
    id: ItemId | None = None
    title: str | None = None
    status: str | None = None


class ApprovalCreated(_Approval):
    """An approval was requested. The payload is the whole approval."""

    type = "approval.created"
    subject = "workspace.{workspace_id}.approval.{id}"


class ApprovalUpdated(_Approval):
    """An approval was decided, or its content changed. The payload is the changed part of the approval, and its id."""

    type = "approval.updated"
    subject = "workspace.{workspace_id}.approval.{id}"


class ApprovalDeleted(_InWorkspace):
    """An approval was deleted."""

    type = "approval.deleted"
    subject = "workspace.{workspace_id}.approval.{id}"

    id: ItemId | None = None


class AgentStatusChanged(_InWorkspace):
    """An agent started, stopped, waits, or failed."""

    type = "agent.status.changed"
    subject = "workspace.{workspace_id}.agent.{agent_id}"

    agent_id: ItemId | None = None
    status: str
    previous_status: str | None = None


class _AiRun(_InWorkspace):
    run_id: ItemId | None = None
    agent_id: str | int | None = None
    """The agent that runs, if it is one of the workspace."""


class AiRunStarted(_AiRun):
    """A model started to work on a request. The payload is the whole run."""

    type = "ai.run.started"
    subject = "workspace.{workspace_id}.run.{run_id}"


class AiRunProgress(_AiRun):
    """A run made progress: it has another step, tool call, or part of its answer."""

    type = "ai.run.progress"
    subject = "workspace.{workspace_id}.run.{run_id}"


class AiRunCompleted(_AiRun):
    """A run ended with a result."""

    type = "ai.run.completed"
    subject = "workspace.{workspace_id}.run.{run_id}"


class AiRunFailed(_AiRun):
    """A run ended without a result."""

    type = "ai.run.failed"
    subject = "workspace.{workspace_id}.run.{run_id}"

    error: Any = None
    """What went wrong: a text, or an object."""


class ChatMessage(_InWorkspace):
    """A message was written in a chat. The payload is the whole message."""

    type = "chat.message"
    subject = "workspace.{workspace_id}.chat.{chat_id}"

    chat_id: ItemId | None = None
    id: str | int | None = None
    sender_id: str | int | None = None
    text: str | None = None


class ActivityCreated(_InWorkspace):
    """Something was done in the workspace, for its activity feed. The payload is the whole entry."""

    type = "activity.created"
    subject = "workspace.{workspace_id}.activity.{id}"

    id: ItemId | None = None


class UserTyping(_InWorkspace):
    """A user started or stopped typing, for example in a chat or an issue: `targetKind` and `targetId` name it."""

    type = "user.typing"
    subject = "workspace.{workspace_id}.{target_kind}.{target_id}.typing"
    ephemeral = True

    target_kind: Id | None = None
    target_id: ItemId | None = None
    user_id: Id
    typing: bool = True
