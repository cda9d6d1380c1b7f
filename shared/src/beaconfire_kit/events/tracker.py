"""Events of a workspace's issue tracker, in the shapes of that system's own publishers and clients.

`issue.created` carries the issue, and `issue.updated` its changed fields with their new values. Other events follow the
same pattern, with whatever fields the item has. The ids that the subject carries may be missing in the body.
"""

from collections.abc import Mapping
from typing import Any

from beaconfire_kit.event import ItemId, OpenEvent

Changes = Mapping[str, Any]
"""The changed fields, each with its new value."""


class _InWorkspace(OpenEvent):
    workspace_id: ItemId | None = None


class _Issue(_InWorkspace):
    team_id: ItemId | None = None
    id: ItemId | None = None


class IssueCreated(_Issue):
    """An issue was opened."""

    type = "issue.created"
    subject = "workspace.{workspace_id}.team.{team_id}.issue.{id}"

    identifier: str | None = None
    """What people call it: `ENG-123`."""
    title: str | None = None
    status: str | None = None
    priority: str | int | float | None = None


class IssueUpdated(_Issue):
    """An issue's fields changed. `changes` has each changed field with its new value."""

    type = "issue.updated"
    subject = "workspace.{workspace_id}.team.{team_id}.issue.{id}"

    changes: Changes | None = None


class IssueDeleted(_Issue):
    """An issue was deleted."""

    type = "issue.deleted"
    subject = "workspace.{workspace_id}.team.{team_id}.issue.{id}"


class IssueArchived(_Issue):
    """An issue was archived. It can still be read."""

    type = "issue.archived"
    subject = "workspace.{workspace_id}.team.{team_id}.issue.{id}"


class _OfIssue(_InWorkspace):
    team_id: ItemId | None = None
    issue_id: ItemId | None = None
    id: ItemId | None = None


class IssueActivityCreated(_OfIssue):
    """Something was done to an issue, for its activity feed. The payload is the whole entry."""

    type = "issue.activity.created"
    subject = "workspace.{workspace_id}.team.{team_id}.issue.{issue_id}.activity.{id}"


class CommentCreated(_OfIssue):
    """A comment was added to an issue. The payload is the whole comment."""

    type = "comment.created"
    subject = "workspace.{workspace_id}.team.{team_id}.issue.{issue_id}.comment.{id}"

    author_id: str | int | None = None
    body: str | None = None


class CommentUpdated(_OfIssue):
    """A comment was edited."""

    type = "comment.updated"
    subject = "workspace.{workspace_id}.team.{team_id}.issue.{issue_id}.comment.{id}"

    changes: Changes | None = None


class CommentDeleted(_OfIssue):
    """A comment was deleted."""

    type = "comment.deleted"
    subject = "workspace.{workspace_id}.team.{team_id}.issue.{issue_id}.comment.{id}"


class ProjectUpdated(_InWorkspace):
    """A project was created, or its fields changed."""

    type = "project.updated"
    subject = "workspace.{workspace_id}.project.{id}"

    id: ItemId | None = None
    changes: Changes | None = None


class CycleUpdated(_InWorkspace):
    """A cycle was created, or its fields changed."""

    type = "cycle.updated"
    subject = "workspace.{workspace_id}.cycle.{id}"

    id: ItemId | None = None
    changes: Changes | None = None
