"""Store revocations: of every token of a user, or of a user's access to one root. Every one is an event.

    await revocations.revoke("acme-alice")                                      # every token issued until now
    await revocations.revoke("acme-alice", Pair("depot", "d1"))                 # grants in tokens, and an authorizer's

A revocation of a root has no effect on memberships: remove the member for that. It stays for `KEPT`, which is longer
than any token lives.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from beaconfire_auth.store import (
    MEMBERSHIP_VERSION,
    REFRESH_TOKENS,
    REVOCATIONS,
    USERS,
    counter,
    next_membership_version,
)
from beaconfire_kit import errors, logs
from beaconfire_kit.database import Database
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.events.user import AccessRevoked
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.subjects import Pair
from beaconfire_kit.tokens import LEEWAY_S

log = logs.get(__name__)

KEPT = timedelta(days=3)
"""An outside issuer's token may live for a day, and clocks differ."""
AHEAD_S = 2 * LEEWAY_S
"""How far `issued_before` may lie in the future."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """What counts no longer of a user's access to a root.

    Grants do not count in tokens that were issued before `issued_before` (Unix seconds). Answers of the root's
    authorizer do not count if their version is below `authorizer_version`, or if they were asked for before auth's
    count of membership changes reached `membership_version`.
    """

    issued_before: int
    authorizer_version: int
    membership_version: int


class Revocations:
    """Revoke access, and look revocations up."""

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._database = database
        self._outbox = outbox

    async def revoke(
        self,
        user_id: str,
        root: Pair | None = None,
        *,
        issued_before: int | None = None,
        authorizer_version: int = 0,
        metadata: Metadata | None = None,
    ) -> int:
        """Revoke tokens issued before this moment (Unix seconds), or until now: all of them, or what they say of a
        root. Return auth's count of membership changes after it.

        A repeat that revokes nothing more changes nothing. Without `metadata` the user has asked for it.

        Raises `bad_request` for a moment in the future. Raises `not_found` if there is no root and auth does not know
        the user: create a placeholder first.
        """
        if issued_before is not None and issued_before > time.time() + AHEAD_S:
            raise BeaconfireError(errors.BAD_REQUEST, "issuedBefore lies in the future: leave it out")
        async with self._database.writing() as tx:
            if root is None:
                version = await revoke_tokens(
                    tx, self._outbox, user_id, "revoked", issued_before=issued_before, metadata=metadata
                )
            else:
                version = await self._revoke_root(tx, user_id, root, issued_before, authorizer_version, metadata)
        self._outbox.wake()
        log.info("revoked access", user=user_id, root=str(root) if root is not None else None)
        return version

    async def disconnect(self, user_id: str, metadata: Metadata) -> None:
        """Close the sockets that the user has open when gateways hear of it. No token is revoked."""
        async with self._database.writing() as tx:
            event = AccessRevoked(
                user_id=user_id,
                issued_before=datetime.fromtimestamp(0, UTC),  # it revokes no token
                reason="disconnected",
                membership_version=await next_membership_version(tx),
            )
            added = await self._outbox.add(tx, [Envelope(event, metadata)])
        self._outbox.wake(added)
        log.info("disconnected a user", user=user_id, by=metadata.source)

    async def of(self, user_id: str) -> Mapping[Pair, Revocation]:
        """Return the user's revocations, by root."""
        found = select(REVOCATIONS).where(REVOCATIONS.c.user_id == user_id)
        async with self._database.reading() as connection:
            return {
                Pair(row.root_kind, row.root_id): Revocation(
                    row.issued_before, row.authorizer_version, row.membership_version
                )
                for row in await connection.execute(found)
            }

    async def forget(self) -> None:
        """Delete revocations that no living token can be older than."""
        async with self._database.reading() as connection:
            old = REVOCATIONS.c.revoked_at < datetime.now(UTC) - KEPT
            if await connection.scalar(select(REVOCATIONS.c.user_id).where(old).limit(1)) is None:
                return
        async with self._database.writing() as tx:
            await tx.execute(delete(REVOCATIONS).where(old))

    async def _revoke_root(
        self,
        tx: AsyncConnection,
        user_id: str,
        root: Pair,
        issued_before: int | None,
        authorizer_version: int,
        metadata: Metadata | None,
    ) -> int:
        this = (
            REVOCATIONS.c.user_id == user_id,
            REVOCATIONS.c.root_kind == root.kind,
            REVOCATIONS.c.root_id == root.id,
        )
        old = (await tx.execute(select(REVOCATIONS).where(*this))).one_or_none()
        is_repeat = old is not None and issued_before is not None and issued_before <= old.issued_before
        if old is not None and is_repeat and authorizer_version <= old.authorizer_version:
            return int(old.membership_version)
        version = await next_membership_version(tx)  # first: it lets one revocation in at a time
        old = (await tx.execute(select(REVOCATIONS).where(*this))).one_or_none()
        before: int = max(_until(issued_before), old.issued_before if old is not None else 0)
        new = {
            "issued_before": before,
            "authorizer_version": max(authorizer_version, old.authorizer_version if old is not None else 0),
            "membership_version": version,
            "revoked_at": datetime.now(UTC),
        }
        if old is None:
            row = {"user_id": user_id, "root_kind": root.kind, "root_id": root.id}
            await tx.execute(insert(REVOCATIONS).values(**row, **new))
        else:
            await tx.execute(update(REVOCATIONS).where(*this).values(**new))
        event = AccessRevoked(
            user_id=user_id,
            issued_before=datetime.fromtimestamp(before, UTC),
            reason="revoked",
            membership_version=version,
            root=str(root),
        )
        await self._outbox.add(tx, [Envelope(event, metadata or _by(user_id))])
        return version


