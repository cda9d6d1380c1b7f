"""Events of a workspace's issue tracker: issues, comments, projects and cycles."""

from pydantic import Field

from beaconfire_kit.event import Event, Id


class _Issue(Event):
    workspace_id: Id
    team_id: Id
    issue_id: Id


class IssueCreated(_Issue):
    """An issue was opened."""

    type = "issue.created"
    subject = "workspace.{workspace_id}.team.{team_id}.issue.{issue_id}"

    title: str = Field(max_length=500)


class IssueUpdated(_Issue):
    """An issue's fields changed."""

    type = "issue.updated"
    subject = "workspace.{workspace_id}.team.{team_id}.issue.{issue_id}"

    changed_fields: tuple[str, ...]


class IssueDeleted(_Issue):
    """An issue was deleted."""

    type = "issue.deleted"
    subject = "workspace.{workspace_id}.team.{team_id}.issue.{issue_id}"


class IssueArchived(_Issue):
    """An issue was archived. It can still be read."""

    type = "issue.archived"
    subject = "workspace.{workspace_id}.team.{team_id}.issue.{issue_id}"


class _Comment(_Issue):
    comment_id: Id


class CommentCreated(_Comment):
    """A comment was added to an issue."""

    type = "comment.created"
    subject = "workspace.{workspace_id}.team.{team_id}.issue.{issue_id}.comment.{comment_id}"

    author_id: Id


class CommentUpdated(_Comment):
    """A comment was edited."""

    type = "comment.updated"
    subject = "workspace.{workspace_id}.team.{team_id}.issue.{issue_id}.comment.{comment_id}"

    changed_fields: tuple[str, ...]


class CommentDeleted(_Comment):
    """A comment was deleted."""

    type = "comment.deleted"
    subject = "workspace.{workspace_id}.team.{team_id}.issue.{issue_id}.comment.{comment_id}"


class ProjectUpdated(Event):
    """A project was created, or its fields changed."""

    type = "project.updated"
    subject = "workspace.{workspace_id}.project.{project_id}"

    workspace_id: Id
    project_id: Id
    changed_fields: tuple[str, ...]


class CycleUpdated(Event):
    """A cycle was created, or its fields changed."""

    type = "cycle.updated"
    subject = "workspace.{workspace_id}.cycle.{cycle_id}"

    workspace_id: Id
    cycle_id: Id
    changed_fields: tuple[str, ...]
