"""Answer clients' requests. No I/O.

Functions of a session, not a part of it: all lasting state is the session's. A handler returns the messages that
answer a request, or raises a BeaconfireError. Only `_send` and `_refuse` send anything. Handlers that need `access` run
one at a time for each session (`Session.ask`), so that answers keep the order of the requests.
"""

import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import Any, TypeAlias

from beaconfire_gateway.sessions.gateway import Incoming, catalogue_with
from beaconfire_gateway.sessions.limits import LIMITED, LimitReached
from beaconfire_gateway.sessions.restore import restore
from beaconfire_gateway.sessions.room_limits import Decisions, within_limits
from beaconfire_gateway.sessions.session import Session, State, id_of
from beaconfire_gateway.sessions.starting import check_places, find_replaced, make_room, narrowed, reach, spend_start
from beaconfire_gateway.sessions.subscription import Subscription
from beaconfire_gateway.wire.messages import (
    Ack,
    Client,
    Connect,
    Error,
    InvalidMessage,
    Message,
    Ping,
    Refresh,
    Refusal,
    Reply,
    RoomAnswer,
    Select,
    SetPresence,
    SetTyping,
    Status,
    Subscribe,
    Unsubscribe,
)
from beaconfire_kit import errors, logs, metrics
from beaconfire_kit.access import TokenRefused
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.subjects import RoomKey
from beaconfire_kit.tokens import Claims

log = logs.get(__name__)

CONNECTS = metrics.Counter(
    "beaconfire_gateway_connects_total", "Attempts to connect, by outcome: `accepted` or the error code.", ["outcome"]
)
RECONNECTS = metrics.Counter(
    "beaconfire_gateway_reconnects_total",
    "Clients that connected again after a lost connection, by the close code that they saw.",
    ["last_close"],
)
RECONNECTED_AFTER = metrics.Histogram(
    "beaconfire_gateway_reconnect_duration_seconds",
    "Time from the loss of a connection until its client connected again, as clients report it.",
    buckets=(0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 900),
)
_MOST_AWAY_S = 86_400.0
"""A longer time counts as a day: one client must not decide what the sum of all times is."""
INVALID = metrics.Counter(
    "beaconfire_gateway_invalid_messages_total",
    "Messages of connected clients that were no valid request, by the error's code.",
    ["code"],
)

_BY_WEBSOCKET = frozenset({1000, 1001, 1002, 1003, 1006, 1007, 1009, 1011, 1012, 1013, 1014})
_KNOWN_CLOSES = _BY_WEBSOCKET | {row.close for row in errors.TABLE if row.close is not None}

Answers: TypeAlias = Sequence[Message]


def handle(session: Session, incoming: Incoming) -> None:
    """Answer what a client sent, at once or when auth has been asked. The first request must be `connect`."""
    try:
        _check_turn(session, incoming)
        handler = None if session.KEEPS_ROOMS and isinstance(incoming, Unsubscribe) else _AT_ONCE.get(type(incoming))
        if handler is not None:
            _send(session, handler(session, incoming))
    except BeaconfireError as error:
        _refuse(session, incoming, error)
        return
    if handler is None:
        session.ask(_answer(session, incoming))


async def _answer(session: Session, incoming: Incoming) -> None:
    try:
        answers = await _ASKING[type(incoming)](session, incoming)
    except BeaconfireError as error:
        _refuse(session, incoming, error)
    else:
        _send(session, answers)


def _send(session: Session, answers: Answers) -> None:
    # Nothing can be queued yet for a session that has just started. So its `resync`, if any, is written with its ack.
    # A client that had the ack alone would resume from the ack's cursor, and never learn what it missed.
    is_new = any(isinstance(message, Ack) for message in answers)
    for message in answers:
        if is_new:
            session.send_now(message)
        else:
            session.send(message)


