"""Limits on sign-in attempts and on changes of members, over HTTP."""

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_auth.attempts import Attempts
from beaconfire_auth.migrations import MIGRATIONS
from beaconfire_auth.settings import Settings
from beaconfire_kit.database import Database
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.migrations import open_database
from beaconfire_kit.roles import Role
from tests.asking import grant
from tests.auth.conftest import PASSWORD, Answer, Auth, granting, running_auth
from tests.conftest import connected
from tests.databases import database_url, on_both_databases

pytestmark = on_both_databases

SHIPPED = {
    name: Settings.model_fields[name].default for name in ("attempts_per_minute_address", "attempts_per_minute_account")
}
BEHIND_A_PROXY = {**SHIPPED, "trusted_proxies": "127.0.0.1/32"}


async def sign_in(auth: Auth, name: str, password: str = PASSWORD, *, address: str | None = None) -> Answer:
    headers = {"X-Forwarded-For": address} if address else {}
    body = {"email": f"{name}@auth.example", "password": password}
    return await auth.call("POST", "/auth/sign-in", body, headers=headers)


def check_refusal(answer: Answer) -> None:
    """429, with the time of reset in the body and as a header, of which one is the other in seconds."""
    assert (answer.status, answer.code) == (429, "too_many")
    assert 0 < answer.body["error"]["retryAfterMs"] <= 60_000
    assert int(answer.headers["Retry-After"]) == math.ceil(answer.body["error"]["retryAfterMs"] / 1000)


async def test_eleventh_sign_in_attempt_of_an_address_in_a_minute_is_refused_with_a_retry_time(
    stream: NatsServer, tmp_path: Path
) -> None:
    async with running_auth(stream, tmp_path, **SHIPPED) as auth:
        await auth.sign_up("owner")
        for number in range(9):
            assert (await sign_in(auth, f"nobody{number}")).status == 401
        refused = [
            await sign_in(auth, "owner"),
            await sign_in(auth, "nobody"),
            await auth.call("POST", "/auth/sign-up", {"email": "new@auth.example", "password": PASSWORD, "name": "N"}),
        ]

    for answer in refused:
        check_refusal(answer)
        assert "address" in answer.body["error"]["message"]


async def test_eleventh_sign_in_attempt_on_an_account_in_a_minute_is_refused_from_every_address(
    stream: NatsServer, tmp_path: Path
) -> None:
    """The account may exist or not, and the password may be right or wrong."""
    async with running_auth(stream, tmp_path, **BEHIND_A_PROXY) as auth:
        await auth.sign_up("owner")
        for name, used in (("owner", 1), ("nobody", 0)):
            for number in range(10 - used):
                assert (await sign_in(auth, name, "wrong", address=f"198.51.100.{number}")).status == 401
            refused = await sign_in(auth, name, address="203.0.113.99")
            check_refusal(refused)
            assert "account" in refused.body["error"]["message"]
        assert (await sign_in(auth, "somebody", address="203.0.113.99")).status == 401


async def test_clients_behind_a_trusted_proxy_are_counted_by_the_address_the_proxy_names(
    stream: NatsServer, tmp_path: Path
) -> None:
    async with running_auth(stream, tmp_path, **BEHIND_A_PROXY) as auth:
        for number in range(10):
            assert (await sign_in(auth, f"a{number}", address=f"9.9.9.{number}, 198.51.100.1")).status == 401
        check_refusal(await sign_in(auth, "b", address="9.9.9.9, 198.51.100.1"))
        assert (await sign_in(auth, "b", address="198.51.100.2")).status == 401


async def test_forwarded_header_is_ignored_without_a_trusted_proxy(stream: NatsServer, tmp_path: Path) -> None:
    async with running_auth(stream, tmp_path, **SHIPPED) as auth:
        for number in range(10):
            assert (await sign_in(auth, f"a{number}", address=f"198.51.100.{number}")).status == 401
        check_refusal(await sign_in(auth, "b", address="203.0.113.9"))


