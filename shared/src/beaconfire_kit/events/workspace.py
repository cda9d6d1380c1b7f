"""Events of a workspace of approvals and agents."""

from typing import Literal

from pydantic import Field

from beaconfire_kit.event import Event, Id


class _Approval(Event):
    workspace_id: Id
    approval_id: Id
    title: str = Field(max_length=500)
    status: Literal["pending", "approved", "rejected", "cancelled"]


class ApprovalCreated(_Approval):
    """An approval was requested."""

    type = "approval.created"
    subject = "workspace.{workspace_id}.approval.{approval_id}"


class ApprovalUpdated(_Approval):
    """An approval was decided, or its content changed."""

    type = "approval.updated"
    subject = "workspace.{workspace_id}.approval.{approval_id}"

    changed_fields: tuple[str, ...]


class ApprovalDeleted(Event):
    """An approval was deleted."""

    type = "approval.deleted"
    subject = "workspace.{workspace_id}.approval.{approval_id}"

    workspace_id: Id
    approval_id: Id


class AgentStatusChanged(Event):
    """An agent started, stopped, waits, or failed."""

    type = "agent.status.changed"
    subject = "workspace.{workspace_id}.agent.{agent_id}"

    workspace_id: Id
    agent_id: Id
    status: Id
    previous_status: Id | None = None


class ChatMessage(Event):
    """A message was written in a chat."""

    type = "chat.message"
    subject = "workspace.{workspace_id}.chat.{chat_id}"

    workspace_id: Id
    chat_id: Id
    message_id: Id
    sender_id: Id
    text: str = Field(max_length=20_000)


class UserTyping(Event):
    """A user started or stopped typing, for example in a chat or an issue: `targetKind` and `targetId` name it."""

    type = "user.typing"
    subject = "workspace.{workspace_id}.{target_kind}.{target_id}.typing"
    ephemeral = True

    workspace_id: Id
    target_kind: Id
    target_id: Id
    user_id: Id
    typing: bool
