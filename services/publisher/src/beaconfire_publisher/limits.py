"""Limit each user and each root over HTTP: requests, bodies, events, and a share of the stream.

Requests and bodies are counted in this process, with the caller's time. Events are counted in the database, in the
transaction that writes them (`stream_usage`). So all processes count together, and a restart does not reset the counts.

A limit is a bucket that empties evenly. It is remembered as the moment when it will be empty (GCRA, ATM Forum TM 4.0).
A request is accepted if its bucket has room for one event or byte, even if it has more. The next one then waits longer.
So no request is too large to be accepted at all.
"""

import math
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Float, MetaData, String, Table

from beaconfire_kit import errors, metrics
from beaconfire_kit.broker import MAX_AGE_S, MAX_BYTES
from beaconfire_kit.envelope import Envelope
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.rates import spend
from beaconfire_kit.subjects import root_name

LIMITED = metrics.Counter(
    "beaconfire_publisher_requests_over_limit_total",
    "Requests refused because a user or a root was over a limit, by limit.",
    ["limit"],
)

MINUTE_S = 60.0
REMEMBERED_S = 24 * 3600
"""How long an empty row of `stream_usage` is kept, so that it is not created again and again."""
REMEMBERED = 20_000
"""Users and roots that this process counts requests of at a time. It forgets the one that was idle longest."""


