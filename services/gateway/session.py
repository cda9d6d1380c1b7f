"""One connected client: what it may hear, where it stands, what it asked for. No I/O.

The gateway's state machine, and its longest module for that reason:

    CONNECTING ── connect ──▶ LIVE ◀──▶ CATCHING_UP        any ──▶ CLOSED

LIVE: it stands in the write lists of all its rooms. CATCHING_UP (it resumes, or its socket is full): it stands in none,
its place is one number, and the ring feeds it, or the history where the ring no longer reaches back, in order, until it
is level with the gateway; its own requests wait.
"""

import asyncio
import random
import secrets
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, Protocol

from services.gateway import protocol
from services.gateway.frames import Opcode, encode
from services.gateway.hub import Hub
from services.gateway.limits import PATIENCE, Allowance, Doorkeeper, LimitReached, Limits, Rate, Users
from services.gateway.outbound import Outbound
from services.gateway.pace import Pace
from services.gateway.protocol import Connect, InvalidMessage, Ping, Refresh, Subscribe, Unsubscribe, read_message
from services.gateway.ring import Entry, Ring
from services.gateway.selection import Selection, select
from services.gateway.wheel import Wheel
from shared import errors, logs
from shared.errors import BeaconfireError
from shared.metrics import Counter, Gauge
from shared.roles import Role
from shared.subjects import Pair, RoomKey
from shared.tokens import Claims

log = logs.get(__name__)

SESSIONS = Gauge("gateway_sessions", "Connected sessions")
LAGGING = Counter("gateway_lagging_total", "Times a session's socket was full and it began to catch up")
RESYNCS = Counter("gateway_resyncs_total", "Sessions told to reload, by reason", ["reason"])
LIMITED = Counter("gateway_limited_total", "Requests refused by a limit, by limit", ["limit"])
LEFT = Counter("gateway_rooms_left_total", "Rooms a session was put out of, by reason", ["reason"])

PAGE = 500
"""Events of the ring looked at for one catching-up session in one turn of the loop."""
WRITE_BYTES = 32_768
"""Written to a catching-up session at once, and the event that goes beyond it: its socket is looked at before more."""
LOSING_S = 60.0
"""A catching-up session whose distance does not shrink within this is told to reload."""
LEVEL_S = 0.01
MAX_WAITING = 100
"""Messages a client may send while an earlier one is being answered."""
MAX_WAITING_BYTES = 65_536
"""And how large they may be together, unless a single one may be larger."""
TOKEN_WARNING_S = 60
EXPIRED_GRACE_S = 1
"""A session outlives its token by this much (seconds), so that a refresh on its way still arrives."""
_PING = encode(b"", Opcode.PING)


class State(IntEnum):
    CONNECTING = 0
    LIVE = 1
    CATCHING_UP = 2
    CLOSED = 3


@dataclass(frozen=True, slots=True)
class Place:
    """A session's place in a room: which room its name means, the role that opened it, the event types it wants."""

    room: RoomKey
    role: Role
    types: Selection = None

    def hears(self, entry: Entry) -> bool:
        """Whether an event of this room is for it."""
        return (entry.audience is None or self.role in entry.audience) and (
            self.types is None or entry.type in self.types
        )


class Wire(Protocol):
    """What a session needs of its connection."""

    paused: bool

    def write(self, data: bytes, /) -> object: ...
    def close(self, code: int, reason: str) -> None: ...
    def abort(self) -> None: ...


class HistoryGone(Exception):
    """The stream no longer reaches back to the offset."""


class History(Protocol):
    """The stream, further back than the ring (`history`)."""

    async def page(self, roots: Iterable[Pair], after: int, floor: int) -> tuple[Sequence[Entry], int]: ...
    async def end(self) -> int: ...


class Access(Protocol):
    """Who may connect, and who may see what (`membership`)."""

    async def verify(self, token: str) -> Claims: ...
    async def decide(self, claims: Claims, rooms: Sequence[str]) -> Mapping[str, Place | BeaconfireError]: ...


