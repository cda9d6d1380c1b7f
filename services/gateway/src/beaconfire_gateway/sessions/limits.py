"""Limit the requests of clients. No I/O. Time comes from the caller.

A rate is a bucket that holds as much as a minute allows and fills evenly (GCRA, ATM Forum TM 4.0: one number of state).
A burst of a whole minute's worth passes, after it one at a time.

Everything here counts for this process: behind N gateways a user or an address has N times as much.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from beaconfire_kit import errors, metrics
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.rates import remaining, spend

LIMITED = metrics.Counter(
    "beaconfire_gateway_requests_over_limit_total",
    "Requests and connections refused because they were over a limit, by limit.",
    ["limit"],
)

POLLS_PER_MINUTE = 300
"""Of one client: a long poll that continues a subscription is answered at most five times a second."""
PATIENCE = 100
"""Refusals a minute after which a client is closed instead of answered."""


class Limits(BaseModel, frozen=True):
    """The limits of a session, a user and an address. The gateway's settings include these fields."""

    heartbeat_s: int = Field(
        25, ge=1, le=300, description="Seconds between two pings to a client, and between two `position` messages"
    )
    plain_ping_s: int = Field(
        30, ge=1, le=300, description="Seconds between two pings to a client of the plain protocol"
    )
    plain_dead_after_s: int = Field(
        60,
        ge=2,
        le=3_600,
        description="Seconds after which a client of the plain protocol that sends nothing is dropped; more than "
        "BEACONFIRE_PLAIN_PING_S",
    )
    connect_timeout_s: int = Field(10, ge=1, le=60, description="Seconds in which a client must send its first message")
    max_frame_bytes: int = Field(
        16_384, ge=1_024, le=1_048_576, description="The largest message that a client may send, in bytes"
    )
    max_rooms: int = Field(100, ge=1, le=10_000, description="Rooms that a connection may be in")
    max_rooms_per_user: int = Field(1_000, ge=1, description="Rooms that all connections of a user may be in together")
    max_sessions_per_user: int = Field(20, ge=1, description="Connections that a user may have to this process")
    max_sessions_per_address: int = Field(
        200,
        ge=1,
        description="Connections from one address (for IPv6, one /64) to this process; see BEACONFIRE_TRUSTED_PROXIES",
    )
    max_connecting: int = Field(5_000, ge=1, description="Connections to this process that have not sent `connect` yet")
    max_connecting_per_address: int = Field(
        100, ge=1, description="Connections from one address to this process that have not sent `connect` yet"
    )
    attempts_per_minute_address: int = Field(
        10, ge=1, description="Invalid tokens that one address may send per minute. Expired ones do not count"
    )
    messages_per_minute: int = Field(100, ge=1, description="Messages that a connection may send per minute")
    messages_per_minute_per_user: int = Field(
        1_000, ge=1, description="Messages that all connections of a user together may send per minute"
    )
    rooms_per_minute: int = Field(600, ge=1, description="Rooms that a connection may request per minute")
    rooms_per_minute_per_user: int = Field(
        3_000, ge=1, description="Rooms that all connections of a user together may request per minute"
    )
    typing_per_minute_per_user: int = Field(
        60, ge=1, description="Messages about typing that all connections of a user together may send per minute"
    )
    statuses_per_minute_per_user: int = Field(
        30, ge=1, description="Changes of status that all connections of a user together may send per minute"
    )
    selections_per_minute_per_user: int = Field(
        120, ge=1, description="Selections that all connections of a user together may send per minute"
    )

    @field_validator("plain_dead_after_s")
    @classmethod
    def _check_plain_dead_after_s(cls, value: int, info: ValidationInfo) -> int:
        ping_s = info.data.get("plain_ping_s", 0)
        if value <= ping_s:
            raise ValueError(f"must be more than PLAIN_PING_S ({ping_s}), or clients have no time to answer a ping")
        return value

    def announced(self) -> dict[str, int]:
        """Return the limits that the ack announces to a client."""
        return {
            "maxFrameBytes": self.max_frame_bytes,
            "maxRooms": self.max_rooms,
            "maxRoomsPerUser": self.max_rooms_per_user,
            "maxSessionsPerUser": self.max_sessions_per_user,
            "maxSessionsPerAddress": self.max_sessions_per_address,
            "messagesPerMinute": self.messages_per_minute,
            "messagesPerMinutePerUser": self.messages_per_minute_per_user,
            "roomsPerMinute": self.rooms_per_minute,
            "roomsPerMinutePerUser": self.rooms_per_minute_per_user,
            "typingPerMinutePerUser": self.typing_per_minute_per_user,
            "statusesPerMinutePerUser": self.statuses_per_minute_per_user,
            "selectionsPerMinutePerUser": self.selections_per_minute_per_user,
        }


