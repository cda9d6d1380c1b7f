"""Define framings, which make the bytes on the connection from a message's payload."""

from typing import Protocol

from beaconfire_gateway.wire.dialect import Spliced
from beaconfire_gateway.wire.messages import Event, Message
from beaconfire_gateway.wire.websocket_frames import Opcode, header


class Framing(Protocol):
    """Makes payloads into the bytes that go over the wire. The same payload always gives the same bytes."""

    def frame(self, payload: Spliced, content: Message | Event) -> Spliced:
        """Return the bytes of a payload. `content` is its message: a framing may write an event's offset beside it."""
        ...


class TextFrames:
    """One unfragmented text frame for each payload (RFC 6455), on sockets of ours and on aiohttp's."""

    def frame(self, payload: Spliced, content: object) -> Spliced:
        before, body, after = payload
        return header(len(before) + len(body) + len(after)) + before, body, after


class BinaryFrames:
    """As `TextFrames`, one binary frame for each payload."""

    def frame(self, payload: Spliced, content: object) -> Spliced:
        before, body, after = payload
        return header(len(before) + len(body) + len(after), Opcode.BINARY) + before, body, after