def _refuse(session: Session, incoming: Incoming, error: BeaconfireError) -> None:
    """Answer a request that failed. Before `connect` has succeeded, this ends the session."""
    message_id = id_of(incoming)
    if session.state is State.CONNECTING or isinstance(incoming, Refresh):
        error = _counted(session, error)
    if session.state is State.CONNECTING:
        CONNECTS.labels(error.code.code).inc()
        if isinstance(error, LimitReached):
            LIMITED.labels(error.limit).inc()
            if error.retry_after_ms is not None:  # a close frame has no place for it
                session.send_now(Error(message_id, error))
        session.close(error)
    elif isinstance(error, InvalidMessage) or message_id is None:
        _note_invalid(session, error)
        session.send(Error(message_id, error))
    elif not isinstance(error, LimitReached) or session.tolerates(error):
        session.send(Refusal(message_id, error))


def _counted(session: Session, error: BeaconfireError) -> BeaconfireError:
    """Count an invalid token of the session's address. Returns the refusal, which may be that of the limit.

    A token that has expired was valid once. Users who wake up together behind one address are not attackers.
    """
    if isinstance(error, TokenRefused) and error.reason != "expired":
        try:
            session.gateway.door.spend_attempt(session.address, time.monotonic())
        except LimitReached as reached:
            return reached
    return error


def _note_invalid(session: Session, problem: BeaconfireError) -> None:
    """Log and count a message that is no request. The rates bound both."""
    INVALID.labels(problem.code.code).inc()
    code, dialect = problem.code.code, session.wire.dialect_name
    log.info(
        "invalid message", session=session.id, user=session.user_id, dialect=dialect, code=code, reason=problem.message
    )


def _check_turn(session: Session, incoming: Incoming) -> None:
    """Raise BeaconfireError if this is not a request, or not allowed now."""
    if session.state is State.CONNECTING:
        if isinstance(incoming, InvalidMessage):
            raise BeaconfireError(errors.BAD_REQUEST, f"expected connect: {incoming.message}")
        if not isinstance(incoming, Connect):
            raise BeaconfireError(errors.BAD_REQUEST, f"the first message must be connect, not {incoming.TYPE}")
    elif isinstance(incoming, InvalidMessage):
        raise incoming
    elif isinstance(incoming, Connect):
        raise InvalidMessage(errors.BAD_REQUEST, "already connected", incoming.id)


def _ping(session: Session, request: Ping) -> Answers:
    return (Reply(request.id, request.TYPE, remaining=session.remaining() if request.remaining else None),)


def _unsubscribe(session: Session, request: Unsubscribe) -> Answers:
    for name in request.rooms:
        if name in session.rooms:
            session.leave(name)
            session.note("unsubscribed", room=name)
    return (Reply(request.id, request.TYPE, rooms={name: RoomAnswer() for name in request.rooms}),)


def _set_presence(session: Session, request: SetPresence) -> Answers:
    attendance = session.gateway.attendance
    if attendance is not None and attendance.status(session) is not request.status:
        session.gateway.users.of(session.user_id).spend_status(time.monotonic())
        attendance.set_status(session, request.status)
    return (Reply(request.id, request.TYPE),)


def _set_typing(session: Session, request: SetTyping) -> Answers:
    room = _own_room(session, request.room)
    if session.gateway.typing is not None:
        session.gateway.typing.set(session, room, typing=request.typing)
    return (Reply(request.id, request.TYPE),)


def _select(session: Session, request: Select) -> Answers:
    room = _own_room(session, request.room)
    if session.gateway.selections is not None:
        session.gateway.selections.set(session, room, request.items)
    return (Reply(request.id, request.TYPE),)


def _own_room(session: Session, name: str) -> RoomKey:
    """Return the room of the session that the name means: as it subscribed to it, or the long or the short name.

    Raises BeaconfireError if it is in no such room, or if it is in two that have this short name.
    """
    subscription = session.rooms.get(name)
    if subscription is not None:
        return subscription.room
    found = {one.room for one in session.rooms.values() if name in (str(one.room), str(one.room.pair))}
    if not found:
        raise BeaconfireError(errors.FORBIDDEN, f"you are not in the room {name[:64]!r}: subscribe to it first")
    if len(found) > 1:
        text = f"you are in several rooms {name[:64]!r}: use a long name, such as {min(map(str, found))}"
        raise BeaconfireError(errors.BAD_REQUEST, text)
    return found.pop()


