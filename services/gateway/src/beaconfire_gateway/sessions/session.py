"""Run one connected client: its rooms, its place in the stream, its life and its end. No I/O.

    CONNECTING ── begin ──▶ LIVE ◀──▶ CATCHING_UP        any ──▶ CLOSED

A LIVE session is in the write lists of all its rooms. A session is CATCHING_UP while it resumes, or after its
connection was full. Then it is in no write list, and its own requests wait. `catchup` feeds it in order until it is
level with the gateway.

`requests` answers its requests. Its wire makes the bytes, and its connection writes them. This is one file, because
every part of a session's life changes the same state.
"""

import asyncio
import random
import secrets
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from enum import IntEnum
from typing import Any, ClassVar

from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.targets import Target, Writer
from beaconfire_gateway.sessions.beginnings import How
from beaconfire_gateway.sessions.catchup import CatchUp
from beaconfire_gateway.sessions.connection import Connection
from beaconfire_gateway.sessions.gateway import Gateway, Incoming
from beaconfire_gateway.sessions.limits import LIMITED, PATIENCE, Allowance, LimitReached, Rate
from beaconfire_gateway.sessions.reread import held_for, may_lack
from beaconfire_gateway.sessions.subscription import Subscription
from beaconfire_gateway.sessions.timers import Call
from beaconfire_gateway.wire.messages import (
    Connect,
    Error,
    GoAway,
    InvalidMessage,
    Message,
    MessageId,
    Position,
    Refresh,
    Resync,
    RoleChanged,
    RoomLeft,
    TokenExpiring,
    Unsubscribe,
)
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit import errors, logs, metrics
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.outside_tokens import OutsideClaims
from beaconfire_kit.resync import ResyncCause
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import Pair, RoomKey
from beaconfire_kit.tokens import Claims

log = logs.get(__name__)

SESSIONS = metrics.Gauge(
    "beaconfire_gateway_sessions", "Connected sessions, by transport and dialect.", ["transport", "dialect"]
)
LAGGING = metrics.Counter(
    "beaconfire_gateway_slow_sessions_total",
    "Times that a session's socket was full, so that the session began to catch up.",
)
RESYNCS = metrics.Counter("beaconfire_gateway_resyncs_total", "Messages `resync` to clients, by reason.", ["reason"])
CLOSED = metrics.Counter(
    "beaconfire_gateway_sessions_closed_total",
    "Sessions that ended, by close code: `none` if the client left, its network failed, or its poll was answered.",
    ["code"],
)
REPLACED = metrics.Counter(
    "beaconfire_gateway_sessions_replaced_total", "Sessions replaced by another connection of the same user."
)
SILENT = metrics.Counter(
    "beaconfire_gateway_sessions_timed_out_total",
    "Sessions dropped because nothing arrived from the client for too long.",
)
LEFT = metrics.Counter(
    "beaconfire_gateway_rooms_left_total", "Rooms that a session was removed from, by reason.", ["reason"]
)

MAX_WAITING = 100
"""Messages a client may send while an earlier one is being answered."""
MAX_WAITING_BYTES = 65_536
"""And how large they may be together, unless a single one may be larger."""
MAKE_WAY_S = 1
"""How long a replaced session's connection stays open at least: for the new one's ack to arrive first."""
TOKEN_WARNING_S = 60
EXPIRED_GRACE_S = 1
"""A session outlives its token by this much (seconds), so that a refresh on its way still arrives."""
_REPLACED_CODE, _NO_CODE = 1000, "none"
"""What `CLOSED` counts a session under that was replaced, or that ended without a close code."""
_PROBE, _BEAT = 1, 2
"""What `_silence` counts: whether a probe is unanswered, and how many of the last beats are."""


class State(IntEnum):
    CONNECTING = 0
    LIVE = 1
    CATCHING_UP = 2
    CLOSED = 3