class LimitReached(BeaconfireError):
    """Over a limit. `limit` is a fixed word for metrics. `wait_s` is the time until it resets, if it does."""

    def __init__(self, limit: str, text: str, *, wait_s: float | None = None) -> None:
        super().__init__(errors.TOO_MANY, text, retry_after_ms=None if wait_s is None else int(wait_s * 1000) + 1)
        self.limit = limit


class Rate:
    """A rate of so many a minute."""

    __slots__ = ("_empty_at", "_per_minute")

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._empty_at = 0.0

    def spend(self, count: int, now: float) -> float:
        """Spend `count` at time `now`. 0.0 if it was granted, else the seconds to wait; see `spend`."""
        self._empty_at, wait_s = spend(self._empty_at, count, self._per_minute, now)
        return wait_s


class _Terms(NamedTuple):
    """The rates of an allowance, and its name in refusals."""

    whose: str
    prefix: str
    messages_per_minute: int
    rooms_per_minute: int
    leaves_per_minute: int
    polls_per_minute: int
    messages_name: str
    rooms_name: str


@lru_cache(maxsize=4)
def _terms_of(limits: Limits) -> tuple[_Terms, _Terms]:
    """For a session, and for a user over all of its sessions. All allowances share these two."""
    messages, rooms = limits.messages_per_minute, limits.rooms_per_minute
    user_messages, user_rooms = limits.messages_per_minute_per_user, limits.rooms_per_minute_per_user
    return (
        _Terms(
            "a connection",
            "",
            messages_per_minute=messages,
            rooms_per_minute=rooms,
            leaves_per_minute=messages + rooms + limits.max_rooms,
            polls_per_minute=POLLS_PER_MINUTE,
            messages_name="messagesPerMinute",
            rooms_name="roomsPerMinute",
        ),
        _Terms(
            "a user",
            "user_",
            messages_per_minute=user_messages,
            rooms_per_minute=user_rooms,
            leaves_per_minute=user_messages + user_rooms + limits.max_rooms_per_user,
            polls_per_minute=POLLS_PER_MINUTE * limits.max_sessions_per_user,
            messages_name="messagesPerMinutePerUser",
            rooms_name="roomsPerMinutePerUser",
        ),
    )


