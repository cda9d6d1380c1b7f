"""Store the outcome of a request under its idempotency key, so that a repeat has no second effect.

A key belongs to one caller. The outcome is stored in the transaction of the request's changes, with a fingerprint of
the request. Another request under the same key is a mistake, and is refused. Keys are kept for `KEEP`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import JSON, Boolean, Column, MetaData, String, Table

from beaconfire_kit import errors
from beaconfire_kit.database import UtcDateTime
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.inbox import digest

KEEP = timedelta(days=8)


def table(metadata: MetaData) -> Table:
    """The table of keys."""
    return Table(
        "idempotency_keys",
        metadata,
        Column("key", String(64), primary_key=True),
        Column("fingerprint", String(64), nullable=False),
        Column("outcome", JSON, nullable=False),
        Column("is_done", Boolean, nullable=False),
        Column("created_at", UtcDateTime, nullable=False, index=True),
    )


@dataclass(frozen=True, slots=True)
class Key:
    """A caller's key, and the request that it stands for."""

    name: str
    fingerprint: str
    before: str
    """The id that releases without the table of keys gave to what was created under it."""
    fingerprints_before: tuple[str, ...] = ()
    """What releases before called the same request."""

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """Every fingerprint of this request."""
        return (self.fingerprint, *self.fingerprints_before)


@dataclass(frozen=True, slots=True)
class Earlier:
    """The outcome of an earlier request under a key."""

    outcome: Mapping[str, Any]
    is_done: bool
    """False if the request was cut off between its two transactions. Then it must be completed."""
    fingerprint: str


def key_of_request(scope: str, text: str, *, method: str, path: str, body: object, before: str) -> Key:
    """Return the key of a request, from its `Idempotency-Key`. `scope` names the caller. `body` is JSON."""
    return Key(digest("request", scope, text), digest(method, path, _canonical(body)), before)


def key_of_event(scope: str, id_: str, *, subject: str, events: Sequence[Mapping[str, Any]]) -> Key:
    """Return the key of an event, from the id that its publisher chose. The event's time may differ in a repeat.

    `events` are its type, version and payload, as this release stores them and as releases before stored them.
    """
    fingerprint, *before = [digest(subject, _canonical(said)) for said in events]
    return Key(digest("event", scope, id_), fingerprint, id_, tuple(before))


def another_request() -> BeaconfireError:
    """Return the error for a key that was used before for another request."""
    return BeaconfireError(
        errors.CONFLICT,
        "Idempotency-Key: you used this key for another request in the last days (another path or body): take a new "
        "key for each new request",
    )


def _canonical(value: object) -> str:
    """Return JSON that is the same for the same value, in whatever order it was sent."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
