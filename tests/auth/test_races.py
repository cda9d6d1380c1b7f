"""Simultaneous requests at two auth processes on one database."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from beaconfire.nats_server import NatsServer
from beaconfire_auth.members import Actor, Members
from beaconfire_auth.outside_users import OutsideUsers
from beaconfire_auth.store import OUTBOX, next_membership_version
from beaconfire_kit.database import Database
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import Pair
from tests.asking import grant
from tests.auth.conftest import PASSWORD, Auth, granting, running_auth
from tests.conftest import connected
from tests.databases import database_url, on_both_databases

pytestmark = on_both_databases

ROUNDS = 5


@pytest.fixture(name="pair")
async def _pair(stream: NatsServer, tmp_path: Path) -> AsyncIterator[tuple[Auth, Auth]]:
    async with running_auth(stream, tmp_path) as here, running_auth(stream, tmp_path) as there:
        yield here, there


async def test_simultaneous_sign_ups_with_one_address_at_two_processes_make_one_account(
    pair: tuple[Auth, Auth],
) -> None:
    for number in range(ROUNDS):
        body = {"email": f"p{number}@auth.example", "password": PASSWORD, "name": "P"}
        answers = await asyncio.gather(*(auth.call("POST", "/auth/sign-up", body) for auth in pair))

        assert sorted(answer.status for answer in answers) == [201, 409]


async def test_two_owners_who_remove_each_other_at_once_leave_one_owner(
    pair: tuple[Auth, Auth], stream: NatsServer
) -> None:
    one, two = await pair[0].sign_up("one"), await pair[0].sign_up("two")
    async with connected(stream, "publisher") as nc:
        for number in range(ROUNDS):
            root = f"campaign:c{number}"
            for person in (one, two):
                await grant(nc, granting(root=root, user_id=person.id, role=Role.OWNER))
            path = f"/auth/roots/{root}/members"
            removals = [
                auth.call("DELETE", f"{path}/{other.id}", token=person.token)
                for auth, person, other in zip(pair, (one, two), (two, one), strict=True)
            ]
            answers = await asyncio.gather(*removals)

            assert sorted(answer.status for answer in answers) == [204, 403]


async def test_root_that_two_requests_found_at_once_gets_one_owner(pair: tuple[Auth, Auth], tmp_path: Path) -> None:
    people = [await pair[0].sign_up("one"), await pair[0].sign_up("two")]
    database = Database(database_url(tmp_path, "auth"))
    members, root = Members(database, Outbox(database, OUTBOX), OutsideUsers((), database)), Pair("campaign", "c1")

    async def found(root: Pair, owner: str) -> bool:
        try:
            return (await members.grant(root, owner, Role.OWNER, Actor(None), founding=True))[1]
        except BeaconfireError:
            return False

    try:
        await found(Pair("campaign", "c0"), people[0].id)
        async with database.writing() as tx:  # both have to wait with what they have read
            await next_membership_version(tx)
            founding = [asyncio.create_task(found(root, person.id)) for person in people]
            if tx.dialect.name == "postgresql":  # SQLite lets them read only afterwards
                await _until_waiting(database, 2)
        founded = await asyncio.gather(*founding)
        count = await members.count(root)
    finally:
        await database.close()

    assert sorted(founded) == [False, True]
    assert count == 1


async def _until_waiting(database: Database, count: int) -> None:
    """Return once so many transactions wait for a lock."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    async with asyncio.timeout(10):
        while True:
            async with database.reading() as connection:
                if await connection.scalar(waiting) == count:
                    return
