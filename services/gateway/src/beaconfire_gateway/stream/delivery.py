"""Deliver a stored message to the ring and to the right sessions.

An event is refused if it is not valid against the catalogue at its offset, or not on a subject of its type. A refused
event is set aside under `deadletter.>`, counted and logged. Its offset still counts, so no session sees a gap.

An event for a session here is checked at once, and so is one that changes access to rooms. All others go into the ring
unchecked (ADR 0015). They are checked when a session resumes into them, or by `check_some`.
"""

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from pydantic import ValidationError

from beaconfire_gateway.fanout.checking import NOT_EVENTS, Checker, Stored
from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.route import Route
from beaconfire_gateway.sessions import sends
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_kit import logs, metrics
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.checking import CheckedEvent
from beaconfire_kit.cursor import Cursor
from beaconfire_kit.envelope import correlation_of
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.events.user import AccessRevoked, MemberChanged
from beaconfire_kit.invalid_event import InvalidEvent
from beaconfire_kit.sent_events import SentEvent
from beaconfire_kit.subjects import InvalidRoom, InvalidSubject, Pair, parse_pair

log = logs.get(__name__)

DELIVERED = metrics.Counter(
    "beaconfire_gateway_events_delivered_total", "Events of the stream delivered, by type.", ["type"]
)
EPHEMERAL = metrics.Counter("beaconfire_gateway_ephemeral_events_delivered_total", "Ephemeral events delivered.")
SENT = metrics.Counter(
    "beaconfire_gateway_sent_events_delivered_total", "Events delivered that a service sent to rooms or sessions."
)
FORGED = metrics.Counter(
    "beaconfire_gateway_forged_sends_total",
    "Messages on the subject of sent events that the publisher did not send. They were dropped.",
)
UNCHECKED = metrics.Counter(
    "beaconfire_gateway_events_unchecked_total",
    "Events for rooms without clients that left the gateway's memory before it checked whether they are valid.",
)
DROPPED = metrics.Counter(
    "beaconfire_gateway_events_set_aside_total",
    "Messages copied to the dead letters because they were no valid events, by reason.",
    ["reason"],
)

MAX_ASKING = 1_000
"""Ephemeral events that wait for the newest revision. Further ones of unknown types are set aside at once."""
_UNKNOWN = frozenset({"unknown_type", "unknown_version"})

A = TypeVar("A", MemberChanged, AccessRevoked)
_Deliver = Callable[[Catalogue, str, bytes], None]
_Put = Callable[[int, Entry], None]
SetAside = Callable[[InvalidEvent, str, bytes, Cursor | None], None]
"""(reason, subject, body, cursor if it is in the stream): keeps a refused message for operators."""


class AccessChanges(Protocol):
    """The immediate effects of an event that changes access to rooms."""

    def member_changed(self, change: MemberChanged) -> None: ...
    def access_revoked(self, revoked: AccessRevoked) -> None: ...
    def doubt(self, user_id: str | None = None) -> None: ...


