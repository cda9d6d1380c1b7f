"""Password hashing uses a bounded number of threads, has a short queue, and refuses the rest."""

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from beaconfire.nats_server import NatsServer
from beaconfire_auth.hashing import Hashing
from beaconfire_auth.settings import Settings
from beaconfire_kit.errors import BeaconfireError
from tests.auth.conftest import PASSWORD, running_auth

CHEAP: dict[str, Any] = {"argon2_time_cost": 1, "argon2_memory_kib": 32}


async def test_sixth_hash_is_refused_while_two_run_and_three_wait() -> None:
    hashing = Hashing(Settings(**CHEAP, argon2_parallel=2, argon2_queue=3))
    try:
        answers = await asyncio.gather(*(hashing.hash("x") for _ in range(8)), return_exceptions=True)
        refused = [one for one in answers if isinstance(one, BeaconfireError)]
        await hashing.hash("x")
    finally:
        await hashing.close()

    assert len(refused) == 3
    assert {(one.code.code, one.retry_after_ms) for one in refused} == {("unavailable", 2_000)}


async def test_client_that_leaves_while_waiting_frees_its_place_in_the_hashing_queue() -> None:
    hashing = Hashing(Settings(**CHEAP, argon2_parallel=1, argon2_queue=1))
    try:
        for _ in range(20):
            waiting = [asyncio.ensure_future(hashing.hash("x")) for _ in range(2)]
            await asyncio.sleep(0)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            async with asyncio.timeout(10):
                while hashing._waiting:
                    await asyncio.sleep(0)
        assert await hashing.check(await hashing.hash("x"), "x")
    finally:
        await hashing.close()


async def test_unknown_account_costs_the_same_work_as_a_wrong_password(stream: NatsServer, tmp_path: Path) -> None:
    async with running_auth(stream, tmp_path) as auth:
        await auth.sign_up("owner")
        costs = []
        for name in ("owner", "nobody"):
            before = checks()
            answer = await auth.sign_in(name, "wrong")
            costs.append((answer.status, answer.body, checks() - before))

    assert costs[0] == costs[1]
    assert costs[0][2] == 1


async def test_hash_is_renewed_at_the_next_sign_in_after_costs_were_raised(stream: NatsServer, tmp_path: Path) -> None:
    async with running_auth(stream, tmp_path) as auth:
        await auth.sign_up("owner")
    async with running_auth(stream, tmp_path, argon2_memory_kib=64) as auth:
        made = [hashes()]
        for _ in range(2):
            assert (await auth.sign_in("owner", PASSWORD)).status == 200
            made.append(hashes())

    assert [after - before for before, after in pairwise(made)] == [1, 0]


async def test_flood_of_sign_ins_is_refused_while_other_calls_are_answered(stream: NatsServer, tmp_path: Path) -> None:
    costly: dict[str, Any] = {
        "argon2_parallel": 1,
        "argon2_queue": 1,
        "argon2_time_cost": 4,
        "argon2_memory_kib": 65_536,
    }
    async with running_auth(stream, tmp_path, **costly) as auth:
        flood = [asyncio.ensure_future(auth.sign_in(f"nobody{number}")) for number in range(20)]
        done, _ = await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)
        keys = await auth.call("GET", "/.well-known/jwks.json")
        still_hashing = sum(not one.done() for one in flood)
        answers = await asyncio.gather(*flood)
    refused = [answer for answer in answers if answer.status == 503]

    assert done
    assert keys.status == 200
    assert still_hashing
    assert {answer.status for answer in answers} == {401, 503}
    assert {(answer.code, answer.headers["Retry-After"]) for answer in refused} == {("unavailable", "2")}


def checks() -> float:
    return REGISTRY.get_sample_value("beaconfire_auth_password_hashes_total", {"purpose": "check"}) or 0


def hashes() -> float:
    return REGISTRY.get_sample_value("beaconfire_auth_password_hashes_total", {"purpose": "hash"}) or 0


@pytest.mark.parametrize("hashed", ["", "nonsense", "$argon2id$"])
async def test_account_without_a_usable_hash_cannot_sign_in(hashed: str) -> None:
    hashing = Hashing(Settings(**CHEAP))
    try:
        assert not await hashing.check(hashed, "")
    finally:
        await hashing.close()
