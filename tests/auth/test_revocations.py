"""Revocations are stored, and are events."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from beaconfire_auth.migrations import MIGRATIONS
from beaconfire_auth.revocations import KEPT, Revocations
from beaconfire_auth.store import OUTBOX, REVOCATIONS
from beaconfire_kit.database import Database
from beaconfire_kit.envelope import Metadata
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.events.user import AccessRevoked
from beaconfire_kit.migrations import open_database
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.received import read
from beaconfire_kit.subjects import Pair
from tests.databases import database_url, on_both_databases

pytestmark = on_both_databases

D1 = Pair("campaign", "d1")


@pytest.fixture(name="database")
async def _database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(database_url(tmp_path, "auth"))
    await open_database(database, MIGRATIONS, migrate=True)
    yield database
    await database.close()


@pytest.fixture(name="revocations")
async def _revocations(database: Database) -> Revocations:
    return Revocations(database, Outbox(database, OUTBOX))


async def test_revocation_of_a_root_is_stored_and_repeating_it_only_moves_it_forward(revocations: Revocations) -> None:
    now = int(time.time())
    first = await revocations.revoke("acme-alice", D1, authorizer_version=7)
    second = await revocations.revoke("acme-alice", D1, issued_before=now - 60, authorizer_version=3)
    (stored,) = (await revocations.of("acme-alice")).values()

    assert now < stored.issued_before <= now + 60
    third = await revocations.revoke("acme-alice", D1, issued_before=now - 60, authorizer_version=8)
    (moved,) = (await revocations.of("acme-alice")).values()

    assert (stored.authorizer_version, stored.membership_version) == (7, first)
    assert (moved.authorizer_version, moved.membership_version) == (8, third)
    assert third > first == second
    assert moved.issued_before == stored.issued_before
    assert await revocations.of("acme-bob") == {}


async def test_each_revocation_of_a_root_is_an_event_that_names_it(
    revocations: Revocations, database: Database
) -> None:
    version = await revocations.revoke("acme-alice", D1, metadata=Metadata(source="auth", correlation_id="req-7"))
    async with database.reading() as connection:
        (row,) = (await connection.execute(select(OUTBOX))).all()
    event = read(row.subject, row.body)

    assert isinstance(event.payload, AccessRevoked)
    assert (event.payload.root, event.payload.membership_version) == ("campaign:d1", version)
    assert event.metadata.correlation_id == "req-7"


async def test_revocation_without_a_root_needs_a_known_user(revocations: Revocations) -> None:
    with pytest.raises(BeaconfireError, match="no such user"):
        await revocations.revoke("acme-alice")


@pytest.mark.parametrize("root", [D1, None])
async def test_revocation_in_the_future_is_refused(revocations: Revocations, root: Pair | None) -> None:
    with pytest.raises(BeaconfireError, match="future"):
        await revocations.revoke("acme-alice", root, issued_before=int(time.time()) + 3_600)


async def test_revocations_are_forgotten_when_no_token_can_be_older(
    revocations: Revocations, database: Database
) -> None:
    for user in ("alice", "bob"):
        await revocations.revoke(f"acme-{user}", D1)
    async with database.writing() as tx:
        old = datetime.now(UTC) - KEPT - timedelta(minutes=1)
        await tx.execute(update(REVOCATIONS).where(REVOCATIONS.c.user_id == "acme-bob").values(revoked_at=old))
    await revocations.forget()

    assert await revocations.of("acme-bob") == {}
    assert list(await revocations.of("acme-alice")) == [D1]
