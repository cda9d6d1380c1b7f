"""Write messages as the items of a JSON list, as the answer to a long poll carries them."""

from beaconfire_gateway.wire.dialect import Spliced
from beaconfire_gateway.wire.messages import Event, GoAway, Message, Position
from beaconfire_gateway.wire.native import Native
from beaconfire_gateway.wire.wire import Wire

SEPARATOR = b","


class _Polled(Native):
    """The native protocol without `position` and `goaway`, because each answer ends with its cursor."""

    def encode(self, message: Message) -> bytes:
        return b"" if isinstance(message, (Position, GoAway)) else super().encode(message)


class _Items:
    """A framing: each payload is followed by a comma."""

    def frame(self, payload: Spliced, content: Message | Event) -> Spliced:
        before, body, after = payload
        return before, body, after + SEPARATOR


MESSAGE_LIST = Wire(_Polled(), _Items())
"""The wire of all long polls."""
