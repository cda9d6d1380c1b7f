"""What a client's messages ask for, and what each is answered. No I/O.

Functions of a session, not a part of it: all that lasts is the session's. Those that need `access` are asked one at a
time (`Session.ask`), so that answers keep the order of the messages.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from beaconfire_gateway.fanout.selection import select
from beaconfire_gateway.sessions.limits import LIMITED, LimitReached
from beaconfire_gateway.sessions.place import Place
from beaconfire_gateway.sessions.restore import restore
from beaconfire_gateway.sessions.session import Session, State
from beaconfire_gateway.wire import protocol
from beaconfire_gateway.wire.protocol import (
    ClientName,
    Connect,
    InvalidMessage,
    Ping,
    Refresh,
    Subscribe,
    Unsubscribe,
    read_message,
)
from beaconfire_kit import errors, logs, metrics
from beaconfire_kit.errors import BeaconfireError

log = logs.get(__name__)

RECONNECTS = metrics.Counter(
    "beaconfire_gateway_reconnects_total",
    "Clients that connected again after a lost connection, by the close code that they saw.",
    ["last_close"],
)

_BY_WEBSOCKET = frozenset({1000, 1001, 1002, 1003, 1006, 1007, 1009, 1011, 1012, 1013, 1014})
_KNOWN_CLOSES = _BY_WEBSOCKET | {row.close for row in errors.TABLE if row.close is not None}


def handle(session: Session, text: bytes) -> None:
    """Do what a message says, or begin to. The first must be `connect`: anything else ends the session."""
    try:
        message = read_message(text)
    except InvalidMessage as problem:
        if session.state is State.CONNECTING:
            session.close(BeaconfireError(errors.BAD_REQUEST, f"expected connect: {problem.message}"))
        else:
            session.tell(protocol.error(problem))
        return
    if isinstance(message, Connect):
        if session.state is State.CONNECTING:
            session.ask(_connect(session, message))
        else:
            session.tell(protocol.error(InvalidMessage(errors.BAD_REQUEST, "already connected", message.id)))
    elif session.state is State.CONNECTING:
        session.close(BeaconfireError(errors.BAD_REQUEST, f"the first message must be connect, not {message.type}"))
    elif isinstance(message, Ping):
        session.tell(protocol.reply(message.id))
    elif isinstance(message, Unsubscribe):
        _unsubscribe(session, message)
    elif isinstance(message, Subscribe):
        session.ask(_subscribe(session, message))
    else:
        session.ask(_refresh(session, message))


async def _connect(session: Session, message: Connect) -> None:
    access = session.context.access
    try:
        claims = await access.verify(message.token or session.offered_token)
        await _reach(session, message.cursor)
        decisions = await access.decide(claims, message.rooms)
        while await _make_room(session, claims.user_id, message):
            decisions = await access.decide(claims, message.rooms)  # membership may have changed meanwhile
    except BeaconfireError as error:
        session.close(error)
        return
    if session.state is not State.CONNECTING:
        return
    replaced = _replaced(session, claims.user_id, message)
    try:
        _check_limits(session, claims.user_id, message, replaced)
    except LimitReached as reached:
        LIMITED.labels(reached.limit).inc()
        if reached.retry_after_ms is not None:  # a close frame has no place for it
            session.write(protocol.error(InvalidMessage.answering(message.id, reached)))
        session.close(reached)
        return
    session.begin(claims)
    if replaced is not None:
        replaced.make_way()
    elif message.replaces:
        session.context.replace_elsewhere(message.replaces, claims.user_id)
    _log_connected(session, message)
    _acknowledge(session, message, _enter(session, _narrowed(decisions, message.types)))


def _log_connected(session: Session, message: Connect) -> None:
    """Log the new session with what its client says about itself, and count how its last connection ended."""
    client = message.client or ClientName()
    log.info(
        "connected",
        session=session.id,
        user=session.user_id,
        address=session.address,
        client=client.name or None,
        client_version=client.version or None,
        last_close=message.last_close,
    )
    if message.last_close is not None:
        RECONNECTS.labels(message.last_close if message.last_close in _KNOWN_CLOSES else "other").inc()


def _replaced(session: Session, user_id: str, message: Connect) -> Session | None:
    """The session that this one takes over from. Only one of the user's own, here: any other name means nothing."""
    mine = session.context.hub.sessions_of(user_id)
    return next((one for one in mine if one.id == message.replaces), None)


