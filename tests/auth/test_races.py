"""Simultaneous requests at two auth processes on one database."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_kit.authorization import grant
from beaconfire_kit.roles import Role
from tests.auth.conftest import PASSWORD, Auth, granting, running_auth
from tests.conftest import connected
from tests.databases import on_both_databases

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
