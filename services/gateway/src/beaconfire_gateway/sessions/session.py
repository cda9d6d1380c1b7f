"""One connected client: what it may hear, where it stands, how it lives and ends. No I/O.

    CONNECTING ── begin ──▶ LIVE ◀──▶ CATCHING_UP        any ──▶ CLOSED

LIVE: it stands in the write lists of all its rooms. CATCHING_UP (it resumes, or its socket is full): it stands in none,
`catchup` feeds it in order until it is level with the gateway, and its own messages wait. What the messages ask for is
in `requests`; what it is written through, a subclass's (`websocket`, `plain`). One file, as every part of its life
moves the same state.
"""

import asyncio
import random
import secrets
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterable
from dataclasses import replace
from enum import IntEnum
from typing import Any

from beaconfire_gateway.fanout.wires import Encode, Target
from beaconfire_gateway.sessions.catchup import CatchUp
from beaconfire_gateway.sessions.context import Context
from beaconfire_gateway.sessions.limits import LIMITED, PATIENCE, Allowance, LimitReached, Rate
from beaconfire_gateway.sessions.place import Place
from beaconfire_gateway.wire import protocol
from beaconfire_gateway.wire.protocol import InvalidMessage
from beaconfire_gateway.wire.websocket_frames import Opcode, encode
from beaconfire_kit import errors, logs, metrics
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.resync import ResyncReason
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import Pair
from beaconfire_kit.tokens import Claims

log = logs.get(__name__)

