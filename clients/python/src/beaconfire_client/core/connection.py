"""The connection of an application: one link that is kept alive, its rooms and its cursor. It follows PROTOCOL.md.

    disconnected ── connect ──▶ connecting ◀──▶ connected        any ── close ──▶ disconnected
                                    └── refused, or too many failures in a row ──▶ error ── retry ──▶ connecting

    core = Connection(clock=time.monotonic)
    room = core.subscribe("campaign:c1")
    core.connect()
    for action in core.actions():     # FetchToken(1, "connect")
        ...
    core.token_arrived(1, token)      # then Open, and after `opened` Send, and so on

After each call, carry out `actions()`. Call `run_due` at `next_at`. There are at most two links: the one in use, and
the one that takes over from it, after `goaway` or on the way back to a WebSocket.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import get_args

from beaconfire_client.core.actions import (
    Action,
    Answered,
    Degraded,
    Drop,
    FetchToken,
    Live,
    MessageRefused,
    Open,
    PresenceStatus,
    Reason,
    Refusal,
    Resync,
    RoleChanged,
    Send,
    State,
    StateChanged,
    Status,
    TokenReason,
    WhoIsHere,
)
from beaconfire_client.core.backoff import LAST_CAP_S, MAX_ATTEMPTS, Backoff, Chance
from beaconfire_client.core.cursor import Cursor, Place
from beaconfire_client.core.health import Health
from beaconfire_client.core.protocol import (
    BROKE_OFF,
    Frame,
    Message,
    describe_close,
    is_too_large,
    retry_of_close,
)
from beaconfire_client.core.renewal import Renewal
from beaconfire_client.core.rooms import Answer, RoomTable
from beaconfire_client.core.sightings import Sightings
from beaconfire_client.core.sizes import LEAST_FRAME_BYTES, USUAL_FRAME_BYTES, bytes_of
from beaconfire_client.core.timers import Clock, Timers
from beaconfire_client.core.ways import Transport, Way, Ways

NAME = "beaconfire-python"
VERSION = "0.1.0"

CONNECT_TIMEOUT_S = 10.0
"""How long an attempt may take, without the time for its token. The gateway waits 10 s for `connect`."""
WAY_TIMEOUT_S = 5.0
"""How long one way may take if another one is left to try: a proxy may swallow a handshake, or keep back a stream."""
FIRST_RETURN_S = 5.0
LAST_RETURN_S = 300.0
"""Pauses between attempts to get back to a WebSocket: 5, 10, 20 … 300 s."""
STABLE_S = 5.0
"""A connection that lasted this long is a success. One that ends sooner counts as a failed attempt, to avoid a loop."""
_MOST_SPREAD_S = 1.0
"""The longest random delay that a client adds to `afterMs` of a `goaway`."""
UNREACHABLE = "unreachable"
"""The code of the error when every attempt has failed."""
_ATTEMPT, _PAUSE, _STABLE, _RETURN = "attempt", "pause", "stable", "return"
_LIMITS = {
    "maxFrameBytes": USUAL_FRAME_BYTES,
    "maxRooms": 100,
    "messagesPerMinute": 100,
    "roomsPerMinute": 600,
}


@dataclass(slots=True)
class _Attempt:
    """A connection that is being made."""

    token_number: int = 0
    """The token that it waits for. 0 if it waits for none."""
    token: str = ""
    link: int = 0
    """0 until it is opened."""
    way: Way = "websocket"
    is_open: bool = False
    is_returning: bool = False
    """Whether it only tries whether a WebSocket works again."""


class Connection:
    """The protocol's whole state. The clock returns seconds that only grow; `chance` a number from [0, 1)."""

    def __init__(
        self,
        *,
        clock: Clock,
        chance: Chance = random.random,
        transport: Transport = "auto",
        max_pause_s: float = LAST_CAP_S,
        max_attempts: int | None = MAX_ATTEMPTS,
        cursor: str | None = None,
        name: str = NAME,
        version: str = VERSION,
    ) -> None:
        """`cursor` is where to resume. Without it, the first connection starts at the newest event."""
        self._client = {"name": name[:64], "version": version[:64]}
        self._chance = chance
        self._timers = Timers(clock)
        self._actions: list[Action] = []
        self._backoff = Backoff(chance, last_cap_s=max_pause_s, max_attempts=max_attempts)
        self._ways = Ways(transport)
        self._place = Place(None if cursor is None else Cursor.parse(cursor))
        self._rooms = RoomTable(self._timers, chance, self._ask_rooms, self._place, self._tell)
        self._health = Health(self._timers, self._ping, self._is_dead)
        self._renewal = Renewal(self._timers, self._ask_token_for_renewal)
        self._sightings = Sightings(self._timers, self._has_reached, self._tell)
        self._status = Status(max_attempts=max_attempts)
        self._link = 0
        """The link in use. 0 without one."""
        self._way: Way = "websocket"
        self._attempt: _Attempt | None = None
        self._link_numbers = count(1)
        self._token_numbers = count(1)
        self._message_ids = count(1)
        self._renewal_token = 0
        self._session_id = ""
        """The last acknowledged session. The gateway may not know yet that its connection is gone."""
        self._max_frame_bytes = LEAST_FRAME_BYTES
        self._retry_after_s = 0.0
        self._is_degraded = False
        self._said_degraded = False
        """Whether the application was told so. It outlives a reconnect."""
        self._is_proven = False
        """Whether the link in use has lasted for STABLE_S."""
        self._may_renew = True
        """Set by a success, so that a refused token is renewed only once."""
        self._last_close: int | None = None
        """The last close code, until a gateway has acknowledged a `connect` that reports it."""
        self._lost_at: float | None = None
        """When the last connection was lost. None while there is one, and before the first."""
        self._return_pause_s = FIRST_RETURN_S
        self._unanswered: dict[int, Callable[[Frame], None]] = {}
        self._presence: PresenceStatus = "online"
        """The user's status, which each `connect` repeats."""

    # What comes out.

    def actions(self) -> list[Action]:
        """Return what to do since the last call, in order."""
        actions, self._actions = self._actions, []
        return actions

    @property
    def next_at(self) -> float | None:
        """When to call `run_due`, on the clock."""
        return self._timers.next_at

    @property
    def status(self) -> Status:
        return self._status

    @property
    def cursor(self) -> str | None:
        """The place up to which every room has its events. None before the first ack."""
        cursor = self._place.cursor
        return None if cursor is None else str(self._rooms.served_up_to(cursor))

    @property
    def session_id(self) -> str:
        """The gateway's name for this connection. Empty without a connection."""
        return self._session_id if self._link else ""

    @property
    def is_degraded(self) -> bool:
        """Whether events may be late because the gateway cannot reach the broker."""
        return self._is_degraded

    # What the application wants.

    def connect(self) -> None:
        """Open the connection and keep it open. Does nothing if it is already open."""
        if self._status.state in (State.CONNECTING, State.CONNECTED):
            return
        self._backoff.reset()
        self._may_renew = True
        self._dial("connect")

    def retry(self) -> None:
        """Try now, after an error or instead of waiting for the next attempt. Attempts count from 1 again."""
        if self._status.state is State.CONNECTED or self._attempt is not None:
            return
        if self._status.state is not State.CONNECTING:
            self.connect()
            return
        self._backoff.reset()
        self._dial("reconnect")

    def close(self) -> None:
        """Close the connection. The next `connect` has the same rooms and cursor."""
        self._lost_at = None  # the time until the next `connect` is the application's choice
        self._hang_up()
        self._set_state(State.DISCONNECTED)

    def subscribe(
        self, room: str, *, types: Iterable[str] | None = None, cursor: str | None = None, presence: bool = False
    ) -> int:
        """Add a consumer of a room. Returns its number. Raises ValueError if the room or the cursor is malformed."""
        return self._rooms.add(room, types=types, cursor=cursor, presence=presence)

    def unsubscribe(self, consumer: int) -> None:
        """Remove a consumer. The room is left with its last one."""
        self._rooms.remove(consumer)

    def pause(self, consumer: int) -> None:
        """Give a consumer no events until `resume`. Its missed events are then read again from the gateway."""
        self._rooms.pause(consumer)

    def resume(self, consumer: int) -> None:
        self._rooms.resume(consumer)

    def here(self, consumer: int) -> WhoIsHere:
        """Return who is in a consumer's room, as far as the gateway has told."""
        roster = self._rooms.here(consumer)
        return WhoIsHere() if roster is None else roster.here

    def set_presence(self, status: PresenceStatus) -> int:
        """Set the user's status, also for later connections. Returns the number of the `Answered`, or 0 without one.

        Raises ValueError for another status.
        """
        if status not in get_args(PresenceStatus):
            raise ValueError(f"status: expected 'online', 'away' or 'busy', got {status!r}")
        self._presence = status
        return self._request({"type": "presence", "status": status})

    def set_typing(self, room: str, *, is_typing: bool) -> int:
        """Say that the user types. Returns the number of the `Answered`, or 0 without a connection."""
        return self._request({"type": "typing", "room": room, "typing": is_typing})

    def await_sight(self, mark: str | int, timeout_s: float) -> int:
        """Wait until a change came back. Returns the number of the `Sighted`."""
        return self._sightings.wait(mark, timeout_s)

    def forget_sight(self, number: int) -> None:
        self._sightings.forget(number)

    # What happened.

    def run_due(self) -> None:
        """Time has passed."""
        self._timers.run_due()

    def token_arrived(self, number: int, token: str) -> None:
        """A token that `FetchToken` asked for is here."""
        if number == self._renewal_token:
            self._renewal_token = 0
            self._refresh(token)
        elif self._attempt is not None and number == self._attempt.token_number:
            self._attempt.token_number = 0
            self._attempt.token = token
            if self._attempt.is_open:
                self._introduce(self._attempt)
            else:
                self._open(self._attempt, self._ways.first)

    def token_failed(self, number: int, message: str, *, is_final: bool = False) -> None:
        """A token could not be had. `is_final` means that trying again is useless."""
        if number == self._renewal_token:
            self._renewal_token = 0
            self._renewal.answered(is_accepted=False)
        elif self._attempt is not None and number == self._attempt.token_number:
            self._failed(BROKE_OFF, message, is_final=is_final)

    def opened(self, link: int) -> None:
        """A link is open: messages can be sent."""
        attempt = self._attempt
        if attempt is None or attempt.link != link:
            return
        attempt.is_open = True
        if attempt.token:
            self._introduce(attempt)
        else:
            self._fetch_token(attempt, "reconnect")

    def received(self, link: int, frame: Frame) -> None:
        """A message of the gateway came.

        Raises LookupError, TypeError or ValueError if it is malformed. Close the link then, and report `ended`.
        """
        if self._attempt is not None and link == self._attempt.link:
            if frame["type"] == "connection.ack":
                self._accept(self._attempt, frame)
            elif frame["type"] == "error":  # the close that follows cannot carry it
                self._retry_after_s = (frame.get("retryAfterMs") or 0) / 1000
        elif link == self._link:
            self._health.heard()
            self._take(frame)
            self._sightings.look()

    def ended(self, link: int, code: int, reason: str = "") -> None:
        """A link has ended."""
        if self._attempt is not None and link == self._attempt.link:
            self._not_through(code, reason)
        elif link == self._link:
            self._lost(code, reason)

    # Opening.

    def _dial(self, reason: TokenReason) -> None:
        self._timers.stop(_PAUSE)
        self._attempt = _Attempt()
        if not self._link:
            self._set_state(State.CONNECTING, attempt=self._backoff.attempt)
        self._fetch_token(self._attempt, reason)

    def _fetch_token(self, attempt: _Attempt, reason: TokenReason) -> None:
        attempt.token_number = next(self._token_numbers)
        self._tell(FetchToken(attempt.token_number, reason))

    def _open(self, attempt: _Attempt, way: Way) -> None:
        attempt.link = next(self._link_numbers)
        attempt.way = way
        has_another = not self._link and self._ways.after(way) is not None
        self._timers.start(_ATTEMPT, WAY_TIMEOUT_S if has_another else CONNECT_TIMEOUT_S, self._too_late)
        self._tell(Open(attempt.link, way))

    def _too_late(self) -> None:
        if self._attempt is not None:
            self._not_through(BROKE_OFF, f"No connection in time ({self._attempt.way})")

    def _not_through(self, code: int, reason: str) -> None:
        """A link ended before it was acknowledged. If nothing came from the gateway, this way may be blocked."""
        attempt = self._attempt
        assert attempt is not None
        self._ways.failed(attempt.way)
        # Beside a link that works, the other ways need not be tried.
        following = self._ways.after(attempt.way) if code == BROKE_OFF and not self._link else None
        if following is None:
            self._failed(code, reason)
            return
        self._drop_attempt()
        self._attempt = _Attempt(token=attempt.token)
        self._open(self._attempt, following)

    def _return_later(self) -> None:
        """Without a WebSocket, try now and then whether one works."""
        self._timers.start(_RETURN, self._return_pause_s, self._return_now)
        self._return_pause_s = min(LAST_RETURN_S, self._return_pause_s * 2)

    def _return_now(self) -> None:
        if not self._link or not self._ways.is_second_best(self._way):
            return
        if self._attempt is not None:
            self._return_later()
            return
        self._attempt = _Attempt(is_returning=True)  # its token is fetched once it is open: mostly it will not be
        self._open(self._attempt, "websocket")

    def _introduce(self, attempt: _Attempt) -> None:
        message: Message = {
            "type": "connect",
            "id": next(self._message_ids),
            "token": attempt.token,
            "rooms": [],
            "client": self._client,
            **({} if self._place.cursor is None else {"cursor": str(self._place.cursor)}),
            **({} if self._last_close is None else {"lastClose": self._last_close}),
            **({} if self._lost_at is None else {"awayMs": round(1_000 * (self._timers.now - self._lost_at))}),
            **({"replaces": self._session_id} if self._session_id else {}),
            **({} if self._presence == "online" else {"status": self._presence}),
        }
        rooms = self._rooms.introduce(self._max_frame_bytes - bytes_of(message))
        self._tell(Send(attempt.link, {**message, **rooms}))

    def _accept(self, attempt: _Attempt, ack: Frame) -> None:
        self._timers.stop(_ATTEMPT)
        left_at = self._place.cursor
        self._attempt = None
        self._retry_after_s = 0.0
        self._last_close = self._lost_at = None
        self._leave_link()  # from the ack on, only the new connection counts
        self._link, self._way = attempt.link, attempt.way
        self._worked(attempt.way)
        limits = {**_LIMITS, **ack.get("limits", {})}
        self._session_id = ack["sessionId"]
        self._max_frame_bytes = limits["maxFrameBytes"]
        self._is_degraded = ack["degraded"] is True
        self._place.begin(Cursor.parse(ack["cursor"]))
        self._is_proven = False
        self._timers.start(_STABLE, STABLE_S, self._prove)
        self._health.start(ack["heartbeatS"])
        self._set_state(State.CONNECTED)
        self._say_degraded("broker_unreachable")  # or `live`: the old gateway's trouble is not the new one's
        self._rooms.connected(ack.get("rooms", {}), left_at, limits)
        self._sightings.look()

    def _worked(self, way: Way) -> None:
        self._ways.worked(way)
        if way == "websocket":
            self._return_pause_s = FIRST_RETURN_S
        elif self._ways.is_second_best(way):
            self._return_later()

    def _prove(self) -> None:
        """The connection has lasted: reset the counters."""
        self._is_proven = True
        self._backoff.reset()
        self._may_renew = True

    # Ending.

    def _failed(self, code: int, reason: str, *, is_final: bool = False) -> None:
        """An attempt has failed."""
        attempt = self._attempt
        assert attempt is not None
        self._drop_attempt()
        if attempt.is_returning:
            self._return_later()  # the link in use still works
            return
        self._last_close = code
        self._backoff.fail()
        if is_too_large(code) and self._max_frame_bytes > LEAST_FRAME_BYTES:
            # This gateway accepts less than the last one: try the smallest `connect`. Other rooms follow after the ack.
            self._max_frame_bytes = LEAST_FRAME_BYTES
            self._pause(code, reason)
        else:
            self._go_on(code, reason, is_final=is_final)

    def _lost(self, code: int, reason: str) -> None:
        """The connection in use is gone."""
        self._leave_link()
        self._rooms.lost()
        self._last_close, self._lost_at = code, self._timers.now
        if self._attempt is not None and self._attempt.is_returning:
            self._drop_attempt()
        if self._attempt is not None:
            self._set_state(State.CONNECTING, attempt=self._backoff.attempt, reason=_reason_of(code, reason))
            return
        if not self._is_proven:
            self._backoff.fail()
        self._go_on(code, reason)

    def _go_on(self, code: int, reason: str, *, is_final: bool = False) -> None:
        """Look up what to do after a close code, and do it."""
        retry = "no" if is_final else retry_of_close(code)
        may_renew = retry == "token" and self._may_renew
        if self._link and not may_renew:
            self._pause(code, reason)  # the attempt was to take over: the old connection still works
        elif is_final:
            self._stop(Reason("unusable", reason))
        elif may_renew:
            self._may_renew = False
            self._dial("refused")
        elif retry != "backoff":
            self._stop(_reason_of(code, reason))
        elif self._backoff.is_exhausted:
            why = f": {reason}" if reason else ""
            self._stop(Reason(UNREACHABLE, f"No connection after {self._backoff.max_attempts} attempts{why}"))
        else:
            self._pause(code, reason)

    def _pause(self, code: int, reason: str) -> None:
        pause_s = self._backoff.next_s() + self._retry_after_s
        self._retry_after_s = 0.0
        if not self._link:
            self._set_state(State.CONNECTING, attempt=self._backoff.attempt, reason=_reason_of(code, reason))
        self._timers.start(_PAUSE, pause_s, lambda: self._dial("reconnect"))

    def _stop(self, reason: Reason) -> None:
        self._hang_up()
        self._set_state(State.ERROR, attempt=self._backoff.failures, reason=reason)

    def _hang_up(self) -> None:
        self._drop_attempt()
        self._leave_link()
        self._rooms.lost()

    def _drop_attempt(self) -> None:
        self._timers.stop(_ATTEMPT)
        if self._attempt is not None and self._attempt.link:
            self._tell(Drop(self._attempt.link))
        self._attempt = None

    def _leave_link(self) -> None:
        for alarm in (_STABLE, _PAUSE, _RETURN):
            self._timers.stop(alarm)
        self._health.stop()
        self._renewal.stop()
        self._renewal_token = 0
        unanswered, self._unanswered = self._unanswered, {}
        for message_id in unanswered:
            self._tell(Answered(message_id, Refusal("closed", "The connection ended before the answer came")))
        self._is_degraded = False
        if self._link:
            self._tell(Drop(self._link))
        self._link = 0

    # Messages of the gateway.

    def _take(self, frame: Frame) -> None:
        match frame["type"]:
            case "event":
                self._take_event(frame)
            case "reply":
                self._take_answer(frame)
            case "position":
                self._place.advance(Cursor.parse(frame["cursor"]))
            case "restored":
                self._rooms.restore(frame["id"], frame["rooms"], frame["events"])
                for one in frame["events"]:
                    self._sightings.note(one["event"]["id"])
            case "resync":
                self._take_resync(frame)
            case "room.left":
                self._rooms.left(frame["room"], frame["reason"])
            case "role.changed":
                self._tell(RoleChanged(frame["root"], frame["role"]))
            case "presence":
                self._rooms.presence(frame)
            case "typing":
                self._rooms.typing(frame)
            case "token.expiring":
                self._renewal.start(frame["inS"])
            case "degraded" | "live":
                self._is_degraded = frame["type"] == "degraded"
                self._say_degraded(frame.get("reason", ""))
            case "goaway":
                self._move_soon(frame["afterMs"] / 1000, frame["withinMs"] / 1000)
            case "error":
                self._tell(MessageRefused(Refusal.of(frame)))
                self._take_answer({**frame, "success": False, "error": frame})
            # Other types belong to a newer protocol, and are ignored.

    def _take_event(self, frame: Frame) -> None:
        # An event without an offset is applied in any case. It is ephemeral, or the gateway held it back (conflation).
        # Then it has the cursor that this session has reached.
        if "offset" in frame and not self._place.take(self._place.epoch, frame["offset"]):
            return
        if "cursor" in frame:
            self._place.advance(Cursor.parse(frame["cursor"]))
        self._rooms.deliver(frame)
        self._sightings.note(frame["event"]["id"])

    def _take_answer(self, answer: Frame) -> None:
        on_answer = self._unanswered.pop(answer.get("id", 0), None)
        if on_answer is not None:
            on_answer(answer)
        if "cursor" in answer:  # after the answer: the joined rooms begin at this cursor
            self._place.advance(Cursor.parse(answer["cursor"]))

    def _take_resync(self, frame: Frame) -> None:
        cursor = Cursor.parse(frame["cursor"])
        self._place.cursor = cursor
        self._rooms.resync(Resync(tuple(frame["rooms"]), frame["reason"], frame["cursor"]), cursor)
        self._sightings.skipped(cursor.epoch)

    def _move_soon(self, after_s: float, within_s: float) -> None:
        """The gateway stops. Open the next connection, and leave this one when the next one is acknowledged.

        A random delay is added to the gateway's, so that clients do not all arrive at once. Most of the remaining time
        is left for connecting, and for trying again.
        """
        spread_s = min(_MOST_SPREAD_S, max(0.0, within_s - after_s) / 4)
        self._timers.start(_PAUSE, after_s + self._chance() * spread_s, self._move)

    def _move(self) -> None:
        if self._attempt is None or self._attempt.is_returning:
            self._drop_attempt()
            self._dial("reconnect")

    def _say_degraded(self, reason: str) -> None:
        """Tell the application if that has changed."""
        if self._is_degraded != self._said_degraded:
            self._said_degraded = self._is_degraded
            self._tell(Degraded(reason) if self._is_degraded else Live())

    # Messages of the client.

    def _ask_rooms(self, message: Message, on_answer: Callable[[Answer], None]) -> int:
        def take(answer: Frame) -> None:
            refusal = None if answer["success"] else Refusal.of(answer.get("error"))
            on_answer(Answer(answer.get("rooms"), refusal))

        return self._post(message, take)

    def _request(self, message: Message) -> int:
        """Send a request of the application. Returns the number of its `Answered`, or 0 without a connection."""

        def take(answer: Frame) -> None:
            self._tell(Answered(answer["id"], None if answer["success"] else Refusal.of(answer.get("error"))))

        self._rooms.pace.sent_otherwise()
        return self._post(message, take)

    def _post(self, message: Message, on_answer: Callable[[Frame], None]) -> int:
        if not self._link:
            return 0
        message_id = next(self._message_ids)
        self._unanswered[message_id] = on_answer
        self._tell(Send(self._link, {**message, "id": message_id}))
        return message_id

    def _ping(self) -> None:
        self._rooms.pace.sent_otherwise()
        self._post({"type": "ping"}, lambda _answer: None)

    def _is_dead(self) -> None:
        self._lost(BROKE_OFF, "No answer to a ping")

    def _ask_token_for_renewal(self) -> None:
        self._renewal_token = next(self._token_numbers)
        self._tell(FetchToken(self._renewal_token, "expiring"))

    def _refresh(self, token: str) -> None:
        self._rooms.pace.sent_otherwise()
        self._post(
            {"type": "refresh", "token": token},
            lambda answer: self._renewal.answered(is_accepted=answer["success"] is True),
        )

    # The rest.

    def _has_reached(self, mark: Cursor | int) -> bool:
        cursor = self._place.cursor
        if cursor is None:
            return False
        place = Cursor(cursor.epoch, mark) if isinstance(mark, int) else mark
        return Place(self._rooms.served_up_to(cursor)).has_reached(place)

    def _set_state(self, state: State, *, attempt: int = 0, reason: Reason | None = None) -> None:
        before = self._status
        status = Status(
            state,
            attempt,
            before.max_attempts,
            is_reconnect=state is not State.DISCONNECTED and (before.is_reconnect or before.state is State.CONNECTED),
            transport=self._way if state is State.CONNECTED else None,
            reason=reason,
        )
        if status == before:
            return
        self._status = status
        if state is State.DISCONNECTED:
            self._sightings.fail("closed", "The client was closed")
        elif state is State.ERROR:
            self._sightings.fail("closed", f"The connection ended: {reason.message if reason else ''}")
        self._tell(StateChanged(status))

    def _tell(self, action: Action) -> None:
        self._actions.append(action)


def _reason_of(code: int, reason: str) -> Reason:
    return Reason(*describe_close(code, reason))
