"""Define why a client must load its rooms again: the reasons for the client, and the causes for the log.

`make generate` writes the reasons into PROTOCOL.md, docs/howto/troubleshoot.md and the browser client's typings, and
the causes into docs/howto/troubleshoot.md.
"""

from enum import StrEnum


class ResyncReason(StrEnum):
    """Why a gateway sends `resync`. The value is the word on the wire, in the log and in the metric."""

    meaning: str
    """A sentence about what happened, for the author of a client."""
    client: str
    """What a client must do, besides loading the state of the rooms again."""
    operator: str
    """What an operator should look at if it happens again and again."""

    def __new__(cls, value: str, meaning: str, client: str, operator: str) -> "ResyncReason":
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        member.client = client
        member.operator = operator
        return member

    EPOCH_CHANGED = (
        "epoch_changed",
        "The cursor belongs to another epoch of the stream, or cannot be read. The stream was created again, restored "
        "from a backup, or given a new epoch.",
        "Drop every cursor and offset of the old epoch.",
        "Nothing, if it happens once after such a change. If it repeats, two brokers take turns under one name.",
    )
    AHEAD = (
        "ahead",
        "The stream ends before the cursor.",
        "Drop every offset above the new cursor.",
        "If the stream was restored from a backup, [set a new epoch](operate.md#restore-the-stream-from-a-backup). "
        "Otherwise the cursor comes from another deployment: check to which one the client connects.",
    )
    NOT_RESUMABLE = (
        "not_resumable",
        "The stream no longer has every event after the cursor. While the client or its gateway was away, "
        "some became too old, the stream was full, or an operator erased them.",
        "Nothing else.",
        "If it happens after short absences, the stream is full. Publish fewer or smaller events, or make the "
        "stream larger. By default it keeps 7 days or 8 GiB, whichever is less.",
    )
    TOO_SLOW = (
        "too_slow",
        "After a minute the session was no closer to the newest event.",
        "If it repeats, subscribe to fewer rooms, or name `types`.",
        "Check the network of that client. [Slow clients](../topics/slow_clients.md) explains the limits.",
    )


class ResyncCause(StrEnum):
    """The exact cause of a `resync`. The value is the word in the log. Clients only get the reason."""

    reason: ResyncReason
    meaning: str

    def __new__(cls, value: str, reason: ResyncReason, meaning: str) -> "ResyncCause":
        member = str.__new__(cls, value)
        member._value_ = value
        member.reason = reason
        member.meaning = meaning
        return member

    CURSOR_UNREADABLE = (
        "cursor_unreadable",
        ResyncReason.EPOCH_CHANGED,
        "The client sent a cursor that cannot be read.",
    )
    CURSOR_OF_OTHER_EPOCH = (
        "cursor_of_other_epoch",
        ResyncReason.EPOCH_CHANGED,
        "The client sent a cursor of another epoch.",
    )
    STREAM_REPLACED = (
        "stream_replaced",
        ResyncReason.EPOCH_CHANGED,
        "The stream was replaced, or got a new epoch, while the client was connected.",
    )
    CURSOR_AHEAD = (
        "cursor_ahead",
        ResyncReason.AHEAD,
        "The client sent a cursor above the end of the stream.",
    )
    HOLE_LOST = (
        "hole_lost",
        ResyncReason.NOT_RESUMABLE,
        "The stream lost events that this gateway had not read yet. The client was connected.",
    )
    HOLE_LOST_EARLIER = (
        "hole_lost_earlier",
        ResyncReason.NOT_RESUMABLE,
        "The stream lost events that this gateway had not read yet. These events are after the cursor.",
    )
    EVENTS_REMOVED = (
        "events_removed",
        ResyncReason.NOT_RESUMABLE,
        "The stream begins after the cursor, because earlier events became too old or were erased.",
    )
    EVENTS_ERASED = (
        "events_erased",
        ResyncReason.NOT_RESUMABLE,
        "Events that this gateway remembers were erased from the stream.",
    )
    STREAM_REPLACED_DURING_READ = (
        "stream_replaced_during_read",
        ResyncReason.NOT_RESUMABLE,
        "The stream's epoch changed while the missed events were read.",
    )
    STREAM_WENT_BACK = (
        "stream_went_back",
        ResyncReason.NOT_RESUMABLE,
        "While the missed events were read, the end of the stream went back to below the cursor.",
    )
    NO_PROGRESS = (
        "no_progress",
        ResyncReason.TOO_SLOW,
        "After a minute the session was no closer to the newest event.",
    )
