"""What every dialect can do: a dialect is a protocol that sessions speak."""

from typing import Protocol, TypeAlias

from beaconfire_gateway.wire.messages import Event, Message, Request

Spliced: TypeAlias = tuple[bytes, bytes, bytes]
"""The bytes before a body, the body, and the bytes after it. They are joined when they are written.

So an event's body is kept once, and shared by everything that is made of the event.
"""


class Dialect(Protocol):
    """Reads requests and writes messages. It keeps nothing of any session: all sessions may share one object."""

    def decode(self, data: bytes) -> Request:
        """Read what a client sent. Raises InvalidMessage, and nothing else."""
        ...

    def encode(self, message: Message) -> bytes:
        """The payload of a message. Empty if the protocol has no such message: then nothing is sent."""
        ...

    def event(self, event: Event) -> Spliced:
        """The payload of an event. Splice `event.body` in as it is if you can: then no copy of it is kept."""
        ...