async def _unsubscribe_and_keep(session: Session, request: Unsubscribe) -> Answers:
    answers = _unsubscribe(session, request)
    with suppress(BeaconfireError):  # it has left them; if its gateway dies now, it comes back to them
        await session.keep_rooms({})
    return answers


async def _connect(session: Session, request: Connect) -> Answers:
    """The ack. Missed events since the cursor follow it, then live ones; or a `resync` if that cannot be."""
    gateway = session.gateway
    access = gateway.access
    token = request.token or session.offered_token
    claims = session.claims = await access.verify(token)  # whatever is refused below is logged with its user
    request = await _completed(session, claims, token, request)
    await reach(session, request.cursor)
    await catalogue_with(gateway, chain(*request.types.values()))
    decisions = await access.decide(claims, request.rooms)
    spend_start(session, claims.user_id, request)
    if session.KEEPS_ROOMS:
        rooms = _wanted(narrowed(decisions, request.types, gateway.catalogue.known))
        await session.keep_first_rooms(claims, rooms, presence=request.presence)
        decisions = await access.decide(claims, request.rooms)  # membership may have changed meanwhile
    while await make_room(session, claims.user_id, request):
        decisions = await access.decide(claims, request.rooms)  # membership may have changed meanwhile
    if session.state is not State.CONNECTING:
        return ()
    replaced = find_replaced(session, claims.user_id, request)
    check_places(session, claims.user_id, replaced)
    session.begin(claims)
    CONNECTS.labels("accepted").inc()
    if gateway.attendance is not None and request.status is not Status.ONLINE:
        gateway.attendance.set_status(session, request.status)
    if replaced is not None:
        replaced.make_way()
    elif request.replaces:
        gateway.replace_elsewhere(request.replaces, claims.user_id)
    _log_connected(session, request)
    answers = _enter(session, narrowed(decisions, request.types, gateway.catalogue.known))
    answers = _with_presence(session, answers, wanted=answers if request.presence else session.watched_before)
    offset, trouble = gateway.find_start(request.cursor)
    ack = Ack(
        request.id,
        session_id=session.id,
        user_id=session.user_id,
        cursor=gateway.cursor(offset),
        heartbeat_s=session.connection.heartbeat_s,
        limits=gateway.limits.announced(),
        degraded=gateway.is_degraded,
        rooms=answers,
        gateway=gateway.name,
    )
    goaway = () if gateway.goaways is None else (gateway.goaways.to_newcomer(time.monotonic()),)
    if trouble is not None:
        return (ack, *goaway, session.resync_of(session.rooms, trouble, request.cursor))
    if offset < gateway.position or (request.cursor is not None and session.may_lack(offset)):
        session.resume(offset)
    return (ack, *goaway)


async def _subscribe(session: Session, request: Subscribe) -> Answers:
    gateway = session.gateway
    now = time.monotonic()
    session.allowance.spend_rooms(len(request.rooms), now)
    gateway.users.of(session.user_id).spend_rooms(len(request.rooms), now)
    await reach(session, request.cursor)
    decisions, trouble = await restore(session, request)
    answers = await _enter_and_keep(session, decisions, presence=request.presence)
    if session.state is State.CLOSED:
        return ()
    answers = _with_presence(session, answers, wanted=answers if request.presence else ())
    joined = [name for name, answer in answers.items() if answer.error is None]
    if request.cursor is not None:
        answers |= {name: replace(answers[name], recovered=trouble is None) for name in joined}
        if trouble is None and (since := gateway.read_cursor(request.cursor)) is not None:
            session.restored(joined, since)
    reply = Reply(request.id, request.TYPE, rooms=answers, cursor=gateway.cursor(session.offset))
    if trouble is not None and joined:
        return reply, session.resync_of(joined, trouble, request.cursor)
    return (reply,)


async def _refresh(session: Session, request: Refresh) -> Answers:
    claims = await session.check_newer(request.token)
    if session.state is State.CLOSED:
        return ()
    session.use_token(claims)
    return (Reply(request.id, request.TYPE),)