async def revoke_tokens(
    tx: AsyncConnection,
    outbox: Outbox,
    user_id: str,
    reason: str,
    *,
    issued_before: int | None = None,
    metadata: Metadata | None = None,
) -> int:
    """Revoke a user's access tokens and refresh tokens. Return the version of the change. Raises `not_found`.

    If all tokens of before `issued_before` were revoked already, nothing changes.
    """
    known = await issued_before_of(tx, user_id)
    if known is None:
        raise BeaconfireError(errors.NOT_FOUND, "no such user")
    if issued_before is not None and issued_before <= known:
        return await counter(tx, MEMBERSHIP_VERSION)
    # Times in tokens are whole seconds. The current second is revoked to its end, and a token issued later in it is
    # dated into the next second (`not_before`). So another revocation in the same second must reach one further.
    before = issued_before if issued_before is not None else max(int(time.time()), known) + 1
    await tx.execute(delete(REFRESH_TOKENS).where(REFRESH_TOKENS.c.user_id == user_id))
    await tx.execute(update(USERS).where(USERS.c.id == user_id).values(issued_before=before))
    version = await next_membership_version(tx)
    event = AccessRevoked.model_validate(
        {
            "user_id": user_id,
            "issued_before": datetime.fromtimestamp(before, UTC),
            "reason": reason,
            "membership_version": version,
        }
    )
    await outbox.add(tx, [Envelope(event, metadata or _by(user_id))])
    return version


async def issued_before_of(tx: AsyncConnection, user_id: str) -> int | None:
    """Return from when on (Unix seconds) a user's tokens are valid, or None for an unknown user. Locks the user.

    SQLite needs no lock, because its writers wait for one another.
    """
    found = select(USERS.c.issued_before).where(USERS.c.id == user_id).with_for_update()
    before: int | None = await tx.scalar(found)
    return before


def _until(issued_before: int | None) -> int:
    """Return the moment before which tokens are revoked. Without one, the current second is revoked to its end."""
    return issued_before if issued_before is not None else int(time.time()) + 1


def _by(user_id: str) -> Metadata:
    return Metadata(source="auth", user_id=user_id)