SESSIONS = metrics.Gauge("beaconfire_gateway_sessions", "Connected sessions.")
LAGGING = metrics.Counter(
    "beaconfire_gateway_slow_sessions_total",
    "Times that a session's socket was full, so that the session began to catch up.",
)
RESYNCS = metrics.Counter(
    "beaconfire_gateway_resyncs_total", "Times that a client was sent `resync`, by reason.", ["reason"]
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
"""How long a replaced session's socket stays open at least: for the new one's ack to arrive first."""
TOKEN_WARNING_S = 60
EXPIRED_GRACE_S = 1
"""A session outlives its token by this much (seconds), so that a refresh on its way still arrives."""
_SINCE_BEAT, _SINCE_PROBE = 1, 2
_PING = encode(b"", Opcode.PING)


class State(IntEnum):
    CONNECTING = 0
    LIVE = 1
    CATCHING_UP = 2
    CLOSED = 3


class Session(ABC):
    """See the module. Nobody waits for it; what `ask` is given runs one at a time.

    What it is written through is a subclass's: one object for both, as there may be very many (`websocket`, `plain`).
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
        "context",
        "id",
        "leased_at",
        "offered_token",
        "rooms",
        "state",
        "user_id",
    )

    def __init__(self, context: Context["Session"], *, address: str, offered_token: str = "") -> None:
        self.context = context
        self._waiting: list[bytes] | None = None  # messages behind one that is being answered; None: answer at once
        self._asking = False
        self._waiter: asyncio.Future[None] | None = None  # what its question waits on
        self._silence = 0  # which of the pings below nothing has come since
        self._pinged = False
        self._allowance: Allowance | None = None  # None, as here and below: nothing was taken for a while
        self._refusals: Rate | None = None
        self._warned = False
        self.address = address
        self.behind: CatchUp | None = None  # not None: CATCHING_UP
        self.offered_token = offered_token
        self.id = context.session_prefix + secrets.token_hex(8)
        self.user_id = ""
        self.claims: Claims | None = None
        self.leased_at = 0.0
        self.rooms: dict[str, Place] = {}
        self.state = State.CONNECTING
        context.connecting.add(self)
        self._due = context.wheel.after(context.limits.connect_timeout_s, self)

    # What the connection is asked.

    @property
    @abstractmethod
    def target(self) -> Target:
        """What its events are written to."""

    @property
    @abstractmethod
    def encode(self) -> Encode | None:
        """What is done to them before; None: nothing."""

    @property
    @abstractmethod
    def is_full(self) -> bool:
        """Whether its socket takes no more for now."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Write whole frames, now; nothing once it is closed."""

    @abstractmethod
    def _shake_hands(self, code: int, reason: str) -> None:
        """Start the close handshake. It is closed already, as a session."""

    @abstractmethod
    def abort(self) -> None:
        """Drop the connection at once."""

    @property
    def offset(self) -> int:
        """Its place: everything up to it is written or about to be."""
        return self.context.position if self.behind is None else self.behind.offset

    # What the connection reports.

    def receive(self, text: bytes) -> None:
        """A text message came."""
        self._silence = 0
        if self.state is State.CLOSED or not self._may_send(text):
            return
        if self._waiting is None:
            self.context.handle(self, text)
        elif len(self._waiting) >= MAX_WAITING:
            self.close(BeaconfireError(errors.TOO_MANY, f"over {MAX_WAITING} messages sent without an answer"))
        elif self._waiting and sum(map(len, self._waiting)) + len(text) > MAX_WAITING_BYTES:
            self.close(BeaconfireError(errors.TOO_MANY, f"over {MAX_WAITING_BYTES} bytes sent without an answer"))
        else:
            self._waiting.append(text)

    def heard(self) -> None:
        """A sign of life came (a pong, a ping)."""
        self._silence = 0

    def full(self) -> None:
        """The socket takes no more for now: catch up from here once it does."""
        if self.state is State.LIVE:
            LAGGING.inc()
            self._fall_behind(self.context.position).wait_for_queued()

    def drained(self) -> None:
        """The socket takes more again."""
        self._silence = 0  # its buffer drained: it reads, even where its own messages wait
        if self.behind is not None:
            self.behind.step()

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
        self._shake_hands(code, error.message)

    def make_way(self) -> None:
        """Another connection of its user has taken over: hear nothing from now on, and count against no limit.

        The socket is closed a moment later, as clients count the old connection until they have the new one's ack.
        """
        REPLACED.inc()
        log.info("replaced", session=self.id, user=self.user_id)
        self._end()
        self.context.wheel.after(MAKE_WAY_S, lambda: self._shake_hands(1000, "another connection took over"))

    def probe(self) -> None:
        """Ask for a sign of life, besides the heartbeat."""
        self._silence |= _SINCE_PROBE
        self.write(_PING)

    @property
    def is_silent(self) -> bool:
        """Whether it is open and nothing at all has come since it was probed."""
        return self.state is not State.CLOSED and bool(self._silence & _SINCE_PROBE)

    def drop(self) -> None:
        """End it as one whose client is gone."""
        SILENT.inc()
        log.info("no sign of life", session=self.id, user=self.user_id)
        self._end()
        self.abort()

    def reset_limits(self) -> None:
        """Let it and its user start afresh (an operator's decision)."""
        self._allowance = None
        self.context.users.of(self.user_id).reset()
        self._refusals = None

    def tell(self, frame: bytes) -> None:
        """Send it a frame, in order with its events."""
        if self.state in (State.LIVE, State.CATCHING_UP):
            self.context.outbound.tell(self, frame)
            if self.behind is not None:
                self.behind.wait_for_queued()

    def leave_root(self, root: Pair, reason: str) -> None:
        """Put it out of every room of a root, and say so."""
        for name in [name for name, place in self.rooms.items() if place.room.root == root]:
            self.leave_room(name, reason)

    def leave_room(self, name: str, reason: str) -> None:
        """Put it out of one room, and say so."""
        self.leave(name)
        LEFT.labels(reason).inc()
        log.info("left room", session=self.id, user=self.user_id, room=name, reason=reason)
        self.tell(protocol.room_left(name, reason))

    def change_role(self, root: Pair, role: Role) -> None:
        """The user's role in a root is another one: hear what that role hears, and say so."""
        changed = {name: place for name, place in self.rooms.items() if place.room.root == root and place.role != role}
        if not changed:
            return
        self.context.outbound.seal()
        for name, place in changed.items():
            self._withdraw(place)
            self.rooms[name] = replace(place, role=role)
            if self.state is State.LIVE:
                self._stand(self.rooms[name])
        self.tell(protocol.role_changed(str(root), role))

    def hold(self) -> None:
        """Write it no event until `release`. None is lost: they come then, as far as it may hear them."""
        if self.state is State.LIVE:
            self._fall_behind(self.context.position).wait_for_queued()
        if self.behind is not None:
            self.behind.is_held = True

    def release(self) -> None:
        """Undo `hold`."""
        if self.behind is not None:
            self.behind.release()

    def resync(self, reason: ResyncReason) -> None:
        """Continuity is broken for all its rooms: say so, and go on live."""
        if self.state not in (State.LIVE, State.CATCHING_UP):
            return
        if self.behind is not None:
            self.behind.offset = self.context.position
        self.tell_reload(self.rooms, reason)

    # What its requests, and catching up, do with it.

    def begin(self, claims: Claims) -> None:
        """Its client is known, and let in: from now on it is live (or behind, where its socket is full), in no room."""
        context = self.context
        self.offered_token = ""
        self.user_id = claims.user_id
        self.state = State.LIVE
        context.connecting.discard(self)
        context.door.connected(self.address)
        context.hub.add(self)
        SESSIONS.inc()
        self.leased_at = time.monotonic()
        self.take(claims)
        # Those who came at once are not spoken to at once.
        first_beat_s = context.limits.heartbeat_s * random.uniform(0.5, 1)  # noqa: S311
        self._due = context.wheel.within(int(first_beat_s), self)
        if self.is_full:  # with what it asked for before
            self.full()

    def take(self, claims: Claims) -> None:
        """Stand on this token from now on."""
        self.claims = claims
        self._warned = False
        self._watch_token()

    def join(self, name: str, place: Place) -> None:
        """Put it into a room; or move it, where it is in."""
        known = self.rooms.get(name)
        if known is not None and known != place:
            self.leave(name)
        self.rooms[sys.intern(name)] = place  # one string, however many are in the room
        if self.state is State.LIVE:
            self._stand(place)
        log.info("subscribed", session=self.id, user=self.user_id, room=name, types=place.types and sorted(place.types))

    def leave(self, name: str) -> None:
        """Take it out of a room it is in."""
        self.context.outbound.seal()
        place = self.rooms.pop(name)
        # A room may be known by two names, `settlement:s1` and `campaign:c1/settlement:s1`.
        if place not in self.rooms.values():
            self._withdraw(place)

    def resume(self, offset: int) -> None:
        """Catch up from an offset that is behind the gateway's."""
        self.context.pace.take(self._fall_behind(offset).step)

    def go_live(self) -> None:
        """It is level with the gateway (`catchup` says so)."""
        self.context.outbound.seal()
        self.state = State.LIVE
        self.behind = None
        for place in self.rooms.values():
            self._stand(place)
        self.write(protocol.position(self.context.cursor(self.context.position)))
        if self.is_full:
            self.full()
        self.wake()
        self._answer_waiting()

    def ask(self, question: Coroutine[Any, Any, None]) -> None:
        """Answer a message that needs `access`; the ones behind it wait, so that answers keep their order."""
        self._waiting = []
        self._asking = True
        self.context.spawn(self._answer(question))

    async def woken(self) -> None:
        """Wait until it went live or ended, or until `wake` is called. For what is asked alone: one waits at a time."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        """Let its question look again, where that is `woken`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    @property
    def allowance(self) -> Allowance:
        """How much it may still ask for."""
        if self._allowance is None:
            self._allowance = Allowance.of_session(self.context.limits)
        return self._allowance

    def bears_with(self, reached: LimitReached) -> bool:
        """Count a refusal. False where it was one too many, and the session is closed."""
        LIMITED.labels(reached.limit).inc()
        if self._refusals is None:
            self._refusals = Rate(PATIENCE)
        if self.state is State.CONNECTING or self._refusals.take(1, time.monotonic()):
            self.close(reached)
            return False
        return True

    def tell_reload(self, rooms: Iterable[str], reason: ResyncReason) -> None:
        """Send `resync`: continuity is broken for these rooms. They start over at the session's place, no others do."""
        RESYNCS.labels(reason).inc()
        log.info("resync", session=self.id, user=self.user_id, reason=reason)
        self.tell(protocol.resync(rooms, reason, self.context.cursor(self.offset)))

    # Messages.

    def _may_send(self, text: bytes) -> bool:
        """Whether the rate allows this message. A refused one is answered; who goes on regardless is closed."""
        try:
            now = time.monotonic()
            mine = self.allowance
            user = self.context.users.of(self.user_id) if self.user_id else None
            take = Allowance.take_leave if protocol.is_unsubscribe(text) else Allowance.take_message
            take(mine, now)
            if user is not None:
                take(user, now)
        except LimitReached as reached:
            if self.bears_with(reached):
                self.tell(protocol.error(InvalidMessage.of(reached, text)))
            return False
        return True

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
            self.context.handle(self, text)

    # Rooms.

    def _stand(self, place: Place) -> None:
        """Hear what the place hears, from now on."""
        self.context.hub.join(self, place.room, place.role, place.types)

    def _withdraw(self, place: Place) -> None:
        """Stand there no more."""
        self.context.hub.leave(self, place.room, place.role, place.types)

    # Catching up.

    def _fall_behind(self, offset: int) -> CatchUp:
        """Stand in no write list; everything up to `offset` is written or about to be, and `behind` has the rest."""
        self.context.outbound.seal()
        for place in self.rooms.values():
            self._withdraw(place)
        self.state = State.CATCHING_UP
        self.behind = CatchUp(self.context, self, offset)
        if self._waiting is None:
            self._waiting = []
        return self.behind

    # Time.

    def __call__(self) -> None:
        """A second has come that it waits for. The wheel calls the session itself, and holds nothing else for it."""
        if self.state is State.CLOSED or self.context.wheel.now < self._due:
            return  # what it waited for before is of no more interest
        if self.state is State.CONNECTING:
            limit = self.context.limits.connect_timeout_s
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
            if due <= self.context.limits.heartbeat_s:
                self.context.wheel.after(due, self._check_token)

    def _check_token(self) -> None:
        if self.state is State.CLOSED or self.claims is None:
            return
        left = self.claims.expires_at - time.time()
        if left <= -EXPIRED_GRACE_S:
            self.close(BeaconfireError(errors.TOKEN_INVALID, "the token ran out"))
        elif left <= _warning_s(self.claims) and not self._warned:
            self._warned = True
            self.tell(protocol.token_expiring(max(0, round(left))))

    def _beat(self) -> None:
        """Ping, and say the position."""
        if self._allowance is not None and self._allowance.is_full(time.monotonic()):
            self._allowance = None
        self._pinged = True
        self._silence |= _SINCE_BEAT
        settled = protocol.position(self.context.cursor(self.context.outbound.settled))
        self.write(_PING + settled if self.state is State.LIVE else _PING)
        heartbeat_s = self.context.limits.heartbeat_s
        self._due = self.context.wheel.within(heartbeat_s - heartbeat_s // 2, self)
        self._watch_token()

    def _check_pulse(self) -> None:
        """Free it when nothing at all came since the last ping."""
        if not self._silence & _SINCE_BEAT:
            self._pinged = False
            self._due = self.context.wheel.within(self.context.limits.heartbeat_s // 2, self)
            return
        self.drop()

    # Its end.

    def _end(self) -> None:
        """Leave everything: no write of a later event reaches the connection."""
        connected = self.state is not State.CONNECTING
        self.context.outbound.seal()
        for place in self.rooms.values():
            self._withdraw(place)
        self.rooms.clear()
        self._waiting = None
        self.state = State.CLOSED
        self.behind = None
        self.context.connecting.discard(self)
        self.wake()
        if connected:
            self.context.door.leave(self.address, was_connected=True)
            self.context.hub.remove(self)
            SESSIONS.dec()
            log.info("disconnected", session=self.id, user=self.user_id)


def _warning_s(claims: Claims) -> float:
    """How long before its token's end a client is warned: a minute, or half a short token's life."""
    return min(TOKEN_WARNING_S, (claims.expires_at - claims.issued_at) / 2)