_AT_ONCE: Mapping[type, Callable[[Session, Any], Answers]] = {
    Ping: _ping,
    SetPresence: _set_presence,
    SetTyping: _set_typing,
    Select: _select,
    Unsubscribe: _unsubscribe,
}
_ASKING: Mapping[type, Callable[[Session, Any], Awaitable[Answers]]] = {
    Connect: _connect,
    Subscribe: _subscribe,
    Unsubscribe: _unsubscribe_and_keep,
    Refresh: _refresh,
}


def _enter(session: Session, decisions: Decisions) -> dict[str, RoomAnswer]:
    """Join the rooms that are allowed, as far as the limits go. The answer for each room."""
    session.gateway.outbound.seal()
    selections = session.gateway.selections
    answers: dict[str, RoomAnswer] = {}
    for name, decision in within_limits(session, decisions).items():
        if isinstance(decision, BeaconfireError):
            answers[name] = RoomAnswer(error=decision)
            session.note("refused room", room=name, code=decision.code.code)
            continue
        meant = str(decision.room)
        # A short name was looked up, so the client is sent the room's long name.
        selection = () if selections is None else selections.of(session.user_id, decision.room)
        answers[name] = RoomAnswer(room=None if meant == name else meant, selection=selection)
        session.join(name, decision)
    return answers


def _with_presence(
    session: Session, answers: dict[str, RoomAnswer], *, wanted: Collection[str]
) -> dict[str, RoomAnswer]:
    """Tell the session from now on who is in the wanted ones of these rooms, and no longer who is in the others.

    Returns the answers with those who are there now.
    """
    attendance = session.gateway.attendance
    if attendance is None:
        return answers
    found = dict(answers)
    for name, answer in answers.items():
        subscription = session.rooms.get(name)
        if subscription is None:  # it was refused, or has left again
            continue
        room = subscription.room
        if name in wanted:
            found[name] = replace(answer, presence=attendance.watch(session, room))
        else:
            attendance.unwatch(session, room)
    return found


def _wanted(decisions: Decisions) -> Mapping[str, Sequence[str] | None]:
    """The rooms that are allowed, with the wanted event types of each. None: every type."""
    allowed = ((name, one.types) for name, one in decisions.items() if isinstance(one, Subscription))
    return {name: None if types is None else sorted(types) for name, types in allowed}


async def _enter_and_keep(session: Session, decisions: Decisions, *, presence: bool) -> dict[str, RoomAnswer]:
    """Join the rooms that are allowed, and none if they cannot be kept (`Session.keep_rooms`)."""
    if session.state is State.CLOSED:
        return {}
    before = set(session.rooms)
    answers = _enter(session, decisions)
    try:
        await session.keep_rooms(dict.fromkeys(decisions, presence))
    except BeaconfireError:
        for name in session.rooms.keys() - before:
            session.leave(name)
        raise
    return answers


async def _completed(session: Session, claims: Claims, token: str, request: Connect) -> Connect:
    """Return the request with what its client does not say: what it said before, or else its automatic rooms.

    A session that is recognised has the rooms that it had. Among them are its automatic ones, except those it left.
    """
    recognised = await session.recognise(claims, request)
    if recognised is not request:
        return recognised
    gateway, dialect = session.gateway, session.wire.dialect_name
    rooms = await gateway.automatic_rooms.added_to(request.rooms, dialect, claims, token, gateway.access)
    return request if rooms is request.rooms else replace(request, rooms=rooms)


def _log_connected(session: Session, request: Connect) -> None:
    """Log the new session with its client's name and version, and count how and when its last connection ended."""
    client = request.client or Client()
    session.note(
        "connected",
        transport=session.connection.transport,
        dialect=session.wire.dialect_name,
        address=session.address,
        client=client.name or None,
        client_version=client.version or None,
        last_close=request.last_close,
        away_ms=request.away_ms,
    )
    if request.last_close is not None:
        RECONNECTS.labels(request.last_close if request.last_close in _KNOWN_CLOSES else "other").inc()
    if request.away_ms is not None:
        RECONNECTED_AFTER.observe(min(request.away_ms / 1_000, _MOST_AWAY_S))
