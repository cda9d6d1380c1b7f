"""Define wires. A wire is everything that decides the bytes of a session's messages.

Sessions with the same wire get the same bytes for an event. So the hub groups sessions by it, and bytes are kept by it
(`entry`, `catchup_cache`).
"""

from beaconfire_gateway.wire.dialect import Dialect, Spliced
from beaconfire_gateway.wire.framing import Framing
from beaconfire_gateway.wire.messages import Degraded, Event, Live, Message, Position, Request

_SHARED = (Position, Degraded, Live)
"""Messages that many sessions are sent at about the same time: they are encoded once."""
_MAX_KEPT = 16


class Wire:
    """A dialect over a framing. Two wires are never equal: make one, and give it to all sessions that share it.

    Whatever else changes bytes (a namespace, a batching window) belongs into its dialect or its framing.
    """

    __slots__ = ("_dialect", "_framing", "_kept")

    def __init__(self, dialect: Dialect, framing: Framing) -> None:
        self._dialect = dialect
        self._framing = framing
        self._kept: dict[Message, bytes] = {}

    @property
    def dialect_name(self) -> str:
        """The name of its dialect."""
        return self._dialect.name

    def decode(self, data: bytes) -> Request:
        """Read a client's payload, without its framing. Raises only InvalidMessage."""
        return self._dialect.decode(data)

    def encode(self, message: Message) -> bytes:
        """A message as it goes over the wire. Empty if the dialect has no such message."""
        if not isinstance(message, _SHARED):
            return self._encode(message)
        data = self._kept.get(message)
        if data is None:
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            data = self._kept[message] = self._encode(message)
        return data

    def encode_event(self, event: Event) -> Spliced:
        """An event as it goes over the wire. Ask the event itself, if it is an entry: it keeps the answer."""
        return self._framing.frame(self._dialect.event(event), event)

    def payload_bytes(self, event: Event) -> int:
        """How long an event's payload is before it is framed."""
        return sum(map(len, self._dialect.event(event)))

    def _encode(self, message: Message) -> bytes:
        payload = self._dialect.encode(message)
        return b"".join(self._framing.frame((b"", payload, b""), message)) if payload else b""
