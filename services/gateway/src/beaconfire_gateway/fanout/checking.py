"""Make an entry of the ring from a stored message. Check it against the catalogue once, never per session.

A message that is heard live and one that is read again later give the same entry, so a replay has the same bytes.
"""

import time
from functools import lru_cache
from typing import NamedTuple

from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.route import Routes
from beaconfire_kit.broker import ANCHOR, CATALOGUE, TICK
from beaconfire_kit.envelope import Checked, InvalidEvent, check
from beaconfire_kit.roles import Role

NOT_EVENTS = frozenset({ANCHOR, CATALOGUE, TICK})
"""Subjects of the stream that carry no event."""


class Stored(NamedTuple):
    """A message of the stream, heard live or read: its subject, its body, and whether it carries a `Nats-TTL`."""

    subject: str
    body: bytes
    has_ttl: bool

    @classmethod
    def of(cls, subject: bytes, body: bytes, headers: bytes | None) -> "Stored":
        """Make one from the broker's message."""
        return cls(text_of(subject), body, headers is not None and has_ttl(headers))


@lru_cache(maxsize=10_000)
def text_of(subject: bytes) -> str:
    """Return a subject as text. NATS allows any bytes. Our subjects are ASCII, and others are refused later.

    The same string is returned for the same subject as long as possible: a string keeps its hash for look-ups.
    """
    return subject.decode(errors="replace")


def has_ttl(headers: bytes) -> bool:
    """Whether raw headers contain a `Nats-TTL`."""
    return b"\nnats-ttl:" in headers.lower()


class Checker:
    """Checks messages and makes entries of them. One for each gateway: it remembers routes."""

    def __init__(self) -> None:
        self.routes = Routes()

    def check(self, epoch: str, offset: int, stored: Stored) -> Entry:
        """Return the entry of an event of the stream with this epoch.

        Raises InvalidEvent if the message is not a valid event of its subject.
        """
        if stored.has_ttl:
            raise InvalidEvent("has_ttl", "an event must not carry Nats-TTL: it would vanish from the history")
        body = stored.body
        event = check(stored.subject, body)
        route = self.routes[stored.subject]
        return Entry(
            offset,
            route,
            body if "id" in event else _with_id(body, offset),
            time.monotonic(),
            epoch=epoch,
            type=event["type"],
            audience=audience(event),
        )

    def check_ephemeral(self, subject: str, stored_subject: str, body: bytes) -> Entry:
        """Return the entry of an event that is on no stream. It came on `subject`, and `stored_subject` has its rooms.

        Raises InvalidEvent.
        """
        event = check(subject, body)
        route = self.routes[stored_subject]
        return Entry(0, route, body, time.monotonic(), type=event["type"], audience=audience(event))


def audience(event: Checked) -> frozenset[Role] | None:
    """The roles that may see an event; None for every role."""
    roles = event["metadata"].get("audience")
    return None if roles is None else frozenset(roles)


def _with_id(body: bytes, offset: int) -> bytes:
    """The publisher's own bytes with an id in front."""
    return b'{"id":"EVENTS:%d",%s' % (offset, body.lstrip()[1:])
