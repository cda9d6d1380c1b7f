"""The reasons of a `resync`: the one table of why a client must load the state of its rooms again.

`make generate` writes it into PROTOCOL.md, docs/howto/troubleshoot.md and the browser client's typings.
"""

from enum import StrEnum


class ResyncReason(StrEnum):
    """Why a gateway sends `resync`. The value is the word on the wire, in the log and in the metric."""

    meaning: str
    """What happened, for the author of a client."""
    client: str
    """What a client does, besides loading the state of the rooms again."""
    operator: str
    """What an operator looks at if it happens again and again."""

    def __new__(cls, value: str, meaning: str, client: str, operator: str) -> "ResyncReason":
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        member.client = client
        member.operator = operator
        return member

    EPOCH_CHANGED = (
        "epoch_changed",
        "The cursor belongs to another life of the stream, or cannot be read. The stream was declared again, "
        "restored from a backup, or given a new epoch.",
        "Drop every cursor and offset of the old epoch.",
        "Once is correct. If it repeats, two brokers take turns behind one name.",
    )
    AHEAD = (
        "ahead",
        "The stream ends below the cursor.",
        "Drop every offset above the new cursor.",
        "The stream was restored from a backup, or the cursor comes from another system.",
    )
    NOT_RESUMABLE = (
        "not_resumable",
        "The stream no longer has every event after the cursor. Retention removed some while the client or its gateway "
        "was away, or an operator erased them.",
        "Nothing else.",
        "If it follows short absences, the stream is full: publish fewer or smaller events, or give it more room. "
        "As shipped it keeps 7 days or 8 GiB, whichever is less.",
    )
    TOO_SLOW = (
        "too_slow",
        "For a minute the session came no nearer to the newest event.",
        "If it repeats, subscribe to fewer rooms, or name `types`.",
        "Look at the network of that client. [Slow clients](../topics/slow_clients.md) explains the limits.",
    )
