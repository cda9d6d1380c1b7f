"""Answer HTTP calls on the comments of an issue. Authors change and delete their own, and owners delete any."""

from beaconfire_demo.tracker.collection import ACTIONS, Collection
from beaconfire_demo.tracker.feed import enter, old_and_new, values
from beaconfire_demo.tracker.fields import Comment as Text
from beaconfire_demo.tracker.fields import Thing
from beaconfire_demo.tracker.issues import Issues
from beaconfire_demo.tracker.store import COMMENTS, ISSUES
from beaconfire_kit import errors
from beaconfire_kit.access import Member
from beaconfire_kit.collection import Change, Operation
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.events.tracker import CommentCreated, CommentDeleted, CommentUpdated
from beaconfire_kit.models import Body
from beaconfire_kit.roles import can_own
from beaconfire_kit.store import Reading, Row, Writing

_NAMED = ("workspaceId", "teamId", "issueId", "id", "authorId", "revision")


class CommentChanges(Body):
    """The field of a comment that may be changed."""

    body: Text = ""


class NewComment(CommentChanges):
    """A comment to add."""

    body: Text


class Comment(Thing):
    """A comment as callers see it."""

    team_id: str
    issue_id: str
    author_id: str
    body: str


class Comments(Collection):
    """The comments of an issue."""

    word = "comment"
    plural = "comments"
    path = Issues.path + "/{issue_id}/comments"
    thing_path = path + "/{id}"
    table = COMMENTS
    new = NewComment
    changes = CommentChanges
    answer = Comment

    async def check_parent(self, tx: Reading, path: Row) -> None:
        await super().check_parent(tx, path)
        await _issue(tx, path)

    async def given(self, tx: Writing, caller: Member) -> Row:
        return {"author_id": caller.user_id}

    def check_may(self, caller: Member, operation: Operation, row: Row) -> None:
        if row["author_id"] == caller.user_id or (operation == "delete" and can_own(caller.role)):
            return
        raise BeaconfireError(errors.FORBIDDEN, "only its author may change a comment, and only owners may delete it")

    async def report(self, tx: Writing, change: Change) -> None:
        row, before, fields = change.row, change.before, change.fields
        named = values(row, _NAMED)
        changes = {}
        if change.operation == "create":
            tx.publish(CommentCreated.model_validate({"workspaceId": row["workspace_id"], **self.show(row)}))
        elif change.operation == "delete":
            tx.publish(CommentDeleted.model_validate(named))
        else:
            changes = old_and_new(before, row, fields)
            said = {"changes": values(row, fields), "previous": values(before, fields)}
            tx.publish(CommentUpdated.model_validate({**named, **said}))
        issue = await _issue(tx, row)
        await tx.note(ISSUES, issue, {"comment_count": await tx.count(COMMENTS, {"issue_id": issue["id"]})})
        await enter(tx, change.caller.user_id, ACTIONS[change.operation], "comment", row, issue=issue, changes=changes)


async def _issue(tx: Reading, path: Row) -> Row:
    """Return the issue of a comment, or of the path to its comments. Raises `not_found`."""
    return await tx.find(ISSUES, {"id": path["issue_id"], **{name: path[name] for name in ("workspace_id", "team_id")}})