def table(metadata: MetaData) -> Table:
    """Return the table of what users and roots have published: when each bucket will be empty (Unix seconds)."""
    return Table(
        "stream_usage",
        metadata,
        Column("scope", String(160), primary_key=True),
        Column("events", Float(53), nullable=False),
        Column("bytes", Float(53), nullable=False),
        Column("share", Float(53), nullable=False),
        Column("at", Float(53), nullable=False),
    )


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of `amount` in every `window_s` seconds. 0 means no limit."""

    name: str
    what: str
    amount: float
    window_s: float = MINUTE_S

    def seconds(self, count: float) -> float:
        """Return how long it takes until this many are forgotten."""
        return self.window_s * count / self.amount if self.amount else 0.0

    def check(self, empty_at: float, now: float) -> None:
        """Raise BeaconfireError `too_many` if the bucket has no room for one more."""
        if not self.amount:
            return
        _, wait_s = spend(empty_at, 1, self.amount, now, self.window_s)
        if not wait_s:
            return
        LIMITED.labels(self.name).inc()
        reset_s = max(1, math.ceil(wait_s))
        raise BeaconfireError(
            errors.TOO_MANY,
            f"{self.what}: at most {self.amount:.0f} in {_period(self.window_s)}; try again in {reset_s} s",
            retry_after_ms=reset_s * 1000,
            headers={
                "RateLimit-Limit": f"{self.amount:.0f}",
                "RateLimit-Remaining": "0",
                "RateLimit-Reset": str(reset_s),
                "RateLimit-Policy": f'"{self.name}";q={self.amount:.0f};w={self.window_s:.0f}',
                "RateLimit": f'"{self.name}";r=0;t={reset_s}',
            },
        )


@dataclass(frozen=True, slots=True)
class Stored:
    """The limits on what one user, or one root, stores in the stream."""

    events: Limit
    bytes: Limit
    share: Limit

    def row(self, scope: str, count: int, size: int, now: float) -> dict[str, Any]:
        """Return an empty row of `stream_usage` with this many events and bytes added."""
        return {
            "scope": scope,
            "events": now + self.events.seconds(count),
            "bytes": now + self.bytes.seconds(size),
            "share": now + self.share.seconds(size),
            "at": now,
        }

    def check(self, row: Any, added: Mapping[str, Any] | None, now: float) -> None:
        """Raise BeaconfireError `too_many` if the row was full before `added` was added."""
        for limit, name in ((self.events, "events"), (self.bytes, "bytes"), (self.share, "share")):
            limit.check(getattr(row, name) - (added[name] - now if added else 0.0), now)


@dataclass(frozen=True, slots=True)
class PublishingLimits:
    """The limits on what users publish: per user, and per root."""

    user: Stored
    root: Stored

    @classmethod
    def of(cls, *, user: tuple[int, int, float], root: tuple[int, int, float]) -> "PublishingLimits":
        """For each: events per minute, their bytes per minute, and percent of the stream."""
        return cls(
            _stored("user", "you publish", *user), _stored("root", "all its members publish in this root", *root)
        )

    def of_scope(self, scope: str) -> Stored:
        """Return the limits on a row of `stream_usage`."""
        return self.user if scope.startswith("user:") else self.root


def _stored(name: str, who: str, events: int, size: int, percent: float) -> Stored:
    return Stored(
        Limit(f"{name}_events", f"events that {who}", events),
        Limit(f"{name}_bytes", f"bytes of events that {who}", size),
        Limit(f"{name}_share", f"bytes of the history for events that {who}", MAX_BYTES * percent / 100, MAX_AGE_S),
    )


class Requests:
    """Count requests and their bodies in this process."""

    def __init__(self, *, user_requests: int, user_body_bytes: int, root_requests: int, root_sends: int) -> None:
        """The amounts allowed per minute."""
        self._user_requests = Limit("user_requests", "your requests", user_requests)
        self._user_bodies = Limit("user_bodies", "bytes of your requests' bodies", user_body_bytes)
        self._root_requests = Limit("root_requests", "requests of all its members to this root", root_requests)
        self._root_sends = Limit("root_sends", "events sent to the rooms of this root", root_sends)
        self._empty_at: OrderedDict[tuple[str, str], float] = OrderedDict()

    def by_user(self, user_id: str, now: float) -> None:
        """Count a request of a user. Raises BeaconfireError `too_many`."""
        self._user_bodies.check(self._empty_at.get(("body", user_id), 0.0), now)
        self._spend(self._user_requests, ("user", user_id), 1, now)

    def to_root(self, root: str, now: float) -> None:
        """Count a request to a root. Raises BeaconfireError `too_many`."""
        self._spend(self._root_requests, ("root", root), 1, now)

    def sends(self, roots: Collection[str], now: float) -> None:
        """Count an event that is sent to rooms of these roots, or none of it. Raises BeaconfireError `too_many`."""
        for root in roots:
            self._root_sends.check(self._empty_at.get(("sends", root), 0.0), now)
        for root in roots:
            self._add(self._root_sends, ("sends", root), 1, now)

    def sent(self, user_id: str, size: int, now: float) -> None:
        """Count the bytes of a request's body for its user."""
        self._add(self._user_bodies, ("body", user_id), size, now)

    def _spend(self, limit: Limit, key: tuple[str, str], count: int, now: float) -> None:
        limit.check(self._empty_at.get(key, 0.0), now)
        self._add(limit, key, count, now)

    def _add(self, limit: Limit, key: tuple[str, str], count: int, now: float) -> None:
        if limit.amount and count:
            self._empty_at[key] = max(self._empty_at.get(key, 0.0), now) + limit.seconds(count)
            self._empty_at.move_to_end(key)
            if len(self._empty_at) > REMEMBERED:
                self._empty_at.popitem(last=False)


def totals(user_id: str | None, envelopes: Iterable[Envelope], sizes: Iterable[int]) -> Mapping[str, tuple[int, int]]:
    """Return how many events and bytes count for the user and for each root, by the scope of their row."""
    found: dict[str, tuple[int, int]] = {}
    for envelope, size in zip(envelopes, sizes, strict=True):
        for scope in (f"root:{root_name(envelope.subject)}", *([f"user:{user_id}"] if user_id else [])):
            count, so_far = found.get(scope, (0, 0))
            found[scope] = (count + 1, so_far + size)
    return found


def _period(seconds: float) -> str:
    return "a minute" if seconds == MINUTE_S else f"{seconds / 86_400:.0f} days"
