"""Frame messages as server-sent events (HTML, §9.2). No I/O.

The data of each is the message as the dialect writes it. An event of the application has no `event:` field, so that
`onmessage` of a browser's `EventSource` gets it, whatever its type is. Every other message is named by its type. An id
is a cursor, which an `EventSource` sends back as `Last-Event-ID`.
"""

from beaconfire_gateway.wire.compact_json import to_json
from beaconfire_gateway.wire.dialect import Spliced
from beaconfire_gateway.wire.messages import Event, Message

COMMENT = b":\n\n"
"""A line that clients ignore. It keeps proxies from ending a connection on which nothing happens."""

_NEW_LINE = b"\ndata: "


class ServerSentEvents:
    """Implements `framing.Framing`."""

    def frame(self, payload: Spliced, content: Message | Event) -> Spliced:
        before, body, after = payload
        if b"\n" in body or b"\r" in body:  # between the tokens of a publisher's JSON: within a text it is escaped
            body = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", _NEW_LINE)
        return b"%s%sdata: %s" % (_name(content), _id(content), before), body, after + b"\n\n"


def close_event(code: int, reason: str, retry_after_ms: int) -> bytes:
    """The last event of a stream, with what would be in the close frame of a WebSocket."""
    data = to_json({"type": "close", "code": code, "reason": reason})
    return b"%sevent: close\ndata: %s\n\n" % (retry(retry_after_ms), data)


def retry(milliseconds: int) -> bytes:
    """How long an `EventSource` waits after this stream has ended before it connects again."""
    return b"retry: %d\n" % milliseconds


def _name(content: Message | Event) -> bytes:
    return b"" if content.TYPE == Event.TYPE else b"event: %s\n" % content.TYPE.encode()


def _id(content: Message | Event) -> bytes:
    cursor = getattr(content, "cursor", None)  # of an event, an ack, a position, a resync
    return b"id: %s\n" % cursor.encode() if cursor else b""
