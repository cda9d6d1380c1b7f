"""Define wires. A wire is everything that decides the bytes of a session's messages.

Sessions with the same wire get the same bytes for an event. So the hub groups sessions by it, and bytes are kept by it
(`entry`, `catchup_cache`).
"""

from collections.abc import Iterable
from itertools import chain
from typing import ClassVar

from beaconfire_gateway.wire.dialect import Dialect, Spliced
from beaconfire_gateway.wire.framing import Framing
from beaconfire_gateway.wire.messages import Degraded, Event, Live, Message, Position, Request, Restored

_MAX_KEPT = 16
"""Positions. Many sessions are sent the same one at about the same time: it is encoded once."""
_TO_ALL = (Degraded, Live)
"""One object is sent to all sessions, and is encoded once. The next one is not the same: a dialect may add the time."""


class Wire:
    """A dialect over a framing. Two wires are never equal: make one, and give it to all sessions that share it.

    Whatever else changes bytes (a namespace, a batching window) belongs into its dialect or its framing.
    """

    __slots__ = ("_dialect", "_framing", "_kept", "_last")

    batches: ClassVar[bool] = False
    """Whether `join` does more than to put bytes behind one another."""

    def __init__(self, dialect: Dialect, framing: Framing) -> None:
        self._dialect = dialect
        self._framing = framing
        self._kept: dict[Position, bytes] = {}
        self._last: tuple[Message, bytes] | None = None

    @property
    def dialect_name(self) -> str:
        """The name of its dialect."""
        return self._dialect.name

    def decode(self, data: bytes) -> Request:
        """Read a client's payload, without its framing. Raises only InvalidMessage."""
        return self._dialect.decode(data)

    def encode(self, message: Message) -> bytes:
        """A message as it goes over the wire. Empty if the dialect has no such message."""
        if isinstance(message, Position):
            return self._encode_position(message)
        if not isinstance(message, _TO_ALL):
            return self._encode(message)
        if self._last is None or self._last[0] is not message:
            self._last = message, self._encode(message)
        return self._last[1]

    def encode_event(self, event: Event) -> Spliced:
        """An event as it goes over the wire. Ask the event itself, if it is an entry: it keeps the answer."""
        return self._framing.frame(self._dialect.event(event), event)

    def join(self, events: Iterable[bytes]) -> bytes:
        """What is written for several events, whose bytes these are."""
        return b"".join(events)

    def payload_bytes(self, event: Event) -> int:
        """How long an event's payload is before it is framed."""
        return sum(map(len, self._dialect.event(event)))

    def _encode_position(self, position: Position) -> bytes:
        data = self._kept.get(position)
        if data is None:
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            data = self._kept[position] = self._encode(position)
        return data

    def _encode(self, message: Message) -> bytes:
        payload = self._dialect.encode(message)
        if payload:
            return b"".join(self._framing.frame((b"", payload, b""), message))
        if isinstance(message, Restored):  # its clients are sent the events as any others
            return b"".join(chain.from_iterable(map(self.encode_event, message.events)))
        return b""