class Allowance:
    """The rates of one session. `UserAllowance` has those of a user."""

    __slots__ = ("_leaves_empty_at", "_messages_empty_at", "_polls_empty_at", "_rooms_empty_at", "_terms")

    def __init__(self, terms: _Terms) -> None:
        self._terms = terms
        self._leaves_empty_at = 0.0
        self._messages_empty_at = 0.0
        self._polls_empty_at = 0.0
        self._rooms_empty_at = 0.0

    @classmethod
    def of_session(cls, limits: Limits) -> "Allowance":
        return cls(_terms_of(limits)[0])

    def spend_message(self, now: float, *, worth: int = 1) -> None:
        """Count a message, or something that costs as much as several. Raises LimitReached."""
        terms = self._terms
        count = min(worth, terms.messages_per_minute)
        self._messages_empty_at, wait_s = spend(self._messages_empty_at, count, terms.messages_per_minute, now)
        if wait_s:
            text = f"{terms.whose} may send {terms.messages_per_minute} messages a minute"
            raise LimitReached(f"{terms.prefix}messages", text, wait_s=wait_s)

    def spend_leave(self, now: float) -> None:
        """Count an `unsubscribe`. Raises LimitReached, but never for a client that leaves only rooms it was in.

        It has a separate rate, so that a client at its limit can still leave. A minute's worth is the rooms that may be
        joined in a minute, the rooms that may be held, and one leave for each message.
        """
        terms = self._terms
        self._leaves_empty_at, wait_s = spend(self._leaves_empty_at, 1, terms.leaves_per_minute, now)
        if wait_s:
            text = f"{terms.whose} may leave rooms {terms.leaves_per_minute} times a minute"
            raise LimitReached(f"{terms.prefix}leaves", text, wait_s=wait_s)

    def spend_rooms(self, count: int, now: float) -> None:
        """Count rooms that are asked for. Raises LimitReached."""
        terms = self._terms
        self._rooms_empty_at, wait_s = spend(self._rooms_empty_at, count, terms.rooms_per_minute, now)
        if wait_s:
            text = f"{terms.whose} may ask for {terms.rooms_per_minute} rooms a minute"
            raise LimitReached(f"{terms.prefix}rooms", text, wait_s=wait_s)

    def spend_poll(self, now: float) -> None:
        """Count a long poll that continues a subscription. Raises LimitReached."""
        terms = self._terms
        self._polls_empty_at, wait_s = spend(self._polls_empty_at, 1, terms.polls_per_minute, now)
        if wait_s:
            text = f"{terms.whose} may poll {terms.polls_per_minute} times a minute"
            raise LimitReached(f"{terms.prefix}polls", text, wait_s=wait_s)

    def remaining(self, now: float) -> dict[str, int]:
        """Return what may still be spent at once, by the name under which the ack announces the limit."""
        terms = self._terms
        return {
            terms.messages_name: remaining(self._messages_empty_at, terms.messages_per_minute, now),
            terms.rooms_name: remaining(self._rooms_empty_at, terms.rooms_per_minute, now),
        }

    def is_full(self, now: float) -> bool:
        """Whether everything spent was given back."""
        return max(self._messages_empty_at, self._rooms_empty_at, self._leaves_empty_at, self._polls_empty_at) <= now

    def reset(self) -> None:
        """Forget what was spent."""
        self._messages_empty_at = self._rooms_empty_at = self._leaves_empty_at = self._polls_empty_at = 0.0


class UserAllowance(Allowance):
    """The rates of one user over all of its sessions."""

    __slots__ = ("_limits", "_selections_empty_at", "_statuses_empty_at", "_typing_empty_at")

    def __init__(self, limits: Limits) -> None:
        super().__init__(_terms_of(limits)[1])
        self._limits = limits
        self._typing_empty_at = 0.0
        self._selections_empty_at = 0.0
        self._statuses_empty_at = 0.0

    def spend_typing(self, now: float) -> None:
        """Count a message about typing. Raises LimitReached."""
        per_minute = self._limits.typing_per_minute_per_user
        self._typing_empty_at, wait_s = spend(self._typing_empty_at, 1, per_minute, now)
        if wait_s:
            text = f"a user may say {per_minute} times a minute whether they are typing"
            raise LimitReached("user_typing", text, wait_s=wait_s)

    def spend_status(self, now: float) -> None:
        """Count a change of status. Each is told in all rooms of its session. Raises LimitReached."""
        per_minute = self._limits.statuses_per_minute_per_user
        self._statuses_empty_at, wait_s = spend(self._statuses_empty_at, 1, per_minute, now)
        if wait_s:
            text = f"a user may change the status {per_minute} times a minute"
            raise LimitReached("user_statuses", text, wait_s=wait_s)

    def spend_selection(self, now: float) -> None:
        """Count a selection. Raises LimitReached."""
        per_minute = self._limits.selections_per_minute_per_user
        self._selections_empty_at, wait_s = spend(self._selections_empty_at, 1, per_minute, now)
        if wait_s:
            raise LimitReached("user_selections", f"a user may select {per_minute} times a minute", wait_s=wait_s)

    def remaining(self, now: float) -> dict[str, int]:
        limits = self._limits
        return {
            **super().remaining(now),
            "typingPerMinutePerUser": remaining(self._typing_empty_at, limits.typing_per_minute_per_user, now),
            "statusesPerMinutePerUser": remaining(self._statuses_empty_at, limits.statuses_per_minute_per_user, now),
            "selectionsPerMinutePerUser": remaining(
                self._selections_empty_at, limits.selections_per_minute_per_user, now
            ),
        }

    def is_full(self, now: float) -> bool:
        last = max(self._typing_empty_at, self._selections_empty_at, self._statuses_empty_at)
        return super().is_full(now) and last <= now

    def reset(self) -> None:
        super().reset()
        self._typing_empty_at = self._selections_empty_at = self._statuses_empty_at = 0.0


