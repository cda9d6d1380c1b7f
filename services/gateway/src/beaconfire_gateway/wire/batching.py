"""A wire for clients that take several events in one message (PROTOCOL.md, "Several events in one message").

An event's bytes are its message without a frame, made once for all sessions of the wire. What is written at a time is
joined to one message then, and framed. So clients parse, and browsers wake up, once for all events of a moment.
"""

from collections.abc import Iterable
from typing import ClassVar, Protocol

from beaconfire_gateway.wire.dialect import Spliced
from beaconfire_gateway.wire.messages import Event
from beaconfire_gateway.wire.native import Native, several
from beaconfire_gateway.wire.wire import Wire


class BatchFraming(Protocol):
    """A framing that needs nothing but the payload."""

    def frame(self, payload: Spliced, content: object) -> Spliced: ...


class BatchingWire(Wire):
    """The native dialect, over any framing of WebSockets."""

    __slots__ = ("_frames",)

    batches: ClassVar[bool] = True

    def __init__(self, dialect: Native, framing: BatchFraming) -> None:
        super().__init__(dialect, framing)
        self._frames = framing

    def encode_event(self, event: Event) -> Spliced:
        """An event's message, which has no frame yet."""
        return self._dialect.event(event)

    def join(self, events: Iterable[bytes]) -> bytes:
        """One message of these events, in their order. A single event is its own message."""
        messages = list(events)
        if not messages:
            return b""
        payload = (b"", messages[0], b"") if len(messages) == 1 else several(messages)
        return b"".join(self._frames.frame(payload, None))
