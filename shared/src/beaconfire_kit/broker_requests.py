"""Tell requests over the broker from other messages on their subject."""

from nats.aio.msg import Msg

INBOXES = ("_INBOX.", "_INBOX_")
"""The start of every subject that answers are sent to. Elsewhere an answer could be stored as an event."""


def is_request(message: Msg, subject: str) -> bool:
    """Return whether it was sent to this subject itself, asks for an answer at an inbox, and is not from a stream.

    Anyone who may create a consumer can have messages of the stream delivered to the subject. Anyone who may ask can
    name any subject for the answer, even one of the stream.
    """
    is_stored = any(name.lower().startswith("nats-") for name in message.headers or ())
    return message.subject == subject and message.reply.startswith(INBOXES) and not is_stored
