"""From a stored message to a frame in the right queues: checked once, encoded once, never per session.

An event is refused where it is not valid against the catalogue or does not stand on its own subject. A refused one is
set aside under `deadletter.>`, counted and logged; its offset still counts, so nobody sees a gap.
"""

import time
from collections.abc import Callable

from services.gateway import protocol
from services.gateway.intake import Stored
from services.gateway.membership import Membership
from services.gateway.ring import Entry
from services.gateway.route import Routes
from services.gateway.session import Context
from shared import logs
from shared.broker import EPHEMERAL_PREFIX
from shared.envelope import InvalidEvent, Received, read
from shared.events.user import AccessRevoked, MemberChanged
from shared.metrics import Counter
from shared.roles import Role

log = logs.get(__name__)

DELIVERED = Counter("gateway_events_total", "Events of the stream delivered, by type", ["type"])
EPHEMERAL = Counter("gateway_ephemeral_total", "Ephemeral events delivered")
DROPPED = Counter("gateway_dropped_total", "Messages that are no event, by reason", ["reason"])

_NOT_EVENTS = frozenset({"tick", "anchor"})

SetAside = Callable[[InvalidEvent, str, bytes], None]
"""(why, subject, body): keeps a refused message where an operator can find it."""


class Delivery:
    """Takes messages in the stream's order."""

    def __init__(self, context: Context, membership: Membership, set_aside: SetAside) -> None:
        self._context = context
        self._membership = membership
        self._set_aside = set_aside
        self._routes = Routes()

    def take(self, offset: int, stored: Stored) -> None:
        """Deliver the message at `offset`. Does not wait; the writes follow in this turn of the loop."""
        context = self._context
        try:
            if stored.subject not in _NOT_EVENTS:
                self._deliver(offset, stored)
        except InvalidEvent as error:
            self._refuse(error, stored.subject, stored.body)
        finally:
            context.position = offset
            context.outbound.delivered(offset)

    def take_ephemeral(self, subject: bytes, _reply: bytes, body: bytes, _headers: bytes | None) -> None:
        """Deliver a message that is on no stream: to who is connected, without an offset."""
        text = subject.decode(errors="replace")
        try:
            received = read(text, body)
            route = self._routes.find(text.removeprefix(EPHEMERAL_PREFIX))
        except InvalidEvent as error:
            self._refuse(error, text, body)
            return
        EPHEMERAL.inc()
        frame = protocol.event(None, route.names, _with_id(body, received, None))
        self._context.outbound.put(self._context.position, route, _audience(received), frame)

    def _deliver(self, offset: int, stored: Stored) -> None:
        if stored.has_ttl:
            raise InvalidEvent("has_ttl", "an event must not carry Nats-TTL: it would vanish from the history")
        received = read(stored.subject, stored.body)
        route = self._routes.find(stored.subject)
        DELIVERED.labels(received.type).inc()
        # Before the event itself is queued: who was put out does not hear it.
        if isinstance(received.payload, MemberChanged):
            self._membership.member_changed(received.payload)
        elif isinstance(received.payload, AccessRevoked):
            self._membership.access_revoked(received.payload)
        audience = _audience(received)
        frame = protocol.event(offset, route.names, _with_id(stored.body, received, offset))
        self._context.ring.append(Entry(offset, route, frame, audience, time.monotonic()))
        if self._context.hub.populated(route.rooms):
            self._context.outbound.put(offset, route, audience, frame)

    def _refuse(self, error: InvalidEvent, subject: str, body: bytes) -> None:
        DROPPED.labels(error.reason).inc()
        log.warning(
            "dropped a message that is no event", subject=subject[:200], reason=error.reason, detail=error.detail
        )
        self._set_aside(error, subject, body)


def _audience(received: Received) -> frozenset[Role] | None:
    roles = received.metadata.audience
    return None if roles is None else frozenset(roles)


def _with_id(body: bytes, received: Received, offset: int | None) -> bytes:
    """The publisher's own bytes; only where it gave no id, one is put in front."""
    if received.id or offset is None:
        return body
    return b'{"id":"EVENTS:%d",%s' % (offset, body.lstrip()[1:])
