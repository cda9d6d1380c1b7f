"""From a stored message to a frame in the right queues.

An event is refused where it is not valid against the catalogue or does not stand on its own subject. A refused one is
set aside under `deadletter.>`, counted and logged; its offset still counts, so nobody sees a gap.
"""

from collections.abc import Callable

from services.gateway.encoding import NOT_EVENTS, Encoder, Stored
from services.gateway.membership import Membership
from services.gateway.session import Context
from shared import logs
from shared.broker import EPHEMERAL_PREFIX
from shared.envelope import InvalidEvent
from shared.events.user import AccessRevoked, MemberChanged
from shared.metrics import Counter

log = logs.get(__name__)

DELIVERED = Counter("gateway_events_total", "Events of the stream delivered, by type", ["type"])
EPHEMERAL = Counter("gateway_ephemeral_total", "Ephemeral events delivered")
DROPPED = Counter("gateway_dropped_total", "Messages that are no event, by reason", ["reason"])

SetAside = Callable[[InvalidEvent, str, bytes, tuple[str, int] | None], None]
"""(why, subject, body, epoch and offset if it has one): keeps a refused message where an operator can find it."""


class Delivery:
    """Takes messages in the stream's order."""

    def __init__(self, context: Context, membership: Membership, encoder: Encoder, set_aside: SetAside) -> None:
        self._context = context
        self._membership = membership
        self._encoder = encoder
        self._set_aside = set_aside

    def take(self, offset: int, stored: Stored) -> None:
        """Deliver the message at `offset`. Does not wait; the writes follow in this turn of the loop."""
        context = self._context
        try:
            if stored.subject not in NOT_EVENTS:
                self._deliver(offset, stored)
        except InvalidEvent as error:
            self._refuse(error, stored.subject, stored.body, (context.epoch, offset))
        finally:
            context.position = offset
            context.outbound.delivered(offset)

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

    def _deliver(self, offset: int, stored: Stored) -> None:
        received, entry = self._encoder.encode(offset, stored)
        DELIVERED.labels(received.type).inc()
        # Before the event itself is queued: who was put out does not hear it.
        if isinstance(received.payload, MemberChanged):
            self._membership.member_changed(received.payload)
        elif isinstance(received.payload, AccessRevoked):
            self._membership.access_revoked(received.payload)
        self._context.ring.append(entry)
        if self._context.hub.is_heard(entry.route.rooms):
            self._context.outbound.put(offset, entry)

    def _refuse(self, error: InvalidEvent, subject: str, body: bytes, place: tuple[str, int] | None) -> None:
        DROPPED.labels(error.reason).inc()
        log.warning(
            "set aside a message that is no event",
            subject=subject[:200],
            offset=place and place[1],
            reason=error.reason,
            detail=error.detail,
        )
        self._set_aside(error, subject, body, place)
