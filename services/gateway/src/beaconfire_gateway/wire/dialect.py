"""Define the interface of dialects. A dialect is a protocol that sessions speak."""

from typing import Protocol, TypeAlias

from beaconfire_gateway.wire.messages import Event, Message, Request

Spliced: TypeAlias = tuple[bytes, bytes, bytes]
"""The bytes before a body, the body, and the bytes after it. They are joined when they are written.

So an event's body is kept once, and shared by everything that is made of the event.
"""


class Dialect(Protocol):
    """Reads requests and writes messages. It has no state of a session, so all sessions may share one object."""

    @property
    def name(self) -> str:
        """The name in settings, statistics and log lines: `beaconfire.v1`, `plain`, `socketio`.

        Dialects that differ only in a namespace have its name after a colon, as `socketio:/realtime`.
        """
        ...

    def decode(self, data: bytes) -> Request:
        """Read a client's message. Raises only InvalidMessage."""
        ...

    def encode(self, message: Message) -> bytes:
        """Return the payload of a message. Empty if the protocol has no such message: then it is not sent.

        Where a protocol has no `restored`, its clients are sent the events in it, one after the other.
        """
        ...

    def event(self, event: Event) -> Spliced:
        """Return the payload of an event. If possible, use `event.body` unchanged: then no copy of it is kept."""
        ...