class Delivery:
    """Delivers messages in the stream's order."""

    def __init__(self, gateway: Gateway, access: AccessChanges, checker: Checker, set_aside: SetAside) -> None:
        self._gateway = gateway
        self._access = access
        self._checker = checker
        self._set_aside = set_aside
        self._unchecked = self._check_later  # one bound method for all entries
        self._kinds = _Kinds(self._put_for)
        checker.timeline.on_change = self._use_catalogue
        self._use_catalogue()
        self._epoch = ""
        self._checked_through = 0
        self._asking = 0  # ephemeral events that wait for the newest revision

    def deliver(self, offset: int, stored: Stored) -> None:
        """Deliver the message at `offset`. Does not wait; the writes follow in this turn of the loop."""
        gateway = self._gateway
        try:
            if stored.subject not in NOT_EVENTS:
                self._deliver(offset, stored)
        except InvalidEvent as error:
            self._refuse(error, stored.subject, stored.body, Cursor(gateway.epoch, offset))
        finally:
            gateway.reach(offset)

    def deliver_ephemeral(self, subject: bytes, _reply: bytes, body: bytes, _headers: bytes | None) -> None:
        """Deliver a message that is on no stream to the sessions that are connected, without an offset."""
        self._deliver_unstored(self._deliver_ephemeral, subject.decode(errors="replace"), body)

    def deliver_sent(self, subject: bytes, reply: bytes, body: bytes, headers: bytes | None) -> None:
        """Deliver an event that the publisher sends to rooms and sessions (`sent_events`), without an offset.

        The publisher's messages have neither a reply nor headers. A consumer's have, and anyone who may create one
        could have messages of the stream delivered here.
        """
        if reply or headers:
            FORGED.inc()
            log.warning("dropped a message that the publisher did not send", reply=reply[:200].decode(errors="replace"))
            return
        self._deliver_unstored(self._deliver_sent, subject.decode(errors="replace"), body)

    def check_some(self, count: int) -> None:
        """Check the next `count` events that no session heard. Call it often: an event may leave the ring unchecked."""
        ring = self._gateway.ring
        if self._epoch != self._gateway.epoch or self._checked_through > self._gateway.position:
            self._epoch, self._checked_through = self._gateway.epoch, ring.floor
        UNCHECKED.inc(ring.gone_unchecked)
        ring.gone_unchecked = 0
        for entry in ring.after(self._checked_through, 2 * count):
            if not entry.is_checked:
                if not count:
                    return
                count -= 1
                entry.check()
            self._checked_through = entry.offset

    def _deliver_unstored(self, deliver: _Deliver, subject: str, body: bytes) -> None:
        """Deliver an event that is on no stream by the newest known revision, or by the newest of all."""
        try:
            deliver(self._gateway.catalogue.known, subject, body)
        except InvalidEvent as error:
            if error.reason in _UNKNOWN and self._asking < MAX_ASKING:
                self._asking += 1
                self._gateway.spawn(self._deliver_by_newest(deliver, subject, body))
            else:
                self._refuse(error, subject, body, None)

    def _deliver_ephemeral(self, catalogue: Catalogue, subject: str, body: bytes) -> None:
        entry = self._checker.check_ephemeral(catalogue, subject, body)
        EPHEMERAL.inc()
        self._gateway.conflation.put(self._gateway.position, entry)

    def _deliver_sent(self, catalogue: Catalogue, _subject: str, message: bytes) -> None:
        sent = SentEvent.decode(message)
        try:
            checked = sent.check(catalogue)
        except InvalidRoom as error:
            raise InvalidEvent("wrong_subject", str(error)) from None
        SENT.inc()
        if self._gateway.conflation.is_conflated(checked.event.type):
            self._gateway.conflation.flush()  # an earlier event of it must not come later
        sends.deliver(self._gateway, checked, sent.body)

    async def _deliver_by_newest(self, deliver: _Deliver, subject: str, body: bytes) -> None:
        """Deliver an ephemeral event of an unknown type if the newest revision has it. It has no order with a push."""
        try:
            deliver(await self._gateway.catalogue.newest(), subject, body)
        except InvalidEvent as error:
            self._refuse(error, subject, body, None)
        except BeaconfireError as error:
            log.warning("dropped an ephemeral event of an unknown type", reason=error.message)
        finally:
            self._asking -= 1

    def _deliver(self, offset: int, stored: Stored) -> None:
        gateway = self._gateway
        route: Route | None
        try:
            route = self._checker.routes[stored.subject]
        except InvalidSubject:  # it cannot have events
            route = None
        if route is None or route.is_of_access:
            try:
                entry = self._checker.check(gateway.epoch, offset, stored)
                # Before the event itself is queued, so that a session that loses a room does not hear it.
                self._change_access(self._checker.timeline.at(offset).check(stored.subject, stored.body))
            except InvalidEvent:
                if route is not None:  # something has changed, and only auth knows the new state
                    self._access.doubt(route.rooms[-1].pair.id)
                raise
        elif stored.has_ttl or gateway.hub.is_heard(route.subject, route.rooms):
            entry = self._checker.check(gateway.epoch, offset, stored, route)
        else:
            now = time.monotonic()
            gateway.ring.append(Entry(offset, route, stored.body, now, epoch=gateway.epoch, unchecked=self._unchecked))
            return
        kind = self._kinds[entry.type]
        kind.count += 1
        kind.put(offset, entry)  # encodes it, so that the ring counts its bytes once
        gateway.ring.append(entry)

    def _use_catalogue(self) -> None:
        """Go by the revision that counts for what comes next."""
        gateway, timeline = self._gateway, self._checker.timeline
        gateway.conflation.use(timeline.current, timeline.catalogues())
        for catalogue in timeline.catalogues():
            gateway.binary_fields.learn(catalogue)
        gateway.ring.least = gateway.conflation.held_behind
        for type_, kind in self._kinds.items():
            kind.put = self._put_for(type_)

    def _put_for(self, type_: str) -> _Put:
        """What queues events of a type. A type that is not conflated has nothing to do with conflation."""
        conflation = self._gateway.conflation
        return conflation.put if conflation.is_conflated(type_) else self._gateway.outbound.put

    def _change_access(self, event: CheckedEvent) -> None:
        """Apply a valid event's change of access to rooms at once. Raises InvalidEvent."""
        if event.type == MemberChanged.type:
            change = _read(MemberChanged, event)
            self._access.member_changed(change)
            if change.role is None:
                self._take_for_gone(change.user_id, Pair(change.root_kind, change.root_id))
        elif event.type == AccessRevoked.type:
            revoked = _read(AccessRevoked, event)
            self._access.access_revoked(revoked)
            if revoked.reason != "disconnected":  # then the client may come back with the same token
                self._take_for_gone(revoked.user_id, None if revoked.root is None else parse_pair(revoked.root))

    def _take_for_gone(self, user_id: str, root: Pair | None) -> None:
        """Stop counting a user who has lost access as present, even if the connection was just lost."""
        if self._gateway.attendance is not None:
            self._gateway.attendance.removed(user_id, root)

    def _check_later(self, entry: Entry) -> None:
        """Check an entry that no session heard when it came."""
        subject, body = entry.route.subject, entry.body
        if entry.epoch != self._gateway.epoch:  # nobody gets it, and the catalogue that counted for it is gone
            entry.refuse()
            return
        try:
            stored = Stored(subject, body, has_ttl=False)
            checked = self._checker.check(entry.epoch, entry.offset, stored, entry.route)
        except Exception as error:
            entry.refuse()
            if isinstance(error, InvalidEvent):
                self._refuse(error, subject, body, Cursor(self._gateway.epoch, entry.offset))
            else:
                # As when it is heard (`Intake._take`): one event must stop neither the checking nor a session.
                log.exception("could not check an event", offset=entry.offset)
        else:
            self._kinds[checked.type].count += 1
            entry.become(checked.body, checked.type, checked.audience)

    def _refuse(self, error: InvalidEvent, subject: str, body: bytes, cursor: Cursor | None) -> None:
        DROPPED.labels(error.reason).inc()
        log.warning(
            "set aside an invalid event",
            subject=subject[:200],
            offset=cursor and cursor.offset,
            reason=error.reason,
            detail=error.detail,
        )
        self._set_aside(error, subject, body, cursor)