async def test_two_auth_processes_on_one_database_count_attempts_together(stream: NatsServer, tmp_path: Path) -> None:
    async with (
        running_auth(stream, tmp_path, **SHIPPED) as here,
        running_auth(stream, tmp_path, **SHIPPED) as there,
    ):
        tried = (sign_in(auth, f"a{number}") for number in range(8) for auth in (here, there))
        statuses = [answer.status for answer in await asyncio.gather(*tried)]

    assert sorted(statuses) == [401] * 10 + [429] * 6


async def test_an_operator_can_reset_the_attempts_of_one_address_or_account(stream: NatsServer, tmp_path: Path) -> None:
    async with running_auth(stream, tmp_path, **BEHIND_A_PROXY) as auth:
        for _ in range(10):
            await sign_in(auth, "owner", "wrong", address="198.51.100.1")
        check_refusal(await sign_in(auth, "other", address="198.51.100.1"))
        check_refusal(await sign_in(auth, "owner", address="198.51.100.2"))

        assert (await auth.operate("POST", "reset-attempts", {"address": "198.51.100.1"})).status == 204
        assert (await sign_in(auth, "other", address="198.51.100.1")).status == 401
        check_refusal(await sign_in(auth, "owner", address="198.51.100.2"))
        assert (await auth.operate("POST", "reset-attempts", {"email": " Owner@auth.example"})).status == 204
        assert (await sign_in(auth, "owner", address="198.51.100.2")).status == 401


@pytest.mark.parametrize("body", [{}, {"address": "x"}, {"email": "x"}, {"address": None}, {"other": 1}], ids=str)
async def test_reset_without_an_address_or_account_is_refused_with_a_reason(auth: Auth, body: dict[str, Any]) -> None:
    assert (await auth.operate("POST", "reset-attempts", body)).code == "bad_request"


async def test_one_attempt_returns_every_six_seconds_and_the_retry_time_is_exact(tmp_path: Path) -> None:
    """Expired attempts are deleted."""
    now = 1_800_000_000.0
    database = Database(database_url(tmp_path, "auth"))
    await open_database(database, MIGRATIONS, migrate=True)
    attempts = Attempts(Settings(), database, clock=lambda: now)

    async def until_refused() -> tuple[int, float]:
        """Return how many attempts were let in, and after how many seconds the next one may come."""
        for number in range(100):
            try:
                await attempts.count(address="198.51.100.1", email=f"{number}@x.example")
            except BeaconfireError as error:
                return number, (error.retry_after_ms or 0) / 1000
        raise AssertionError("never refused")

    try:
        let_in, wait_s = await until_refused()
        assert let_in == 10
        assert wait_s == pytest.approx(6, abs=0.002)
        now += 5.9
        assert (await until_refused())[0] == 0
        now += 0.2
        assert (await until_refused())[0] == 1
        now += 60.1
        assert (await until_refused())[0] == 10
        now += 61
        await attempts.forget()
        async with database.reading() as connection:
            assert (await connection.exec_driver_sql("SELECT count(*) FROM attempts")).scalar() == 0
    finally:
        await database.close()


async def test_changes_of_members_are_limited_per_user_over_all_roots(stream: NatsServer, tmp_path: Path) -> None:
    """Each change is an event in the history of every member."""
    async with running_auth(stream, tmp_path, member_changes_per_minute=3) as auth:
        owner, other = await auth.sign_up("owner"), await auth.sign_up("other")
        async with connected(stream, "publisher") as nc:
            for root in ("campaign:c1", "campaign:c2"):
                await grant(nc, granting(root, owner.id, Role.OWNER))
        member = {"email": other.email, "role": "viewer"}
        answers = [
            await auth.call("POST", "/auth/roots/campaign:c1/members", member, token=owner.token),
            await auth.call(
                "PUT", f"/auth/roots/campaign:c1/members/{other.id}", {"role": "editor"}, token=owner.token
            ),
            await auth.call("DELETE", f"/auth/roots/campaign:c1/members/{other.id}", token=owner.token),
            await auth.call("POST", "/auth/roots/campaign:c2/members", member, token=owner.token),
        ]
        others = await auth.call("DELETE", f"/auth/roots/campaign:c1/members/{other.id}", token=other.token)

    assert [answer.status for answer in answers] == [201, 200, 204, 429]
    check_refusal(answers[-1])
    assert "changes of members" in answers[-1].body["error"]["message"]
    assert others.status == 403
