"""From a stored message to a frame in the right queues.

An event is refused where it is not valid against the catalogue or does not stand on its own subject. A refused one is
set aside under `deadletter.>`, counted and logged; its offset still counts, so nobody sees a gap.

What somebody here listens to is checked at once, and so is what changes who may listen. The rest goes into the ring as
it came (ADR 0015): checked when somebody resumes into it, or in the idle moments that `read_on` is given.
"""

import time
from collections.abc import Callable
from functools import cache

from beaconfire_gateway.fanout.encoding import NOT_EVENTS, Encoder, Stored, Unread
from beaconfire_gateway.fanout.ring import Entry
from beaconfire_gateway.fanout.route import Route
from beaconfire_gateway.sessions.context import Context
from beaconfire_gateway.sessions.membership import Membership
from beaconfire_gateway.sessions.session import Session
from beaconfire_kit import logs, metrics
from beaconfire_kit.broker import EPHEMERAL_PREFIX
from beaconfire_kit.cursor import Cursor
from beaconfire_kit.envelope import InvalidEvent, read
from beaconfire_kit.events.user import AccessRevoked, MemberChanged
from beaconfire_kit.subjects import InvalidSubject

log = logs.get(__name__)

DELIVERED = metrics.Counter(
    "beaconfire_gateway_events_delivered_total", "Events of the stream delivered, by type.", ["type"]
)
EPHEMERAL = metrics.Counter("beaconfire_gateway_ephemeral_events_delivered_total", "Ephemeral events delivered.")
UNCHECKED = metrics.Counter(
    "beaconfire_gateway_events_unchecked_total",
    "Events without a listener that left the ring before they were checked.",
)
DROPPED = metrics.Counter(
    "beaconfire_gateway_events_set_aside_total",
    "Messages set aside because they were no valid event, by reason.",
    ["reason"],
)

SetAside = Callable[[InvalidEvent, str, bytes, Cursor | None], None]
"""(why, subject, body, cursor if it is in the stream): keeps a refused message where an operator can find it."""


class Delivery:
    """Takes messages in the stream's order."""

    def __init__(
        self, context: Context[Session], membership: Membership, encoder: Encoder, set_aside: SetAside
    ) -> None:
        self._context = context
        self._membership = membership
        self._encoder = encoder
        self._set_aside = set_aside
        self._epoch = ""
        self._read_through = 0

    def take(self, offset: int, stored: Stored) -> None:
        """Deliver the message at `offset`. Does not wait; the writes follow in this turn of the loop."""
        context = self._context
        try:
            if stored.subject not in NOT_EVENTS:
                self._deliver(offset, stored)
        except InvalidEvent as error:
            self._refuse(error, stored.subject, stored.body, Cursor(context.epoch, offset))
        finally:
            context.position = offset
            context.outbound.delivered(offset)
            if context.arrivals.waiting:
                context.arrivals.reached(offset)

    def take_ephemeral(self, subject: bytes, _reply: bytes, body: bytes, _headers: bytes | None) -> None:
        """Deliver a message that is on no stream: to who is connected, without an offset."""
        text = subject.decode(errors="replace")
        try:
            entry = self._encoder.encode_ephemeral(text, text.removeprefix(EPHEMERAL_PREFIX), body)
        except InvalidEvent as error:
            self._refuse(error, text, body, None)
            return
        EPHEMERAL.inc()
        self._context.outbound.put(self._context.position, entry)

    def read_on(self, count: int) -> None:
        """Check the next `count` events that nobody listened to. Call it often: what leaves the ring is not checked."""
        ring = self._context.ring
        if self._epoch != self._context.epoch or self._read_through > self._context.position:
            self._epoch, self._read_through = self._context.epoch, ring.floor
        UNCHECKED.inc(ring.gone_unread)
        ring.gone_unread = 0
        for entry in ring.after(self._read_through, 2 * count):
            if entry.is_unread:
                if not count:
                    return
                count -= 1
                _ = entry.type
            self._read_through = entry.offset

    def _deliver(self, offset: int, stored: Stored) -> None:
        context = self._context
        route = self._find_route(stored.subject)
        if route is None or route.is_of_access:
            try:
                entry = self._encode(offset, stored)
            except InvalidEvent:
                if route is not None:  # something has changed, and only auth can say what
                    self._membership.doubt(route.rooms[-1].pair.id)
                raise
            # Before the event itself is queued: who was put out does not hear it.
            self._change_access(stored)
        elif stored.has_ttl or context.hub.is_heard(route.subject, route.rooms):
            entry = self._encode(offset, stored)
        else:
            context.ring.append(Unread(self._read, offset, route, stored, time.monotonic()))
            return
        context.ring.append(entry)
        context.outbound.put(offset, entry)

    def _change_access(self, stored: Stored) -> None:
        """Do at once what a valid event says about who may hear what."""
        payload = read(stored.subject, stored.body).payload
        if isinstance(payload, MemberChanged):
            self._membership.member_changed(payload)
        elif isinstance(payload, AccessRevoked):
            self._membership.access_revoked(payload)

    def _find_route(self, subject: str) -> Route | None:
        """None where it is no subject of ours; no event can stand on it."""
        try:
            return self._encoder.routes[subject]
        except InvalidSubject:
            return None

    def _encode(self, offset: int, stored: Stored) -> Entry:
        entry = self._encoder.encode(offset, stored)
        _delivered(entry.type).count += 1
        return entry

    def _read(self, offset: int, stored: Stored) -> Entry | None:
        try:
            return self._encode(offset, stored)
        except InvalidEvent as error:
            self._refuse(error, stored.subject, stored.body, Cursor(self._context.epoch, offset))
        except Exception:
            # As where it is heard (`Intake._take`): one event must stop neither the checking nor who catches up.
            log.exception("could not check", offset=offset)
        return None

    def _refuse(self, error: InvalidEvent, subject: str, body: bytes, cursor: Cursor | None) -> None:
        DROPPED.labels(error.reason).inc()
        log.warning(
            "set aside a message that is no event",
            subject=subject[:200],
            offset=cursor and cursor.offset,
            reason=error.reason,
            detail=error.detail,
        )
        self._set_aside(error, subject, body, cursor)


@cache
def _delivered(type_: str) -> metrics.Tally:
    return metrics.Tally(DELIVERED.labels(type_))
