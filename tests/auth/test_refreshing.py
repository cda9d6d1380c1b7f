"""Refresh tokens whose answers get lost, that are sent twice, or that are stolen."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import select, update

from beaconfire.local_services import ServiceProcess
from beaconfire.nats_server import NatsServer
from beaconfire_auth.migrations import MIGRATIONS
from beaconfire_auth.seal import KeysUnusable, Seal
from beaconfire_auth.store import REFRESH_TOKENS
from beaconfire_auth.successors import Successors
from beaconfire_kit.database import Database
from beaconfire_kit.migrations import open_database
from tests.auth.conftest import OPERATOR_TOKEN, Answer, Auth, person, running_auth
from tests.databases import database_url, execute, on_both_databases
from tests.forked import forked
from tests.people import Person
from tests.proxy import Proxy

pytestmark = on_both_databases

AT_ONCE = 40


async def refresh(auth: Auth, refresh_token: str) -> Answer:
    return await auth.call("POST", "/auth/refresh", {"refreshToken": refresh_token})


async def refreshed(auth: Auth, refresh_token: str) -> Person:
    answer = await refresh(auth, refresh_token)
    assert answer.status == 200, answer
    return person(answer)


async def move_uses(folder: Path, by: timedelta) -> None:
    """Change when refresh tokens were used, as if the time since then were another."""
    database = Database(database_url(folder, "auth"))
    async with database.transaction() as tx:
        used = select(REFRESH_TOKENS).where(REFRESH_TOKENS.c.used_at.is_not(None))
        for row in (await tx.execute(used)).all():
            this = update(REFRESH_TOKENS).where(REFRESH_TOKENS.c.hash == row.hash)
            await tx.execute(this.values(used_at=row.used_at + by))
    await database.close()


def families(folder: Path) -> list[tuple[int, int]]:
    """Of each family: how many tokens it has, and how many of them are unused."""
    counts = "SELECT count(*), sum(CASE WHEN used_at IS NULL THEN 1 ELSE 0 END) FROM refresh_tokens GROUP BY family"
    return [(int(total), int(unused)) for total, unused in execute(folder, "auth", counts)]


async def test_refresh_token_sent_again_after_a_lost_answer_gets_the_same_successor(auth: Auth) -> None:
    owner = await auth.sign_up("owner")
    lost = await refreshed(auth, owner.refresh_token)
    repeated = await refreshed(auth, owner.refresh_token)
    me = await auth.call("GET", "/auth/me", token=repeated.token)

    assert repeated.refresh_token == lost.refresh_token
    assert me.status == 200
    assert (await refresh(auth, repeated.refresh_token)).status == 200


async def test_old_refresh_token_of_another_tab_gets_the_newest_one_within_the_grace(
    auth: Auth, tmp_path: Path
) -> None:
    first = await auth.sign_up("owner")
    newest = first
    for _ in range(3):
        newest = await refreshed(auth, newest.refresh_token)
    late = await refreshed(auth, first.refresh_token)

    assert late.refresh_token == newest.refresh_token
    assert families(tmp_path) == [(4, 1)]


async def test_simultaneous_refreshes_with_one_token_get_the_same_successor(auth: Auth, tmp_path: Path) -> None:
    owner = await auth.sign_up("owner")
    people = await asyncio.gather(*(refreshed(auth, owner.refresh_token) for _ in range(AT_ONCE)))

    assert len({one.refresh_token for one in people}) == 1
    assert families(tmp_path) == [(2, 1)]
    assert (await refresh(auth, people[0].refresh_token)).status == 200


@pytest.mark.parametrize("by_s", [-11, -3_600, 3_600])
async def test_reusing_a_refresh_token_after_ten_seconds_revokes_its_family_only(
    auth: Auth, tmp_path: Path, by_s: int
) -> None:
    """A clock that is set back does not make the grace longer."""
    owner = await auth.sign_up("owner")
    elsewhere = person(await auth.sign_in("owner"))
    newest = await refreshed(auth, owner.refresh_token)
    await move_uses(tmp_path, timedelta(seconds=by_s))
    again = await refresh(auth, owner.refresh_token)
    after = [(await refresh(auth, one.refresh_token)).status for one in (owner, newest, elsewhere)]

    assert (again.status, again.code) == (401, "token_invalid")
    assert after == [401, 401, 200]


async def test_repeated_use_of_a_refresh_token_does_not_prolong_the_grace(auth: Auth, tmp_path: Path) -> None:
    owner = await auth.sign_up("owner")
    await refreshed(auth, owner.refresh_token)
    await move_uses(tmp_path, timedelta(seconds=-8))
    within = await refresh(auth, owner.refresh_token)
    await move_uses(tmp_path, timedelta(seconds=-8))
    after = await refresh(auth, owner.refresh_token)

    assert (within.status, after.status) == (200, 401)


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("with_newest", [False, True])
async def test_no_refresh_token_of_a_family_works_after_its_sign_out(
    auth: Auth, *, everywhere: bool, with_newest: bool
) -> None:
    owner = await auth.sign_up("owner")
    newest = await refreshed(auth, owner.refresh_token)
    chosen = newest if with_newest else owner
    body = {"refreshToken": chosen.refresh_token, "everywhere": everywhere}
    await auth.call("POST", "/auth/sign-out", body)

    assert [(await refresh(auth, one.refresh_token)).status for one in (owner, newest)] == [401, 401]


async def test_refresh_tokens_used_just_before_a_revocation_are_refused(auth: Auth, tmp_path: Path) -> None:
    first = await auth.sign_up("owner")
    second = await refreshed(auth, first.refresh_token)
    await move_uses(tmp_path, timedelta(seconds=-11))
    await refreshed(auth, second.refresh_token)

    assert (await refresh(auth, first.refresh_token)).status == 401
    assert (await refresh(auth, second.refresh_token)).status == 401


async def test_successor_of_a_refresh_token_is_the_same_after_a_restart(stream: NatsServer, tmp_path: Path) -> None:
    async with running_auth(stream, tmp_path) as auth:
        owner = await auth.sign_up("owner")
        lost = await refreshed(auth, owner.refresh_token)
    async with running_auth(stream, tmp_path) as auth:
        repeated = await refreshed(auth, owner.refresh_token)

    assert repeated.refresh_token == lost.refresh_token


async def test_refresh_tokens_of_an_earlier_version_work_and_their_reuse_revokes(
    stream: NatsServer, tmp_path: Path
) -> None:
    async with running_auth(stream, tmp_path) as auth:
        unused, used, overlapped = [await auth.sign_up(name) for name in ("unused", "used", "overlapped")]
        for one in (used, overlapped):
            await refreshed(auth, one.refresh_token)
    # The state that the version before left: no secret, and random successors.
    execute(tmp_path, "auth", "DELETE FROM secrets")
    async with running_auth(stream, tmp_path) as auth:
        newest = await refreshed(auth, unused.refresh_token)
        # It was used by a process of the version before, which runs beside this one during an upgrade.
        within = await refreshed(auth, overlapped.refresh_token)
        repeated = await refreshed(auth, overlapped.refresh_token)
        await move_uses(tmp_path, timedelta(seconds=-11))
        reused = await refresh(auth, used.refresh_token)

        assert (await refresh(auth, newest.refresh_token)).status == 200
        assert repeated.refresh_token == within.refresh_token
        assert reused.status == 401


@asynccontextmanager
async def processes(server: NatsServer, folder: Path, count: int) -> AsyncIterator[list[tuple[ServiceProcess, Auth]]]:
    """Auth processes on one database, as in production."""
    environment = {
        **server.environment("auth"),
        "BEACONFIRE_DATABASE_URL": database_url(folder, "auth"),
        "BEACONFIRE_MIGRATE_ON_START": "true",
        "BEACONFIRE_OPERATOR_TOKEN": OPERATOR_TOKEN,
        "BEACONFIRE_ARGON2_TIME_COST": "1",
        "BEACONFIRE_ARGON2_MEMORY_KIB": "64",
    }
    services = [
        forked(ServiceProcess(f"auth-{number}", "beaconfire_auth", environment, folder=folder))
        for number in range(1, count + 1)
    ]
    # A new connection for each call: the other end of a kept one may have been killed.
    connector = aiohttp.TCPConnector(force_close=True)
    try:
        async with aiohttp.ClientSession(connector=connector) as http:
            await asyncio.gather(*(asyncio.to_thread(service.start) for service in services))
            yield [(service, Auth(service.url, service.ops_url, http)) for service in services]
    finally:
        for service in services:
            await asyncio.to_thread(service.stop)


async def test_two_processes_give_one_successor_for_one_refresh_token(stream: NatsServer, tmp_path: Path) -> None:
    """They start at the same moment on an empty database, so they also agree on the secret."""
    async with processes(stream, tmp_path, 2) as both:
        (_, here), (_, there) = both
        owner = await here.sign_up("owner")
        for _ in range(3):
            asked = [refreshed(auth, owner.refresh_token) for _ in range(AT_ONCE) for auth in (here, there)]
            people = await asyncio.gather(*asked)
            assert len({one.refresh_token for one in people}) == 1
            owner = people[0]

        assert families(tmp_path) == [(4, 1)]


async def test_next_process_gives_the_answer_that_a_killed_process_could_not(
    stream: NatsServer, tmp_path: Path
) -> None:
    async with processes(stream, tmp_path, 1) as started, aiohttp.ClientSession() as http:
        ((service, auth),) = started
        owner = await auth.sign_up("owner")
        async with Proxy(service.port).running() as proxy:
            proxy.flowing.clear()  # no answer gets through
            behind = Auth(f"http://127.0.0.1:{proxy.port}", "", http)
            asking = asyncio.create_task(refresh(behind, owner.refresh_token))
            async with asyncio.timeout(20):
                while await asyncio.to_thread(families, tmp_path) == [(1, 1)]:
                    pass
            service.kill()
        with pytest.raises(aiohttp.ClientError):
            await asking
        await asyncio.to_thread(service.start)
        after = await refreshed(auth, owner.refresh_token)

        assert families(tmp_path) == [(2, 1)]
        assert (await refresh(auth, after.refresh_token)).status == 200


@asynccontextmanager
async def successors(folder: Path, *secrets: str) -> AsyncIterator[Successors]:
    database = Database(database_url(folder, "auth"))
    await open_database(database, MIGRATIONS, migrate=True)
    try:
        opened = Successors(database, Seal(secrets))
        await opened.open()
        yield opened
    finally:
        await database.close()


async def test_refresh_secret_is_sealed_and_a_wrong_keys_secret_is_refused_with_advice(tmp_path: Path) -> None:
    async with successors(tmp_path, "one secret") as opened:
        derived = opened.of("a token")
        assert opened._secret is not None
        secret = opened._secret
    ((sealed,),) = execute(tmp_path, "auth", "SELECT sealed FROM secrets")

    assert secret.hex() not in sealed
    assert len(derived) == 43
    with pytest.raises(KeysUnusable, match="BEACONFIRE_KEYS_SECRET does not open the secret of the refresh tokens"):
        async with successors(tmp_path, "another secret"):
            pass


async def test_changed_keys_secret_keeps_the_successors_of_refresh_tokens(tmp_path: Path) -> None:
    async with successors(tmp_path, "one secret") as opened:
        before = opened.of("a token")
    async with successors(tmp_path, "new secret", "one secret"):
        pass
    async with successors(tmp_path, "new secret") as opened:
        assert opened.of("a token") == before


async def test_two_databases_under_one_keys_secret_derive_different_refresh_tokens(tmp_path: Path) -> None:
    derived = set()
    for name in ("here", "there"):
        async with successors(tmp_path / name, "one secret") as opened:
            derived.add(opened.of("a token"))

    assert len(derived) == 2
