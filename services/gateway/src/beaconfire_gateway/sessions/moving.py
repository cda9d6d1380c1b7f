"""Let a session go on in another process, without its client noticing. No I/O.

    moved = await pack(sessions)     # here: they end
    unpack(session, moved)           # there: a new session becomes the one that ended

A session takes its id, its user and its rooms with it, its place in the stream, and the messages that wait for an
answer. There it asks auth about its rooms, as any session that starts, and catches up from its place.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from beaconfire_gateway.sessions.gateway import catalogue_with
from beaconfire_gateway.sessions.room_limits import within_limits
from beaconfire_gateway.sessions.session import Session, State
from beaconfire_gateway.sessions.starting import check_places, narrowed, reach, spend_start
from beaconfire_gateway.sessions.subscription import Subscription
from beaconfire_gateway.wire.messages import Connect, Degraded, Presence, RoomLeft, Status
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.outside_tokens import OutsideClaims
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import Pair
from beaconfire_kit.tokens import Claims

AGAIN_S = 0.02
TRIES = 150
"""A session that is answering a request moves when it has, within 3 s."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A session between two processes."""

    id: str
    claims: Claims
    cursor: str
    """Everything up to it is written."""
    rooms: Mapping[str, Sequence[str] | None]
    """The wanted event types by room. None: every type."""
    waiting: Sequence[str]
    """Its client's messages that nothing has answered."""
    watched: Sequence[str] = ()
    """Those of its rooms in which it is told who is there."""
    status: Status = Status.ONLINE

    def encode(self) -> dict[str, Any]:
        """Return it as JSON. Without the fields that a process of an earlier version lacks, if they say nothing."""
        claims = asdict(self.claims)
        if isinstance(self.claims, OutsideClaims):
            claims["grants"] = [(*root, role) for root, role in self.claims.grants.items()]
        fields = {**asdict(self), "claims": claims}
        if not self.watched:
            del fields["watched"]
        if self.status is Status.ONLINE:
            del fields["status"]
        return fields

    @classmethod
    def decode(cls, data: Mapping[str, Any]) -> "Moved":
        """Read what `encode` returned."""
        claims = dict(data["claims"])
        if "grants" in claims:
            claims["grants"] = {Pair(kind, id_): Role(role) for kind, id_, role in claims["grants"]}
        read = {"claims": OutsideClaims(**claims) if "grants" in claims else Claims(**claims)}
        return cls(**{**data, **read, "status": Status(data.get("status", Status.ONLINE))})


async def pack(sessions: Sequence[Session], *, again_s: float = AGAIN_S) -> list[Moved] | None:
    """End all sessions of a connection, to go on elsewhere. What their clients were sent is written to the connection.

    `sessions` is the connection's own list: a session that ends meanwhile leaves it. None if one of them does not
    start, or answers a request for too long. Then end the connection, because its sessions may be held.
    """
    for _ in range(TRIES):
        if all(map(_is_ready, sessions)):
            for session in list(sessions):
                session.hold()
                await _written(session)
            if all(_is_ready(one) and one.behind is not None and one.behind.is_settled for one in sessions):
                return [_pack(session) for session in list(sessions)]
        await asyncio.sleep(again_s)
    return None


def _is_ready(session: Session) -> bool:
    return session.state in (State.LIVE, State.CATCHING_UP) and not session.is_asking


async def _written(session: Session) -> None:
    """Wait until everything that is queued now is written."""
    written = asyncio.Event()
    session.gateway.outbound.after(written.set)
    await written.wait()


def _pack(session: Session) -> Moved:
    claims = session.claims
    assert claims is not None
    session.note("goes on in another process")
    rooms = {name: None if one.types is None else sorted(one.types) for name, one in session.rooms.items()}
    cursor = session.gateway.cursor(session.offset)
    watched, status = _watched(session), _status(session)
    waiting = [message.decode() for message in session.move_away()]
    return Moved(session.id, claims, cursor, rooms, waiting, watched, status)


def _status(session: Session) -> Status:
    """How its user is, as its client said."""
    attendance = session.gateway.attendance
    return Status.ONLINE if attendance is None else attendance.status(session)


def _watched(session: Session) -> list[str]:
    """The names of the rooms in which it is told who is there."""
    attendance = session.gateway.attendance
    if attendance is None:
        return []
    return [name for name, one in session.rooms.items() if attendance.is_watching(session, one.room)]


def unpack(session: Session, moved: Moved) -> None:
    """Have a session that has not started go on as the one that was packed. What its client sends next waits for that.

    If it cannot go on, it is closed.
    """
    session.id = moved.id
    session.ask(_start(session, moved), [message.encode() for message in moved.waiting])


async def _start(session: Session, moved: Moved) -> None:
    try:
        await _go_on(session, moved)
    except BeaconfireError as error:
        session.close(error)


async def _go_on(session: Session, moved: Moved) -> None:
    gateway, claims = session.gateway, moved.claims
    types = {name: wanted for name, wanted in moved.rooms.items() if wanted is not None}
    await reach(session, moved.cursor)
    catalogue = await catalogue_with(gateway, chain(*types.values()))
    decisions = narrowed(await gateway.access.decide(claims, list(moved.rooms)), types, catalogue)
    if session.state is not State.CONNECTING:
        return
    spend_start(session, claims.user_id, Connect(0, rooms=list(moved.rooms)))
    check_places(session, claims.user_id, None)
    session.begin(claims)
    session.note("goes on here", transport=session.connection.transport)
    if gateway.attendance is not None and moved.status is not Status.ONLINE:
        gateway.attendance.set_status(session, moved.status)
    for name, decision in within_limits(session, decisions).items():
        if isinstance(decision, BeaconfireError):
            session.note("refused room", room=name, code=decision.code.code)
            session.send(RoomLeft(name, "membership_removed"))
        else:
            session.join(name, decision)
            if name in moved.watched and (presence := _watch(session, decision)) is not None:
                session.send(presence)
    if gateway.is_degraded:
        session.send(Degraded())
    if gateway.goaways is not None:
        session.send(gateway.goaways.to_newcomer(time.monotonic()))
    offset, trouble = gateway.find_start(moved.cursor)
    if trouble is not None:
        session.resync(trouble, moved.cursor)
    elif offset < gateway.position or session.may_lack(offset):
        session.resume(offset)


def _watch(session: Session, subscription: Subscription) -> Presence | None:
    """Tell it who is in a room, as the process did from which it comes. Returns who is there now."""
    attendance = session.gateway.attendance
    return None if attendance is None else attendance.watch(session, subscription.room)