class Session(ABC):
    """See the module. Its methods do not wait, and the coroutines that `ask` is given run one at a time.

    A transport makes a subclass, which names the session's connection. If a connection carries only one session, both
    are one object (`sole_session`). A subclass may also change how a session starts and what it keeps: the Socket.IO
    ones have rooms that outlive them, and the sessions of long polls continue one another.
    """

    __slots__ = (
        "_allowance",
        "_asking",
        "_due",
        "_pinged",
        "_refusals",
        "_silence",
        "_waiter",
        "_waiting",
        "_warned",
        "address",
        "behind",
        "claims",
        "gateway",
        "id",
        "leased_at",
        "offered_token",
        "rooms",
        "state",
        "user_id",
        "wire",
    )

    KEEPS_ROOMS: ClassVar[bool] = False
    """Whether `keep_first_rooms` and `keep_rooms` store anything."""

    def __init__(self, gateway: Gateway, wire: Wire, *, address: str, offered_token: str = "") -> None:
        self.gateway = gateway
        self.wire = wire
        # Messages behind one that is being answered, or None to answer at once. They stay bytes, because a message of
        # short names takes ten times as much once it is decoded. Clients may send one before they are authenticated.
        self._waiting: list[bytes] | None = None
        self._asking = False
        self._waiter: asyncio.Future[None] | None = None  # the event that its question waits for
        self._silence = 0  # the pings that are unanswered: _PROBE, and _BEAT for each of the heartbeat's
        self._pinged = False
        self._allowance: Allowance | None = None  # here and below None means that it was not used for a while
        self._refusals: Rate | None = None
        self._warned = False
        self.address = address
        self.behind: CatchUp | None = None  # not None: CATCHING_UP
        self.offered_token = offered_token
        self.id = gateway.session_prefix + secrets.token_hex(8)
        self.user_id = ""
        self.claims: Claims | None = None
        self.leased_at = 0.0
        self.rooms: dict[str, Subscription] = {}
        self.state = State.CONNECTING
        gateway.connecting.add(self)
        self.connection.opened(self)
        self._due = gateway.timers.after(gateway.limits.connect_timeout_s, self)

    @property
    @abstractmethod
    def connection(self) -> Connection: ...

    # A transport may override these, and `KEEPS_ROOMS`.

    async def recognise(self, claims: Claims, request: Connect) -> Connect:
        """Return the request with what its client does not say, because it said it before. Its user is known now."""
        return request

    async def keep_first_rooms(
        self, claims: Claims, rooms: Mapping[str, Sequence[str] | None], *, presence: bool
    ) -> None:
        """Store the rooms that it joins when it starts, each with its types, as `keep_rooms` stores them later.

        `presence` says whether it is told who is in them. Called before it starts, because nothing may wait between its
        start and its ack. The rates have counted it.
        """
        return

    async def keep_rooms(self, presence: Mapping[str, bool]) -> None:
        """Store its rooms outside this process, for a client that does not name them when it comes back.

        `presence` names the rooms that it has just joined. The value says whether it is told who is in the room.
        Called after its rooms have changed, before the client is answered. Raises BeaconfireError if the client must
        not rely on the change.
        """
        return

    @property
    def watched_before(self) -> Collection[str]:
        """The names of the rooms in which its client was told who is there, before it came back."""
        return ()

    def continues(self, user_id: str, request: Connect) -> bool:
        """Whether it continues an earlier session with the same rooms, and so asks for nothing new.

        Only sessions that are short by nature can: the long polls of one client are one subscription.
        """
        return False

    def note(self, what: str, **fields: object) -> None:
        """Log a change of it."""
        log.info(what, session=self.id, user=self.user_id, **fields)

    # Its connection and its place.

    @property
    def writer(self) -> Writer:
        """The object that writes to its target."""
        return self.connection.writer

    @property
    def target(self) -> Target:
        """The target of its events."""
        return self.connection.target

    @property
    def is_full(self) -> bool:
        """Whether its connection takes no more for now."""
        return self.connection.is_full

    def write(self, data: bytes) -> None:
        """Write bytes of its wire, now, unless it is closed. Use `send` for everything except catching up."""
        if self.state is not State.CLOSED:
            self.connection.write(data)

    def write_again(self, data: bytes) -> None:
        """Write an event that its client may have had already."""
        self.write(data)

    @property
    def has_unanswered(self) -> bool:
        """Whether a request waits for its answer."""
        return self._asking or bool(self._waiting)

    @property
    def offset(self) -> int:
        """Its place: everything up to it is written or about to be."""
        return self.gateway.position if self.behind is None else self.behind.offset

    # Reports of the connection.

    def receive(self, data: bytes) -> None:
        """A message came, without its framing."""
        self._silence = 0
        if self.state is State.CLOSED:
            return
        incoming = self._decode(data)
        if not self._may_send(incoming):
            return
        if self._waiting is None:
            self.gateway.handle(self, incoming)
        elif len(self._waiting) >= MAX_WAITING:
            self.close(BeaconfireError(errors.TOO_MANY, f"over {MAX_WAITING} messages sent without an answer"))
        elif self._waiting and sum(map(len, self._waiting)) + len(data) > MAX_WAITING_BYTES:
            self.close(BeaconfireError(errors.TOO_MANY, f"over {MAX_WAITING_BYTES} bytes sent without an answer"))
        else:
            self._waiting.append(data)

    def heard(self) -> None:
        """A sign of life came (a pong, a ping)."""
        self._silence = 0

    def full(self) -> None:
        """The connection takes no more for now: catch up from here once it does."""
        if self.state is State.LIVE:
            LAGGING.inc()
            self.pause()

    def pause(self) -> None:
        """Write it no event until `drained`: its connection is full, or changes its carrier."""
        if self.state is State.LIVE:
            lacking = held_for(self.gateway, self.rooms.values())
            self._fall_behind(self.gateway.position, lacking).wait_for_queued()

    def drained(self) -> None:
        """The connection takes more again."""
        self._silence = 0  # its buffer drained: the client reads, even if its own messages wait
        if self.behind is not None:
            self.behind.step()

    def carried_on(self, before: str) -> None:
        """The connection goes on over another transport than `before`."""
        if self.state in (State.LIVE, State.CATCHING_UP):
            self._count(-1, before)
            self._count(1)

    def lost(self) -> None:
        """The connection is gone."""
        if self.state is not State.CLOSED:
            self._end(_NO_CODE)

    # Calls of the gateway.

    def send(self, message: Message) -> None:
        """Send a message, in order with its events."""
        if self.state in (State.LIVE, State.CATCHING_UP) and (data := self._encode(message)):
            self.gateway.outbound.send(self, data)
            if self.behind is not None:
                self.behind.wait_for_queued()

    def send_now(self, message: Message) -> None:
        """Send a message before any event that is queued for it."""
        if data := self._encode(message):
            self.write(data)

    def close(self, error: BeaconfireError) -> None:
        """End it with the error's close code."""
        if self.state is State.CLOSED:
            return
        user = self.user_id or (self.claims.user_id if self.claims else None)
        log.info("closing session", session=self.id, user=user, code=error.close_code, reason=error.message)
        self._end(error.close_code)
        self.connection.hang_up(self, error)

    def make_way(self) -> None:
        """Another connection of its user has taken over: hear nothing from now on, and count against no limit.

        Its connection is closed a moment later, as clients count the old one until they have the new one's ack.
        """
        REPLACED.inc()
        log.info("replaced", session=self.id, user=self.user_id)
        self._end(_REPLACED_CODE)
        farewell = _Farewell(self)
        self.gateway.connecting.add(farewell)
        self.gateway.timers.after(MAKE_WAY_S, farewell)

    def probe(self) -> None:
        """Ask for a sign of life, besides the heartbeat."""
        self._silence |= _PROBE
        if self.state is not State.CLOSED:
            self.connection.ping(self)

    @property
    def is_silent(self) -> bool:
        """Whether it is open and has sent no byte since it was probed."""
        return self.state is not State.CLOSED and bool(self._silence & _PROBE)

    def drop(self) -> None:
        """End it because its client is gone."""
        SILENT.inc()
        log.info("no sign of life", session=self.id, user=self.user_id)
        self._end(_NO_CODE)
        self.connection.abort(self)

    def remaining(self) -> dict[str, int]:
        """Return what it and its user may still send, by the names of the limits."""
        now = time.monotonic()
        return {**self.allowance.remaining(now), **self.gateway.users.of(self.user_id).remaining(now)}

    def reset_limits(self) -> None:
        """Give it and its user their full limits again (an operator's decision)."""
        self._allowance = None
        self.gateway.users.of(self.user_id).reset()
        self._refusals = None

    def leave_root(self, root: Pair, reason: str) -> None:
        """Remove it from every room of a root, and send `room.left` for each."""
        for name in [name for name, one in self.rooms.items() if one.room.root == root]:
            self.leave_room(name, reason)

    def leave_room(self, name: str, reason: str) -> None:
        """Remove it from one room, and send `room.left`."""
        self.leave(name)
        LEFT.labels(reason).inc()
        log.info("left room", session=self.id, user=self.user_id, room=name, reason=reason)
        self.send(RoomLeft(name, reason))

    def change_role(self, root: Pair, role: Role) -> None:
        """Change its role in the rooms of a root, and send `role.changed`."""
        changed = {name: one for name, one in self.rooms.items() if one.room.root == root and one.role != role}
        if not changed:
            return
        self.gateway.outbound.seal()
        for name, one in changed.items():
            self._leave_lists(one)
            self.rooms[name] = replace(one, role=role)
            if self.state is State.LIVE:
                self._join_lists(self.rooms[name])
        self.send(RoleChanged(str(root), role))

    def hold(self) -> None:
        """Write it no event until `release`. None is lost: they come then, as far as it may hear them."""
        self.pause()
        if self.behind is not None:
            self.behind.is_held = True

    def release(self) -> None:
        """Undo `hold`."""
        if self.behind is not None:
            self.behind.release()

    def resync(self, cause: ResyncCause, cursor: str) -> None:
        """Send `resync` for all its rooms, and continue live. It had everything up to `cursor`."""
        if self.state not in (State.LIVE, State.CATCHING_UP):
            return
        if self.behind is not None:
            self.behind.start_over(self.gateway.position)
        self.send(self.resync_of(self.rooms, cause, cursor))

    # Calls of its requests and of catching up.

    def begin(self, claims: Claims) -> None:
        """Let its client in: from now on it is live (or behind, if its connection is full), in no room."""
        gateway = self.gateway
        self.offered_token = ""
        self.user_id = claims.user_id
        self.state = State.LIVE
        gateway.connecting.discard(self)
        self.connection.begun(self)
        gateway.hub.add(self)
        self._count(1)
        self.leased_at = time.monotonic()
        self.use_token(claims)
        # Spread, so that sessions that came at the same time are not pinged at the same time.
        first_beat_s = self.connection.heartbeat_s * random.uniform(0.5, 1)  # noqa: S311
        self._due = gateway.timers.within(int(first_beat_s), self)
        if self.is_full:  # with what it asked for before
            self.full()

    async def check_newer(self, token: str) -> Claims:
        """Return the claims of a newer token. Raises BeaconfireError if the session cannot rest on it."""
        access = self.gateway.access
        claims = await access.verify(token)
        if claims.user_id != self.user_id:
            raise BeaconfireError(errors.TOKEN_INVALID, "the token belongs to another user")
        if isinstance(claims, OutsideClaims):  # it may grant less, or more
            await access.reconsider(self, claims)
        else:
            await access.decide(claims, ())
        return claims

    def use_token(self, claims: Claims) -> None:
        """Rest on this token from now on."""
        self.claims = claims
        self._warned = False
        self._watch_token()

    def is_in(self, room: RoomKey) -> bool:
        """Whether it is in a room, by whatever name."""
        return any(one.room == room for one in self.rooms.values())

    def join(self, name: str, subscription: Subscription) -> None:
        """Put it into a room. If it is in it already, by other terms, change them."""
        known = self.rooms.get(name)
        if known is not None and known != subscription:
            self.leave(name)
        if known != subscription:
            self._note_beginning(name, How.JOINED, self.offset)
        self.rooms[sys.intern(name)] = subscription  # one string, however many are in the room
        if self.gateway.attendance is not None:
            self.gateway.attendance.joined(self, subscription.room)
        if self.state is State.LIVE:
            self._join_lists(subscription)
        types = subscription.types and sorted(subscription.types)
        self.note("subscribed", room=name, types=types)

    def leave(self, name: str, *, for_good: bool = True) -> None:
        """Take it out of a room it is in. Unless that is for good, its user counts as present for some seconds more."""
        self.gateway.outbound.seal()
        subscription = self.rooms.pop(name)
        attendance, room = self.gateway.attendance, subscription.room
        if attendance is not None and not self.is_in(room):
            (attendance.left if for_good else attendance.paused)(self, room)
        # A room may be known by two names, `settlement:s1` and `campaign:c1/settlement:s1`.
        if subscription not in self.rooms.values():
            self._leave_lists(subscription)

    def resume(self, offset: int) -> None:
        """Catch up from its client's cursor."""
        for name in self.rooms:
            self._note_beginning(name, How.RESUMED, offset)
        behind = self._fall_behind(offset)
        behind.rereads = self.may_lack(offset)
        self.gateway.steps.add(behind.step)

    def may_lack(self, offset: int) -> bool:
        """Whether its client may lack events at or below the offset of its cursor, because they were held back."""
        return may_lack(self.gateway, self.rooms.values())

    def go_live(self) -> None:
        """It is level with the gateway (`catchup` calls this)."""
        gateway = self.gateway
        gateway.outbound.seal()
        self.state = State.LIVE
        self.behind = None
        for subscription in self.rooms.values():
            self._join_lists(subscription)
        self.send_now(Position(gateway.cursor(gateway.position)))
        if self.is_full:
            self.full()
        if gateway.attendance is not None:
            gateway.attendance.caught_up(self)
        self.wake()
        self._answer_waiting()

    @property
    def is_asking(self) -> bool:
        """Whether a request that needs `access` is being answered."""
        return self._asking

    def ask(self, question: Coroutine[Any, Any, None], waiting: Iterable[bytes] = ()) -> None:
        """Answer a request that needs `access`. The ones behind it wait, so that answers keep their order.

        `waiting` are such messages that came already.
        """
        self._waiting = [*waiting]
        self._asking = True
        self.gateway.spawn(self._answer(question))

    async def woken(self) -> None:
        """Wait until it goes live or ends, or until `wake` is called. Only for what `ask` runs: one waits at a time."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        """Let its question look again, if that is `woken`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    @property
    def allowance(self) -> Allowance:
        """How much it may still ask for."""
        if self._allowance is None:
            self._allowance = Allowance.of_session(self.gateway.limits)
        return self._allowance

    def tolerates(self, reached: LimitReached) -> bool:
        """Count a refusal. False if it was one too many, and the session is closed."""
        LIMITED.labels(reached.limit).inc()
        if self._refusals is None:
            self._refusals = Rate(PATIENCE)
        if self.state is State.CONNECTING or self._refusals.spend(1, time.monotonic()):
            self.close(reached)
            return False
        return True

    def move_away(self) -> Sequence[bytes]:
        """End it, because it goes on in another process. Return the messages that wait for an answer (`moving`)."""
        waiting = self._waiting or ()
        self._end(_NO_CODE)
        return waiting

    def resync_of(self, rooms: Iterable[str], cause: ResyncCause, cursor: str | None) -> Resync:
        """The message, to be sent now, that continuity is broken for these rooms: they start over at its place.

        `cursor` is where the client was, for the log.
        """
        reason, names = cause.reason, tuple(rooms)
        RESYNCS.labels(reason).inc()
        log.info("resync", session=self.id, user=self.user_id, reason=reason, cause=cause, cursor=cursor)
        for name in names:
            self._note_beginning(name, How.RESYNC, self.offset)
        return Resync(names, reason, self.gateway.cursor(self.offset))

    def restored(self, names: Iterable[str], offset: int) -> None:
        """It was sent what came in these rooms after `offset`."""
        for name in names:
            self._note_beginning(name, How.RESTORED, offset)

    # Messages.

    def _encode(self, message: Message) -> bytes:
        """The bytes of a message. A client that cannot be told to go is closed at the time when it should."""
        data = self.wire.encode(message)
        if not data and isinstance(message, GoAway) and self.gateway.goaways is not None:
            self.gateway.goaways.close_at(time.monotonic() + message.after_ms / 1000, self)
        return data

    def _decode(self, data: bytes) -> Incoming:
        try:
            return self.wire.decode(data)
        except InvalidMessage as problem:
            return problem

    def _may_send(self, incoming: Incoming) -> bool:
        """Whether the rate allows this message. A refused one is answered; a client that keeps on is closed."""
        try:
            now = time.monotonic()
            mine = self.allowance
            user = self.gateway.users.of(self.user_id) if self.user_id else None
            spend = Allowance.spend_leave if isinstance(incoming, Unsubscribe) else Allowance.spend_message
            spend(mine, now)
            if user is not None:
                spend(user, now)
        except LimitReached as reached:
            if self.tolerates(reached):
                self.send(Error(id_of(incoming), reached))
            return False
        return True

    async def _answer(self, question: Coroutine[Any, Any, None]) -> None:
        try:
            await question
        except Exception:
            log.exception("could not answer a client", session=self.id)
            self.close(errors.internal(self.id))
        self._asking = False
        self._answer_waiting()

    def _answer_waiting(self) -> None:
        if self._asking or self.state is State.CATCHING_UP:
            return
        waiting, self._waiting = self._waiting or [], None
        for index, data in enumerate(waiting):
            if self.state is State.CLOSED:
                return
            if self._waiting is not None:  # this one has to ask: the rest waits again
                self._waiting.extend(waiting[index:])
                return
            self.gateway.handle(self, self._decode(data))

    # Rooms.

    def _join_lists(self, subscription: Subscription) -> None:
        """Hear what the subscription hears, from now on."""
        self.gateway.hub.join(self, subscription.room, subscription.role, subscription.types)

    def _leave_lists(self, subscription: Subscription) -> None:
        """Undo `_join_lists`."""
        self.gateway.hub.leave(self, subscription.room, subscription.role, subscription.types)

    def _note_beginning(self, name: str, how: How, after: int) -> None:
        """Remember for operators from where on it hears a room."""
        self.gateway.beginnings.note(self.id, name, how, after=after, position=self.gateway.position)

    # Catching up.

    def _fall_behind(self, offset: int, lacking: Sequence[Entry] = ()) -> CatchUp:
        """Be in no write list. Everything up to `offset` is written or about to be, and `behind` has the rest.

        `lacking` was held back, and is not written either.
        """
        self.gateway.outbound.seal()
        for subscription in self.rooms.values():
            self._leave_lists(subscription)
        self.state = State.CATCHING_UP
        self.behind = CatchUp(self.gateway, self, offset, lacking)
        if self._waiting is None:
            self._waiting = []
        return self.behind

    # Time.

    def on_timer(self) -> None:
        """A second has come that it waits for."""
        if self.state is State.CLOSED or self.gateway.timers.now < self._due:
            return  # earlier waits no longer matter
        if self.state is State.CONNECTING:
            limit = self.gateway.limits.connect_timeout_s
            self.close(BeaconfireError(errors.TIMEOUT, f"no connect within {limit} s"))
        elif self._pinged:
            self._check_pulse()
        else:
            self._beat()

    def _watch_token(self) -> None:
        """Look at the token again when it is time, if that is before the next beat (which looks again)."""
        claims = self.claims
        assert claims is not None
        left = claims.expires_at - time.time()
        for due in (left - _warning_s(claims), left + EXPIRED_GRACE_S):
            if due <= self.connection.heartbeat_s:
                self.gateway.timers.after(due, Call(self._check_token))

    def _check_token(self) -> None:
        if self.state is State.CLOSED or self.claims is None:
            return
        left = self.claims.expires_at - time.time()
        if left <= -EXPIRED_GRACE_S:
            token = self._waiting_token()
            if token is None:
                self._run_out()
            else:
                self.gateway.spawn(self._refresh_early(token))
        elif left <= _warning_s(self.claims) and not self._warned:
            self._warned = True
            self.send(TokenExpiring(max(0, round(left))))

    def _waiting_token(self) -> str | None:
        """The token of the last `refresh` that waits behind another request, if one does."""
        waiting = map(self._decode, reversed(self._waiting or ()))
        return next((one.token for one in waiting if isinstance(one, Refresh)), None)

    async def _refresh_early(self, token: str) -> None:
        """Rest on the token of a `refresh` before its turn to be answered: the one it replaces has run out."""
        before, claims = self.claims, None
        try:
            claims = await self.check_newer(token)
        except BeaconfireError:
            pass  # its answer would have said why
        except Exception:
            log.exception("could not check a token", session=self.id)
        if self.state is State.CLOSED or self.claims is not before:
            return  # its turn came meanwhile
        if claims is None:
            self._run_out()
        else:
            self.use_token(claims)

    def _run_out(self) -> None:
        self.close(BeaconfireError(errors.TOKEN_INVALID, "the token ran out"))

    def _beat(self) -> None:
        """Ping, and send the position."""
        gateway = self.gateway
        if self._allowance is not None and self._allowance.is_full(time.monotonic()):
            self._allowance = None
        self._pinged = True
        self._silence += _BEAT
        if self.state is State.LIVE:
            self.connection.ping(self, self.wire.encode(Position(gateway.cursor(gateway.outbound.settled))))
        else:
            self.connection.ping(self)
        self._due = gateway.timers.within(_check_after(self.connection)[0], self)
        self._watch_token()

    def _check_pulse(self) -> None:
        """End it if no byte came for too long."""
        after_s, beats = _check_after(self.connection)
        if self._silence >= _BEAT * (beats + 1):
            self.drop()
            return
        self._pinged = False
        left_s = self.connection.heartbeat_s - after_s
        if left_s:
            self._due = self.gateway.timers.within(left_s, self)
        else:
            self._beat()

    # Figures.

    def _count(self, by: int, transport: str | None = None) -> None:
        SESSIONS.labels(transport or self.connection.transport, self.wire.dialect_name).inc(by)

    # Its end.

    def _end(self, code: int | str) -> None:
        """Leave everything: no write of a later event reaches the connection."""
        CLOSED.labels(code).inc()
        gateway, connected = self.gateway, self.state is not State.CONNECTING
        gateway.outbound.seal()
        for subscription in self.rooms.values():
            self._leave_lists(subscription)
        if connected and gateway.attendance is not None:
            gateway.attendance.ended(self)
        self.rooms.clear()
        self._waiting = None
        self.state = State.CLOSED
        self.behind = None
        gateway.connecting.discard(self)
        self.wake()
        self.connection.ended(self)
        if connected:
            gateway.hub.remove(self)
            self._count(-1)
            self.note("disconnected")


class _Farewell:
    """Closes the connection of a replaced session, once: in a moment, or when the gateway stops.

    Implements `gateway.Pending` and `timers.Timed`.
    """

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = session

    def on_timer(self) -> None:
        pending = self._session.gateway.connecting
        if self in pending:
            pending.remove(self)
            self._hang_up()

    def close(self, _error: BeaconfireError) -> None:
        self._hang_up()

    def _hang_up(self) -> None:
        self._session.connection.hang_up(self._session, None)


def id_of(incoming: Incoming) -> MessageId | None:
    """The id that the answer repeats, if it could be read."""
    return incoming.message_id if isinstance(incoming, InvalidMessage) else incoming.id


def _check_after(connection: Connection) -> tuple[int, int]:
    """How long after each beat to look for its client's answer, and how many beats before it may be unanswered."""
    beats, after_s = divmod(connection.patience_s - 1, connection.heartbeat_s)
    return after_s + 1, beats


def _warning_s(claims: Claims) -> float:
    """How long before its token's end a client is warned: a minute, or half a short token's life."""
    return min(TOKEN_WARNING_S, (claims.expires_at - claims.issued_at) / 2)