async def _make_room(session: Session, user_id: str, message: Connect) -> bool:
    """Drop connections that are dead, as many as leave no room for this one. Returns whether it had to wait for that.

    It waits only where a limit is reached, and not again for some seconds: a client that is back must not be refused
    because of connections that it lost. Those that live stay.
    """
    context = session.context
    while session.state is State.CONNECTING and (crowd := _crowd(session, user_id, message)) is not None:
        name, find = crowd
        if await context.probes.probe(session, name, find):
            return True
        if not context.probes.drop_one(name):
            return False
    return False


def _crowd(session: Session, user_id: str, message: Connect) -> tuple[str, Callable[[], Sequence[Session]]] | None:
    """The sessions that leave no room for one more, of its user or of its address, and a name for them."""
    context, limits = session.context, session.context.limits
    replaced = _replaced(session, user_id, message)
    mine = [one for one in context.hub.sessions_of(user_id) if one is not replaced]
    held = sum(len(one.rooms) for one in mine)
    if len(mine) >= limits.max_sessions_per_user or (held and held + len(message.rooms) > limits.max_rooms_per_user):
        return f"user {user_id}", lambda: mine
    address = session.address
    if context.door.is_full(address, replaced=None if replaced is None else replaced.address):
        others = (one for one in context.hub.all_sessions() if one.address == address and one is not replaced)
        return f"address {address}", lambda: list(others)
    return None


def _check_limits(session: Session, user_id: str, message: Connect, replaced: Session | None) -> None:
    """Whether the user and the address may have one more connection, besides the one it replaces.

    Raises LimitReached.
    """
    context = session.context
    mine = context.hub.sessions_of(user_id)
    limit = context.limits.max_sessions_per_user
    if len(mine) - (replaced is not None) >= limit:
        raise LimitReached("sessions", f"a user may have {limit} connections")
    context.door.check(session.address, replaced=None if replaced is None else replaced.address)
    allowance, now = context.users.of(user_id), time.monotonic()
    allowance.take_message(now)
    if replaced is None:
        allowance.take_rooms(len(message.rooms), now)


def _acknowledge(session: Session, message: Connect, rooms: Mapping[str, Any]) -> None:
    """The ack, then what was missed since the cursor, then live; or `resync` where that cannot be."""
    context = session.context
    offset, trouble = context.find_place(message.cursor)
    session.write(
        protocol.ack(
            message.id,
            session_id=session.id,
            user_id=session.user_id,
            cursor=context.cursor(offset),
            heartbeat_s=context.limits.heartbeat_s,
            limits=context.limits.told(),
            degraded=context.is_degraded,
            rooms=rooms,
        )
    )
    if context.farewell is not None:
        session.tell(context.farewell.to_newcomer(time.monotonic()))
    if trouble is not None:
        session.resync(trouble)
    elif offset < context.position:
        session.resume(offset)


async def _reach(session: Session, cursor: str | None) -> None:
    """Let this gateway catch up to a cursor that another one gave, unless the stream itself ends below it.

    Bounded by the deadline for `connect`.
    """
    context = session.context
    offset = context.read_cursor(cursor)
    if offset is None or offset <= context.position:
        return
    end = await context.history.end()
    # The epoch may change while we wait.
    while session.state is not State.CLOSED and context.position < (context.read_cursor(cursor) or 0) <= end:
        await context.arrivals.wait(session, offset)


