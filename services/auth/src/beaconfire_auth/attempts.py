"""Limit sign-ins and sign-ups per minute, by address and by account, and changes of members by each user and service.

Changes of members are limited because each is an event, which takes room in the history of all users. Attempts are
counted in the database, so that all auth processes together allow as much as one would. A bucket is one number: the
moment until which the allowance is used up (GCRA). A refused attempt costs a read and changes nothing.
"""

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import Executable, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from beaconfire_auth.settings import Settings
from beaconfire_auth.store import ATTEMPTS
from beaconfire_kit import errors, logs, metrics
from beaconfire_kit.client_addresses import client_network
from beaconfire_kit.database import Database
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.rates import spend

log = logs.get(__name__)

REFUSED = metrics.Counter(
    "beaconfire_auth_attempts_over_limit_total",
    "Attempts to sign in, sign up or change members that were refused because they were over a limit, by limit.",
    ["limit"],
)

_WHAT = {
    "address": "attempts from this address",
    "account": "attempts for this account",
    "member_changes": "changes of members by you",
    "service_changes": "changes by this service",
}


@dataclass(frozen=True, slots=True)
class _Count:
    full_until: float
    is_new: bool


class Attempts:
    """Count attempts against the limits of the settings."""

    def __init__(self, settings: Settings, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._limits = {
            "address": settings.attempts_per_minute_address,
            "account": settings.attempts_per_minute_account,
            "member_changes": settings.member_changes_per_minute,
            "service_changes": settings.service_changes_per_minute,
        }

    async def count(self, *, address: str, email: str) -> None:
        """Count one attempt for both. Raises `too_many` with the time until the next, and does not count it."""
        await self._count({"address": _name("address", client_network(address)), "account": _name("account", email)})

    async def count_member_change(self, user_id: str) -> None:
        """Count one attempt of a user to change a membership. Raises `too_many` as `count` does."""
        await self._count({"member_changes": _name("member_changes", user_id)})

    async def count_service_changes(self, service: str, count: int) -> None:
        """Count changes of members and access that a service asks for. Raises `too_many` as `count` does."""
        await self._count({"service_changes": _name("service_changes", service)}, count)

    async def _count(self, names: Mapping[str, str], cost: int = 1) -> None:
        async with self._database.reading() as connection:
            # Unlocked first, so that a flood does not queue for the write lock.
            await self._check(connection, names, cost, locked=False)
        while True:
            try:
                async with self._database.writing() as tx:
                    for name, count in (await self._check(tx, names, cost, locked=True)).items():
                        await tx.execute(_write(name, count))
                return
            except IntegrityError:
                log.debug("another process created the same count first, reading it again")

    async def reset(self, *, address: str | None = None, email: str | None = None) -> None:
        """Forget the attempts of an address, an account, or both."""
        names = [_name("address", client_network(address))] if address else []
        names += [_name("account", email)] if email else []
        async with self._database.writing() as tx:
            await tx.execute(delete(ATTEMPTS).where(ATTEMPTS.c.counted.in_(names)))
        log.info("reset the attempts", address=bool(address), account=bool(email))

    async def forget(self) -> None:
        """Delete expired counts. Every process calls this from time to time."""
        async with self._database.writing() as tx:
            await tx.execute(delete(ATTEMPTS).where(ATTEMPTS.c.full_until < self._clock()))

    async def _check(
        self, connection: AsyncConnection, names: Mapping[str, str], cost: int, *, locked: bool
    ) -> dict[str, _Count]:
        """Return the counts with `cost` more attempts each. Raises `too_many`."""
        now = self._clock()
        found = select(ATTEMPTS).where(ATTEMPTS.c.counted.in_(names.values())).order_by(ATTEMPTS.c.counted)
        rows = await connection.execute(found.with_for_update() if locked else found)
        before = {row.counted: row.full_until for row in rows}
        counts = {}
        for limit, name in names.items():
            full_until, wait_s = spend(before.get(name, 0.0), cost, self._limits[limit], now)
            if wait_s:
                self._refuse(limit, int(wait_s * 1000) + 1)
            counts[name] = _Count(full_until, is_new=name not in before)
        return counts

    def _refuse(self, limit: str, retry_after_ms: int) -> None:
        REFUSED.labels(limit).inc()
        log.info("refused an attempt", limit=limit)
        raise BeaconfireError(
            errors.TOO_MANY,
            f"too many {_WHAT[limit]}: try again in {math.ceil(retry_after_ms / 1000)} s",
            retry_after_ms=retry_after_ms,
        )


def _write(name: str, count: _Count) -> Executable:
    if count.is_new:
        return insert(ATTEMPTS).values(counted=name, full_until=count.full_until)
    return update(ATTEMPTS).where(ATTEMPTS.c.counted == name).values(full_until=count.full_until)


def _name(limit: str, who: str) -> str:
    return hashlib.sha256(f"{limit}:{who}".encode()).hexdigest()
