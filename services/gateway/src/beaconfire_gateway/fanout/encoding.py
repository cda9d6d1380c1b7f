"""From a stored message to what the ring and the sockets have of it: checked once, encoded once, never per session.

The same for a message that is heard and for one that is read again later, so that a replayed frame has the same bytes.
"""

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from beaconfire_gateway.fanout.ring import Entry
from beaconfire_gateway.fanout.route import Route, Routes
from beaconfire_gateway.wire import protocol
from beaconfire_kit.broker import ANCHOR, TICK
from beaconfire_kit.envelope import Checked, InvalidEvent, check
from beaconfire_kit.roles import Role

NOT_EVENTS = frozenset({ANCHOR, TICK})
"""Subjects of the stream that carry no event."""

_UNREAD_OVERHEAD = 400  # bytes of Python objects around the body of one that is not encoded yet, measured roughly


class Stored(NamedTuple):
    """A message of the stream, live or read: its subject, body, and whether the publisher gave it a `Nats-TTL`."""

    subject: str
    body: bytes
    has_ttl: bool

    @classmethod
    def of(cls, subject: bytes, body: bytes, headers: bytes | None) -> "Stored":
        """From what came over the wire."""
        return cls(text_of(subject), body, headers is not None and has_ttl(headers))


@lru_cache(maxsize=10_000)
def text_of(subject: bytes) -> str:
    """A subject as text. NATS carries any bytes in it; ours are ASCII, others are refused later.

    One string for each subject, as long as possible: what is looked up by it is found without hashing it again.
    """
    return subject.decode(errors="replace")


def has_ttl(headers: bytes) -> bool:
    """Whether a `Nats-TTL` is among raw headers."""
    return b"\nnats-ttl:" in headers.lower()


class Unread(Entry):
    """An event that nobody here listened to when it came: checked and encoded when somebody looks into it.

    `read(offset, stored)` gives the entry it is then, or None where it proves to be no event: it is one for nobody.
    """

    __slots__ = ("_bytes", "_read", "_stored")

    def __init__(
        self, read: Callable[[int, Stored], Entry | None], offset: int, route: Route, stored: Stored, at: float
    ) -> None:
        self._read: Callable[[int, Stored], Entry | None] | None = read
        self._stored = stored
        self._bytes = len(stored.body) + _UNREAD_OVERHEAD
        self.offset = offset
        self.route = route
        self.at = at

    @property
    def size(self) -> int:
        return self._bytes

    @property
    def length(self) -> int:
        return self._bytes - _UNREAD_OVERHEAD

    @property
    def is_unread(self) -> bool:
        return self._read is not None

    def __getattr__(self, name: str) -> Any:
        # Asked only for what has no value yet: `type`, `frame` and `audience`, and once.
        if self._read is None:
            raise AttributeError(name)
        read, self._read = self._read, None
        entry = read(self.offset, self._stored)
        del self._stored
        self.type, self.frame, self.audience = (
            ("", b"", frozenset()) if entry is None else (entry.type, entry.frame, entry.audience)
        )
        return getattr(self, name)


class Encoder:
    """Checks messages against the catalogue and encodes them. One for each gateway: it remembers routes."""

    def __init__(self) -> None:
        self.routes = Routes()

    def encode(self, offset: int, stored: Stored) -> Entry:
        """An event's entry. Raises InvalidEvent for what is none, or does not stand on its own subject."""
        if stored.has_ttl:
            raise InvalidEvent("has_ttl", "an event must not carry Nats-TTL: it would vanish from the history")
        body = stored.body
        event = check(stored.subject, body)
        route = self.routes[stored.subject]
        frame = protocol.event(offset, route.names, body if "id" in event else _with_id(body, offset))
        return Entry(offset, route, event["type"], frame, audience(event), time.monotonic())

    def encode_ephemeral(self, subject: str, address: str, body: bytes) -> Entry:
        """An event that is on no stream, and came on `subject`; `address` says its rooms. Raises InvalidEvent."""
        event = check(subject, body)
        route = self.routes[address]
        frame = protocol.event(None, route.names, body)
        return Entry(0, route, event["type"], frame, audience(event), time.monotonic())


def audience(event: Checked) -> frozenset[Role] | None:
    """The roles that may see an event; None: all."""
    roles = event["metadata"].get("audience")
    return None if roles is None else frozenset(roles)


def _with_id(body: bytes, offset: int) -> bytes:
    """The publisher's own bytes with an id in front, where it gave none."""
    return b'{"id":"EVENTS:%d",%s' % (offset, body.lstrip()[1:])