async def _subscribe(session: Session, message: Subscribe) -> None:
    context = session.context
    try:
        now = time.monotonic()
        session.allowance.take_rooms(len(message.rooms), now)
        context.users.of(session.user_id).take_rooms(len(message.rooms), now)
    except LimitReached as reached:
        if session.bears_with(reached):
            session.tell(protocol.refusal(message.id, reached))
        return
    try:
        await _reach(session, message.cursor)
        decisions, trouble = await restore(session, message)
    except BeaconfireError as error:
        session.tell(protocol.refusal(message.id, error))
        return
    if session.state is State.CLOSED:
        return
    answers = _enter(session, decisions)
    joined = [name for name, answer in answers.items() if answer["success"]]
    if message.cursor is not None:
        for name in joined:
            answers[name]["recovered"] = trouble is None
    session.tell(protocol.reply(message.id, rooms=answers, cursor=context.cursor(session.offset)))
    if trouble is not None and joined:
        session.tell_reload(joined, trouble)


def _unsubscribe(session: Session, message: Unsubscribe) -> None:
    for name in message.rooms:
        if name in session.rooms:
            session.leave(name)
            log.info("unsubscribed", session=session.id, user=session.user_id, room=name)
    session.tell(protocol.reply(message.id, rooms={name: {"success": True} for name in message.rooms}))


async def _refresh(session: Session, message: Refresh) -> None:
    access = session.context.access
    try:
        claims = await access.verify(message.token)
        if claims.user_id != session.user_id:
            raise BeaconfireError(errors.TOKEN_INVALID, "the token belongs to another user")
        await access.decide(claims, ())
    except BeaconfireError as error:
        session.tell(protocol.refusal(message.id, error))
        return
    if session.state is not State.CLOSED:
        session.take(claims)
        session.tell(protocol.reply(message.id))


def _enter(session: Session, decisions: Mapping[str, Place | BeaconfireError]) -> dict[str, Any]:
    """Join what is allowed. The answer for each room."""
    context = session.context
    context.outbound.seal()
    others = [one for one in context.hub.sessions_of(session.user_id) if one is not session]
    elsewhere = sum(len(one.rooms) for one in others)
    answers: dict[str, Any] = {}
    for name, decision in decisions.items():
        if isinstance(decision, Place) and name not in session.rooms:
            decision = _room_limit(session, elsewhere) or decision
        if isinstance(decision, BeaconfireError):
            answers[name] = {"success": False, "error": decision.body()}
            log.info("refused room", session=session.id, user=session.user_id, room=name, code=decision.code.code)
            continue
        meant = str(decision.room)
        # A short name was looked up: the client is told which root's room it is in.
        answers[name] = {"success": True} if meant == name else {"success": True, "room": meant}
        session.join(name, decision)
    return answers


def _room_limit(session: Session, elsewhere: int) -> LimitReached | None:
    """The limit that one more room would be over, where the user's other sessions are in so many."""
    limits = session.context.limits
    reached = None
    if len(session.rooms) >= limits.max_rooms:
        reached = LimitReached("held_rooms", f"a connection may be in {limits.max_rooms} rooms")
    elif len(session.rooms) + elsewhere >= limits.max_rooms_per_user:
        text = f"a user may be in {limits.max_rooms_per_user} rooms, over all connections"
        reached = LimitReached("user_held_rooms", text)
    if reached is not None:
        LIMITED.labels(reached.limit).inc()
    return reached


def _narrowed(
    decisions: Mapping[str, Place | BeaconfireError], wanted: Mapping[str, Sequence[str]]
) -> Mapping[str, Place | BeaconfireError]:
    """The decisions, each with the types its room is wanted for; a refusal where there is no such type."""
    if not wanted:
        return decisions

    def narrow(name: str, decision: Place | BeaconfireError) -> Place | BeaconfireError:
        if isinstance(decision, BeaconfireError):
            return decision
        try:
            return replace(decision, types=select(wanted.get(name)))
        except BeaconfireError as error:
            return error

    return {name: narrow(name, decision) for name, decision in decisions.items()}