class Users:
    """The allowances of users, kept until they are full again. So a user that reconnects does not get a new one.

    Look it up for each use: one that is kept elsewhere may have been forgotten here.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._allowances: dict[str, UserAllowance] = {}

    def __len__(self) -> int:
        return len(self._allowances)

    def __iter__(self) -> Iterator[str]:
        return iter(self._allowances)

    def of(self, user_id: str) -> UserAllowance:
        allowance = self._allowances.get(user_id)
        if allowance is None:
            allowance = self._allowances[user_id] = UserAllowance(self._limits)
        return allowance

    def forget(self, now: float) -> None:
        """Drop those that are full again. Call it every second or so."""
        for user_id in [one for one, allowance in self._allowances.items() if allowance.is_full(now)]:
            del self._allowances[user_id]


class Doorkeeper:
    """Counts connections: by address, and those that have not sent `connect` yet. An address may be any string.

    A connection counts from `enter` to `leave`, which must always be called. After `connect` it counts as long as a
    session on it lasts. So a connection that is only being closed does not keep a returning client out.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._connecting: Counter[str] = Counter()
        self._connected: Counter[str] = Counter()
        self._attempts: dict[str, float] = {}
        """When each address has its attempts back. `forget` drops those that have."""
        self.connecting = 0
        """Connections that have not sent `connect` yet."""

    @property
    def addresses(self) -> Mapping[str, int]:
        """How many connections each address has."""
        return self._connected + self._connecting

    def enter(self, address: str) -> None:
        """Count a new connection. Raises LimitReached, and does not count it then."""
        limits, wait_s = self._limits, float(self._limits.connect_timeout_s)
        if self.connecting >= limits.max_connecting:
            text = f"more than {limits.max_connecting} connections have not sent connect yet: try again"
            raise LimitReached("connecting", text, wait_s=wait_s)
        if self._connecting[address] >= limits.max_connecting_per_address:
            count = limits.max_connecting_per_address
            text = f"{count} connections from this address have not sent connect yet: try again"
            raise LimitReached("address_connecting", text, wait_s=wait_s)
        self._connecting[address] += 1
        self.connecting += 1

    def is_full(self, address: str, *, replaced: str | None) -> bool:
        """Whether one more session of this address would be too many.

        `replaced` is the address of the session that it takes over from, if any.
        """
        return self._connected[address] - (replaced == address) >= self._limits.max_sessions_per_address

    def check(self, address: str, *, replaced: str | None) -> None:
        """Raises LimitReached if it `is_full`."""
        if self.is_full(address, replaced=replaced):
            limit = self._limits.max_sessions_per_address
            raise LimitReached("address_sessions", f"one address may have {limit} connections")

    def spend_attempt(self, address: str, now: float) -> None:
        """Count an invalid token. Raises LimitReached if the address has sent too many."""
        limit = self._limits.attempts_per_minute_address
        empty_at, wait_s = spend(self._attempts.get(address, 0.0), 1, limit, now)
        if wait_s:
            text = f"one address may send {limit} invalid tokens a minute"
            raise LimitReached("address_attempts", text, wait_s=wait_s)
        self._attempts[address] = empty_at

    def forget_attempts(self, address: str) -> None:
        """Let an address send invalid tokens again (an operator's decision)."""
        self._attempts.pop(address, None)

    def forget(self, now: float) -> None:
        """Drop the counts of attempts that are over. Call it every second or so."""
        for address in [one for one, empty_at in self._attempts.items() if empty_at <= now]:
            del self._attempts[address]

    def connected(self, address: str) -> None:
        """A connection that was counted has sent `connect`."""
        self.leave(address, was_connected=False)
        self._connected[address] += 1

    def disconnected(self, address: str) -> None:
        """Undo `connected`: the connection is open, but no session is on it any more."""
        self.leave(address, was_connected=True)
        self._connecting[address] += 1
        self.connecting += 1

    def leave(self, address: str, *, was_connected: bool) -> None:
        """A connection is gone."""
        counts = self._connected if was_connected else self._connecting
        counts[address] -= 1
        if not counts[address]:
            del counts[address]
        self.connecting -= not was_connected