def telling(deliver: Callable[[int, Stored], None]) -> Callable[[int, Stored], None]:
    """Return `deliver` with a line in the log for each event.

    Use it only for the level `debug`, because it parses each event again.
    """

    def tell(offset: int, stored: Stored) -> None:
        deliver(offset, stored)
        if stored.subject not in NOT_EVENTS:
            cause = correlation_of(stored.body)
            log.debug("delivered an event", offset=offset, subject=stored.subject[:200], correlation_id=cause)

    return tell


def _read(cls: type[A], event: CheckedEvent) -> A:
    """Return the payload of an event of the system. Raises InvalidEvent."""
    try:
        return cls.model_validate(event.payload, extra="ignore", by_alias=True, by_name=False)
    except ValidationError as error:
        where = ".".join(map(str, error.errors(include_input=False)[0]["loc"]))
        raise InvalidEvent("invalid", f"payload.{where}: expected what auth publishes") from None


class _Kind(metrics.Tally):
    """A type of event: how many were delivered, and what queues them."""

    __slots__ = ("put",)

    def __init__(self, type_: str, put: _Put) -> None:
        super().__init__(DELIVERED.labels(type_))
        self.put = put


class _Kinds(dict[str, _Kind]):
    """By type. `put_for` returns what queues its events."""

    def __init__(self, put_for: Callable[[str], _Put]) -> None:
        super().__init__()
        self._put_for = put_for

    def __missing__(self, type_: str) -> _Kind:
        kind = self[type_] = _Kind(type_, self._put_for(type_))
        return kind
