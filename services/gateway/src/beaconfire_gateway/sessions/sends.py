"""Deliver an event that a service sends to rooms and sessions of its choice. No I/O.

Each session gets it once, however many of the rooms it is in. A session learns only the rooms of one root: the first
one in which it hears the event. So members of one workspace do not learn to which others it was sent.
"""

import time
from collections.abc import Mapping, Sequence

from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.hub import Recipients
from beaconfire_gateway.fanout.route import Route
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.session import Session, State
from beaconfire_kit.roles import Role
from beaconfire_kit.sent_events import CheckedSend, is_session
from beaconfire_kit.subjects import Pair, RoomKey


def deliver(gateway: Gateway, sent: CheckedSend, body: bytes) -> None:
    """Deliver it to the live sessions, without an offset. A session that is catching up does not get it."""
    had: set[Session] = set()
    for rooms in _by_root(sent.rooms).values():
        audience = sent.event.audience
        entry = Entry(0, Route("", tuple(rooms)), body, time.monotonic(), type=sent.event.type, audience=audience)
        recipients = gateway.hub.recipients_besides(entry.route.rooms, entry.type, audience, had)
        if recipients:
            gateway.outbound.put(gateway.position, entry, recipients)
        for room in filter(is_session, rooms):
            _deliver_to_session(gateway, room, entry, had)


def _by_root(rooms: Sequence[RoomKey]) -> Mapping[Pair, Sequence[RoomKey]]:
    found: dict[Pair, list[RoomKey]] = {}
    for room in rooms:
        found.setdefault(room.root, []).append(room)
    return found


def _deliver_to_session(gateway: Gateway, room: RoomKey, entry: Entry, had: set[Session]) -> None:
    """Deliver it to the session that the room means, if it is here, whatever rooms it is in."""
    if entry.audience is not None and Role.OWNER not in entry.audience:  # users own their root
        return
    for session in gateway.hub.sessions_of(room.root.id):
        if session.id == room.pair.id and session.state is State.LIVE and session not in had:
            had.add(session)
            # The client may listen to the rooms of its user: the session is a part of it.
            own = (RoomKey(room.root, room.root), room)
            alone = Entry(0, Route("", own), entry.body, entry.at, type=entry.type, audience=entry.audience)
            gateway.outbound.put(gateway.position, alone, [Recipients([session.target], session.wire, session.writer)])
