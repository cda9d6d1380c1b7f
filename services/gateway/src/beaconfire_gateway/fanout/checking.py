"""Make an entry of the ring from a stored message. Check it once, never per session, by the catalogue at its offset.

A message that is heard live and one that is read again later give the same entry, so a replay has the same bytes.
"""

from dataclasses import dataclass
from functools import lru_cache
from time import monotonic

from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.route import Route, Routes
from beaconfire_kit.broker import ANCHOR, CATALOGUE, EPHEMERAL_PREFIX, TICK
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.timeline import Timeline
from beaconfire_kit.invalid_event import InvalidEvent

NOT_EVENTS = frozenset({ANCHOR, CATALOGUE, TICK})
"""Subjects of the stream that carry no event."""


@dataclass(slots=True)  # not frozen, which would make each one slower
class Stored:
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

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.routes = Routes()

    def check(self, epoch: str, offset: int, stored: Stored, route: Route | None = None) -> Entry:
        """Return the entry of an event of the stream with this epoch. `route` is that of its subject, if it is known.

        Raises InvalidEvent if the message is not a valid event of its subject.
        """
        if stored.has_ttl:
            raise InvalidEvent("has_ttl", "an event must not carry Nats-TTL: it would vanish from the history")
        subject, body, timeline = stored.subject, stored.body, self.timeline
        catalogue = timeline.current if offset > timeline.since else timeline.at(offset)
        event = catalogue.checker.check(subject, body)
        return Entry(
            offset,
            route or self.routes[subject],
            body if "id" in event.message else _with_id(body, offset),
            monotonic(),
            epoch,
            event.definition.name,
            event.audience,
        )

    def check_ephemeral(self, catalogue: Catalogue, subject: str, body: bytes) -> Entry:
        """Return the entry of an event that is on no stream. Raises InvalidEvent."""
        event = catalogue.check(subject, body)
        route = self.routes[subject.removeprefix(EPHEMERAL_PREFIX)]
        return Entry(0, route, body, monotonic(), type=event.type, audience=event.audience)


def _with_id(body: bytes, offset: int) -> bytes:
    """The publisher's own bytes with an id in front."""
    return b'{"id":"EVENTS:%d",%s' % (offset, body.lstrip()[1:])