@dataclass(slots=True)
class Context:
    """The gateway around its sessions."""

    hub: Hub["Session"]
    ring: Ring
    outbound: Outbound["Session"]
    access: Access
    history: History
    wheel: Wheel
    spawn: Callable[[Coroutine[Any, Any, None]], object]
    pace: Pace
    limits: Limits
    users: Users
    door: Doorkeeper
    connecting: set["Session"] = field(default_factory=set)
    epoch: str = ""
    position: int = 0

    def cursor(self, offset: int) -> str:
        return f"{self.epoch}:{offset}"

    def read_cursor(self, cursor: str | None) -> int | None:
        """The offset of a cursor of this epoch, else None."""
        epoch, _, digits = (cursor or "").rpartition(":")
        return int(digits) if epoch == self.epoch and digits.isdecimal() and digits.isascii() else None


class Session:
    """See the module. Every method is synchronous but those that ask `access`; those run one at a time."""

    __slots__ = (
        "_allowance",
        "_asking",
        "_context",
        "_fetching",
        "_heard",
        "_mark",
        "_offered_token",
        "_refusals",
        "_waiting",
        "_warned",
        "_wire",
        "address",
        "claims",
        "id",
        "leased_at",
        "offset",
        "rooms",
        "state",
        "user_id",
        "write",
    )

    def __init__(self, context: Context, wire: Wire, *, address: str, offered_token: str = "") -> None:
        self._context = context
        self._wire = wire
        self._offered_token = offered_token
        self._waiting: list[bytes] | None = None  # messages behind one that is being answered; None: answer at once
        self._asking = False
        self._fetching = False
        self._mark = (0.0, 0)  # when it was last seen how far behind it is, and how far
        self._heard = True
        self._allowance: Allowance | None = None  # None, as here and below: nothing was taken for a while
        self._refusals: Rate | None = None
        self._warned = False
        self.address = address
        self.id = secrets.token_hex(8)
        self.user_id = ""
        self.claims: Claims | None = None
        self.leased_at = 0.0
        self.offset = 0
        self.rooms: dict[str, Place] = {}
        self.state = State.CONNECTING
        self.write = wire.write
        context.connecting.add(self)
        context.wheel.after(context.limits.connect_timeout_s, self._check_connected)

    # What the connection reports.

    def receive(self, text: bytes) -> None:
        """A text message came."""
        self._heard = True
        if self.state is State.CLOSED or not self._may_send(text):
            return
        if self._waiting is None:
            self._handle(text)
        elif len(self._waiting) >= MAX_WAITING:
            self.close(BeaconfireError(errors.TOO_MANY, f"over {MAX_WAITING} messages sent without an answer"))
        elif self._waiting and sum(map(len, self._waiting)) + len(text) > MAX_WAITING_BYTES:
            self.close(BeaconfireError(errors.TOO_MANY, f"over {MAX_WAITING_BYTES} bytes sent without an answer"))
        else:
            self._waiting.append(text)

    def reset_limits(self) -> None:
        """Let it and its user start afresh (an operator's decision)."""
        self._allowance = None
        self._context.users.of(self.user_id).reset()
        self._refusals = None

    def heard(self) -> None:
        """A sign of life came (a pong, a ping)."""
        self._heard = True

    def full(self) -> None:
        """The socket takes no more for now: catch up from here once it does."""
        if self.state is State.LIVE:
            LAGGING.inc()
            self._begin_catching_up(self._context.position)

    def drained(self) -> None:
        """The socket takes more again."""
        self._heard = True  # its buffer drained: it reads, even where its own messages wait
        if self.state is State.CATCHING_UP:
            self._catch_up()

    def lost(self) -> None:
        """The connection is gone."""
        if self.state is not State.CLOSED:
            self._end()

    # What the gateway does to it.

    def close(self, error: BeaconfireError) -> None:
        """End it with the error's close code."""
        if self.state is State.CLOSED:
            return
        code = error.code.close or 4000 + error.code.status
        log.info("closing session", session=self.id, user=self.user_id or None, code=code, reason=error.message)
        self._end()
        self._wire.close(code, error.message)

    def leave_root(self, root: Pair, reason: str) -> None:
        """Put it out of every room of a root, and say so."""
        for name in [name for name, place in self.rooms.items() if place.room.root == root]:
            self.leave_room(name, reason)

    def leave_room(self, name: str, reason: str) -> None:
        """Put it out of one room, and say so."""
        self._leave(name)
        LEFT.labels(reason).inc()
        log.info("left room", session=self.id, user=self.user_id, room=name, reason=reason)
        self._tell(protocol.room_left(name, reason))

    def change_role(self, root: Pair, role: Role) -> None:
        """The user's role in a root is another one: hear what that role hears, and say so."""
        changed = {name: place for name, place in self.rooms.items() if place.room.root == root and place.role != role}
        if not changed:
            return
        self._context.outbound.seal()
        for name, place in changed.items():
            self._withdraw(place)
            self.rooms[name] = replace(place, role=role)
            if self.state is State.LIVE:
                self._stand(self.rooms[name])
        self._tell(protocol.role_changed(str(root), role))

    def resync(self, reason: str) -> None:
        """Continuity is broken for all its rooms: say so, and go on live."""
        if self.state not in (State.LIVE, State.CATCHING_UP):
            return
        self._tell_reload(self.rooms, reason)
        self.offset = self._context.position

    def tell(self, frame: bytes) -> None:
        """Send it a frame, in order with its events."""
        if self.state in (State.LIVE, State.CATCHING_UP):
            self._tell(frame)

    # Messages.

    def _may_send(self, text: bytes) -> bool:
        """Whether the rate allows this message. A refused one is answered; who goes on regardless is closed."""
        try:
            now = time.monotonic()
            self._allowed().take_message(now)
            if self.user_id:
                self._context.users.of(self.user_id).take_message(now)
        except LimitReached as reached:
            if self._bears_with(reached):
                self._tell(protocol.error(InvalidMessage.of(reached, text)))
            return False
        return True

    def _bears_with(self, reached: LimitReached) -> bool:
        """Count a refusal. False where it was one too many, and the session is closed."""
        LIMITED.labels(reached.limit).inc()
        if self._refusals is None:
            self._refusals = Rate(PATIENCE)
        if self.state is State.CONNECTING or self._refusals.take(1, time.monotonic()):
            self.close(reached)
            return False
        return True

    def _allowed(self) -> Allowance:
        if self._allowance is None:
            self._allowance = Allowance.of_session(self._context.limits)
        return self._allowance

    def _handle(self, text: bytes) -> None:
        try:
            message = read_message(text)
        except InvalidMessage as problem:
            if self.state is State.CONNECTING:
                self.close(BeaconfireError(errors.BAD_REQUEST, f"expected connect: {problem.message}"))
            else:
                self._tell(protocol.error(problem))
            return
        if isinstance(message, Connect):
            self._handle_connect(message)
        elif self.state is State.CONNECTING:
            self.close(BeaconfireError(errors.BAD_REQUEST, f"the first message must be connect, not {message.type}"))
        elif isinstance(message, Ping):
            self._tell(protocol.reply(message.id))
        elif isinstance(message, Unsubscribe):
            self._unsubscribe(message)
        elif isinstance(message, Subscribe):
            self._ask(self._subscribe(message))
        else:
            self._ask(self._refresh(message))

    def _handle_connect(self, message: Connect) -> None:
        if self.state is State.CONNECTING:
            self._ask(self._connect(message))
        else:
            self._tell(protocol.error(InvalidMessage(errors.BAD_REQUEST, "already connected", message.id)))

    def _ask(self, question: Coroutine[Any, Any, None]) -> None:
        """Answer a message that needs `access`; the ones behind it wait, so that answers keep their order."""
        self._waiting = []
        self._asking = True
        self._context.spawn(self._answer(question))

    async def _answer(self, question: Coroutine[Any, Any, None]) -> None:
        try:
            await question
        except Exception:
            log.exception("could not answer a client", session=self.id)
            self.close(BeaconfireError(errors.INTERNAL, f"something went wrong on our side; quote {self.id}"))
        self._asking = False
        self._answer_waiting()

    def _answer_waiting(self) -> None:
        if self._asking or self.state is State.CATCHING_UP:
            return
        waiting, self._waiting = self._waiting or [], None
        for index, text in enumerate(waiting):
            if self.state is State.CLOSED:
                return
            if self._waiting is not None:  # this one has to ask: the rest waits again
                self._waiting.extend(waiting[index:])
                return
            self._handle(text)

    async def _connect(self, message: Connect) -> None:
        try:
            claims = await self._context.access.verify(message.token or self._offered_token)
            await self._wait_for(message.cursor)
            decisions = _narrowed(await self._context.access.decide(claims, message.rooms), message.types)
        except BeaconfireError as error:
            self.close(error)
            return
        if self.state is not State.CONNECTING:
            return
        try:
            self._check_limits(claims.user_id, message)
        except LimitReached as reached:
            LIMITED.labels(reached.limit).inc()
            if reached.retry_after_ms is not None:  # a close frame has no place for it
                self._tell(protocol.error(InvalidMessage.answering(message.id, reached)))
            self.close(reached)
            return
        self._offered_token = ""
        self.user_id = claims.user_id
        self.state = State.LIVE
        self._context.connecting.discard(self)
        self._context.door.connected(self.address)
        self._context.hub.add(self)
        SESSIONS.inc()
        self.leased_at = time.monotonic()
        self._take(claims)
        # Those who came at once are not spoken to at once.
        first_beat_s = self._context.limits.heartbeat_s * random.uniform(0.5, 1)  # noqa: S311
        self._context.wheel.after(first_beat_s, self._beat)
        log.info(
            "connected",
            session=self.id,
            user=self.user_id,
            address=self.address,
            client=message.client and message.client.name,
        )
        rooms = self._enter(decisions, replaces=message.replaces)
        self._acknowledge(message, rooms)

    def _check_limits(self, user_id: str, message: Connect) -> None:
        """Whether the user and the address may have one more connection. Raises LimitReached.

        The session that is replaced (make-before-break) does not count; it must be one of the user's own, here.
        """
        context = self._context
        mine = context.hub.sessions_of(user_id)
        replaced = next((one for one in mine if one.id == message.replaces), None)
        limit = context.limits.max_sessions_per_user
        if len(mine) - (replaced is not None) >= limit:
            raise LimitReached("sessions", f"a user may have {limit} connections")
        context.door.check(self.address, replaced=None if replaced is None else replaced.address)
        allowance, now = context.users.of(user_id), time.monotonic()
        allowance.take_message(now)
        if replaced is None:
            allowance.take_rooms(len(message.rooms), now)

    def _acknowledge(self, message: Connect, rooms: Mapping[str, Any]) -> None:
        """The ack, then what was missed since the cursor, then live; or `resync` where that cannot be."""
        context = self._context
        offset, trouble = self._read_cursor(message.cursor)
        self.write(
            protocol.ack(
                message.id,
                session_id=self.id,
                user_id=self.user_id,
                cursor=context.cursor(offset),
                heartbeat_s=context.limits.heartbeat_s,
                limits=context.limits.told(),
                rooms=rooms,
            )
        )
        if trouble is not None:
            self.resync(trouble)
        elif offset < context.position:
            self._begin_catching_up(offset)
            context.pace.take(self._catch_up)

    def _read_cursor(self, cursor: str | None) -> tuple[int, str | None]:
        """The offset to go on from, and why it cannot be the cursor's."""
        position = self._context.position
        if cursor is None:
            return position, None
        offset = self._context.read_cursor(cursor)
        if offset is None:
            return position, "epoch_changed"
        return (offset, None) if offset <= position else (position, "ahead")

    async def _wait_for(self, cursor: str | None) -> None:
        """Let this gateway catch up to a cursor that another one gave, unless the stream itself ends below it.

        Bounded by the deadline for `connect`.
        """
        context = self._context
        offset = context.read_cursor(cursor)
        if offset is None or offset <= context.position:
            return
        end = await context.history.end()
        # Polled: an event would cost a check on every message. The epoch may change while we wait.
        while self.state is not State.CLOSED and context.position < (context.read_cursor(cursor) or 0) <= end:  # noqa: ASYNC110
            await asyncio.sleep(LEVEL_S)

    async def _subscribe(self, message: Subscribe) -> None:
        assert self.claims is not None
        try:
            now = time.monotonic()
            self._allowed().take_rooms(len(message.rooms), now)
            self._context.users.of(self.user_id).take_rooms(len(message.rooms), now)
        except LimitReached as reached:
            if self._bears_with(reached):
                self._tell(protocol.refusal(message.id, reached))
            return
        try:
            await self._wait_for(message.cursor)
            decisions, trouble = await self._restore(message)
        except BeaconfireError as error:
            self._tell(protocol.refusal(message.id, error))
            return
        if self.state is State.CLOSED:
            return
        answers = self._enter(decisions)
        joined = [name for name, answer in answers.items() if answer["success"]]
        if message.cursor is not None:
            for name in joined:
                answers[name]["recovered"] = trouble is None
        place = self._context.position if self.state is State.LIVE else self.offset
        self._tell(protocol.reply(message.id, rooms=answers, cursor=self._context.cursor(place)))
        if trouble is not None and joined:
            self._tell_reload(joined, trouble)

    async def _restore(self, message: Subscribe) -> tuple[Mapping[str, Place | BeaconfireError], str | None]:
        """Decide about the rooms, once everything since the cursor was written, in these rooms alone.

        Returns in the turn of the loop in which that is so, with why it could not be, if it could not. A room that is
        asked for again is left meanwhile: what is new in it comes restored, too.
        """
        assert self.claims is not None
        context = self._context
        types = select(message.types)
        offset, trouble = self._read_cursor(message.cursor)
        if message.cursor is not None:
            for name in set(self.rooms) & set(message.rooms):
                self._leave(name)
        page: tuple[Sequence[Entry], int] | None = None
        while True:
            # Asked after each wait: membership may have changed. Mostly it is remembered, and takes no time.
            decisions = await context.access.decide(self.claims, message.rooms)
            places = {
                name: replace(place, types=types) for name, place in decisions.items() if isinstance(place, Place)
            }
            if message.cursor is None or trouble is not None or not places or self.state is State.CLOSED:
                return {**decisions, **places}, trouble
            if context.read_cursor(message.cursor) is None:
                trouble = "epoch_changed"
            elif self.state is State.CATCHING_UP:  # its socket is full
                await asyncio.sleep(LEVEL_S)
            elif page is not None:
                offset = self._write_restored(message, places, *page)
                page = None
                await self._written()
            elif not context.ring.covers(offset):
                roots = {place.room.root for place in places.values()}
                try:
                    entries, through = await context.history.page(roots, offset, context.ring.floor)
                    page = entries, min(through, context.position)
                except HistoryGone:
                    trouble = "not_resumable"
            elif newer := context.ring.after(offset, PAGE):
                page = newer, newer[-1].offset
            else:
                return {**decisions, **places}, None

    def _write_restored(
        self, message: Subscribe, places: Mapping[str, Place], entries: Sequence[Entry], through: int
    ) -> int:
        """Write some of these entries, which are all there are up to `through`. Returns the offset it got to."""
        mine, through = _some(entries, through, places.values())
        if mine:
            self._tell(protocol.restored(message.id, places, mine))
        return through

    async def _written(self) -> None:
        """Wait until what it was told is written, and for its turn: long replays of many delay nobody else."""
        loop = asyncio.get_running_loop()
        written, turn = loop.create_future(), loop.create_future()
        self._context.outbound.tell(lambda _nothing: _resolve(written), b"")
        await written
        self._context.pace.take(lambda: _resolve(turn))
        await turn

    def _unsubscribe(self, message: Unsubscribe) -> None:
        for name in message.rooms:
            if name in self.rooms:
                self._leave(name)
                log.info("unsubscribed", session=self.id, user=self.user_id, room=name)
        self._tell(protocol.reply(message.id, rooms={name: {"success": True} for name in message.rooms}))

    async def _refresh(self, message: Refresh) -> None:
        try:
            claims = await self._context.access.verify(message.token)
            if claims.user_id != self.user_id:
                raise BeaconfireError(errors.TOKEN_INVALID, "the token belongs to another user")
            await self._context.access.decide(claims, ())
        except BeaconfireError as error:
            self._tell(protocol.refusal(message.id, error))
            return
        if self.state is not State.CLOSED:
            self._take(claims)
            self._tell(protocol.reply(message.id))

    # Rooms.

    def _enter(
        self, decisions: Mapping[str, Place | BeaconfireError], *, replaces: str | None = None
    ) -> dict[str, Any]:
        """Join what is allowed. The answer for each room."""
        self._context.outbound.seal()
        others = [one for one in self._context.hub.sessions_of(self.user_id) if one is not self and one.id != replaces]
        elsewhere = sum(len(one.rooms) for one in others)
        answers: dict[str, Any] = {}
        for name, decision in decisions.items():
            if isinstance(decision, Place) and name not in self.rooms:
                decision = self._room_limit(elsewhere) or decision
            if isinstance(decision, BeaconfireError):
                answers[name] = {"success": False, "error": decision.body()}
                log.info("refused room", session=self.id, user=self.user_id, room=name, code=decision.code.code)
                continue
            answers[name] = {"success": True}
            self._join(name, decision)
        return answers

    def _room_limit(self, elsewhere: int) -> LimitReached | None:
        """The limit that one more room would be over, where the user's other sessions are in so many."""
        limits = self._context.limits
        reached = None
        if len(self.rooms) >= limits.max_rooms:
            reached = LimitReached("held_rooms", f"a connection may be in {limits.max_rooms} rooms")
        elif len(self.rooms) + elsewhere >= limits.max_rooms_per_user:
            text = f"a user may be in {limits.max_rooms_per_user} rooms, over all connections"
            reached = LimitReached("user_held_rooms", text)
        if reached is not None:
            LIMITED.labels(reached.limit).inc()
        return reached

    def _join(self, name: str, place: Place) -> None:
        known = self.rooms.get(name)
        if known is not None and known != place:
            self._leave(name)
        self.rooms[sys.intern(name)] = place  # one string, however many are in the room
        if self.state is State.LIVE:
            self._stand(place)
        log.info("subscribed", session=self.id, user=self.user_id, room=name, types=place.types and sorted(place.types))

    def _leave(self, name: str) -> None:
        self._context.outbound.seal()
        place = self.rooms.pop(name)
        # A room may be known by two names, `settlement:s1` and `campaign:c1/settlement:s1`.
        if place not in self.rooms.values():
            self._withdraw(place)

    def _stand(self, place: Place) -> None:
        """Hear what the place hears, from now on."""
        self._context.hub.join(self, place.room, place.role, place.types)

    def _withdraw(self, place: Place) -> None:
        """Stand there no more."""
        self._context.hub.leave(self, place.room, place.role, place.types)

    # Catching up.

    def _begin_catching_up(self, offset: int) -> None:
        """Stand in no write list; everything up to `offset` is written or about to be, the ring has the rest."""
        self._context.outbound.seal()
        for place in self.rooms.values():
            self._withdraw(place)
        self.state = State.CATCHING_UP
        self.offset = offset
        self._mark = (time.monotonic(), self._context.position - offset)
        if self._waiting is None:
            self._waiting = []

    def _catch_up(self) -> None:
        """Write some of what it missed; more in another turn, once its socket has taken this."""
        if self.state is not State.CATCHING_UP or self._wire.paused or self._fetching:
            return
        context = self._context
        if context.outbound.settled < self.offset:  # what was queued for it before goes first
            context.pace.take(self._catch_up)
            return
        if self._loses_ground():
            self.resync("too_slow")
        if not context.ring.covers(self.offset):
            self._fetching = True
            context.spawn(self._fetch())
            return
        page = context.ring.after(self.offset, PAGE)
        if page:
            self._write_some(page, page[-1].offset)
            context.pace.take(self._catch_up)
            return
        # Level with the gateway, without an await since the last look: live again.
        context.outbound.seal()
        self.state = State.LIVE
        for place in self.rooms.values():
            self._stand(place)
        self.write(protocol.position(context.cursor(context.position)))
        self._answer_waiting()

    async def _fetch(self) -> None:
        """Write some of what the ring no longer has."""
        context, epoch, after = self._context, self._context.epoch, self.offset
        roots = {place.room.root for place in self.rooms.values()}
        try:
            entries, through = await context.history.page(roots, after, context.ring.floor)
        except HistoryGone:
            entries, through = (), None
        except Exception:
            log.exception("could not read the history", session=self.id)
            self.close(BeaconfireError(errors.INTERNAL, f"something went wrong on our side; quote {self.id}"))
            return
        self._fetching = False
        if self.state is State.CATCHING_UP and (context.epoch, self.offset) == (epoch, after):
            if through is None:
                self.resync("not_resumable")
            else:
                # What lies above the gateway's position comes live.
                self._write_some(entries, min(through, context.position))
        context.pace.take(self._catch_up)

    def _write_some(self, entries: Sequence[Entry], through: int) -> None:
        """Write its part of these entries, which are all there are up to `through`, and its place after them."""
        mine, through = _some(entries, through, self.rooms.values())
        self.offset = through
        self.write(b"".join(mine) + protocol.position(self._context.cursor(through)))

    def _loses_ground(self) -> bool:
        """Whether it is no nearer to the gateway's position than a minute ago."""
        now, distance = time.monotonic(), self._context.position - self.offset
        seen_at, was = self._mark
        if now - seen_at < LOSING_S:
            return False
        self._mark = (now, distance)
        return distance >= was

    # Time.

    def _take(self, claims: Claims) -> None:
        """Stand on this token from now on."""
        self.claims = claims
        self._warned = False
        self._watch_token()

    def _watch_token(self) -> None:
        """Look at the token again when it is time, if that is before the next beat (which looks again)."""
        claims = self.claims
        assert claims is not None
        left = claims.expires_at - time.time()
        for due in (left - _warning_s(claims), left + EXPIRED_GRACE_S):
            if due <= self._context.limits.heartbeat_s:
                self._context.wheel.after(due, self._check_token)

    def _check_token(self) -> None:
        if self.state is State.CLOSED or self.claims is None:
            return
        left = self.claims.expires_at - time.time()
        if left <= -EXPIRED_GRACE_S:
            self.close(BeaconfireError(errors.TOKEN_INVALID, "the token ran out"))
        elif left <= _warning_s(self.claims) and not self._warned:
            self._warned = True
            self._tell(protocol.token_expiring(max(0, round(left))))

    def _check_connected(self) -> None:
        if self.state is State.CONNECTING:
            limit = self._context.limits.connect_timeout_s
            self.close(BeaconfireError(errors.TIMEOUT, f"no connect within {limit} s"))

    def _beat(self) -> None:
        """Ping, and say the position."""
        if self.state is State.CLOSED:
            return
        if self._allowance is not None and self._allowance.is_full(time.monotonic()):
            self._allowance = None
        self._heard = False
        settled = protocol.position(self._context.cursor(self._context.outbound.settled))
        self.write(_PING + settled if self.state is State.LIVE else _PING)
        self._context.wheel.after(self._context.limits.heartbeat_s / 2, self._check_pulse)
        self._watch_token()

    def _check_pulse(self) -> None:
        """Free it when nothing at all came since the last ping."""
        if self.state is State.CLOSED:
            return
        if self._heard:
            self._context.wheel.after(self._context.limits.heartbeat_s / 2, self._beat)
            return
        log.info("no sign of life", session=self.id, user=self.user_id)
        self._end()
        self._wire.abort()

    # Ends, and words on the way.

    def _tell_reload(self, rooms: Iterable[str], reason: str) -> None:
        RESYNCS.labels(reason).inc()
        log.info("told to reload", session=self.id, user=self.user_id, reason=reason)
        self._tell(protocol.resync(rooms, reason, self._context.cursor(self._context.position)))

    def _tell(self, frame: bytes) -> None:
        self._context.outbound.tell(self.write, frame)

    def _end(self) -> None:
        """Leave everything: no write of a later event reaches the connection."""
        connected = self.state is not State.CONNECTING
        self._context.outbound.seal()
        for place in self.rooms.values():
            self._withdraw(place)
        self.rooms.clear()
        self._waiting = None
        self.state = State.CLOSED
        self._context.connecting.discard(self)
        if connected:
            self._context.hub.remove(self)
            SESSIONS.dec()
            log.info("disconnected", session=self.id, user=self.user_id)


def _some(entries: Sequence[Entry], through: int, places: Iterable[Place]) -> tuple[list[bytes], int]:
    """The frames of a part of these entries that may be heard from these places, and the offset the part ends at.

    The entries are all there are up to `through`.
    """
    inside: dict[RoomKey, list[Place]] = {}
    for place in places:
        inside.setdefault(place.room, []).append(place)
    mine: list[bytes] = []
    size = 0
    for entry in entries:
        if entry.offset > through:
            break
        if any(place.hears(entry) for room in entry.route.rooms for place in inside.get(room, ())):
            mine.append(entry.frame)
            size += len(entry.frame)
            if size >= WRITE_BYTES:
                return mine, entry.offset
    return mine, through


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():  # who waited for it may have been cancelled
        future.set_result(None)


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


def _warning_s(claims: Claims) -> float:
    """How long before its token's end a client is warned: a minute, or half a short token's life."""
    return min(TOKEN_WARNING_S, (claims.expires_at - claims.issued_at) / 2)
