"""Refresh tokens whose answers get lost, that are sent twice, and that are stolen; one process and several."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import select, update

from services.auth.migrations import MIGRATIONS
from services.auth.seal import KeysUnusable, Seal
from services.auth.store import REFRESH_TOKENS
from services.auth.successors import Successors
from shared.database import Database
from shared.migrations import open_database
from tests.auth.conftest import OPERATOR_TOKEN, Answer, Auth, Person, person, running_auth
from tests.databases import database_url, execute, on_both_databases
from tests.forked import forked
from tests.proxy import Proxy
from tools.cluster import ServiceProcess
from tools.nats_server import NatsServer

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


async def test_lost_answer_does_not_sign_out(auth: Auth) -> None:
    """A client that never got the answer asks again with the same token, and gets the same successor."""
    owner = await auth.sign_up("owner")
    lost = await refreshed(auth, owner.refresh_token)
    repeated = await refreshed(auth, owner.refresh_token)
    me = await auth.call("GET", "/auth/me", token=repeated.token)

    assert repeated.refresh_token == lost.refresh_token
    assert me.status == 200
    assert (await refresh(auth, repeated.refresh_token)).status == 200


async def test_old_token_yields_the_newest(auth: Auth, tmp_path: Path) -> None:
    """A tab with an old token gets the family's newest one, also when another tab has refreshed several times since."""
    first = await auth.sign_up("owner")
    newest = first
    for _ in range(3):
        newest = await refreshed(auth, newest.refresh_token)
    late = await refreshed(auth, first.refresh_token)

    assert late.refresh_token == newest.refresh_token
    assert families(tmp_path) == [(4, 1)]


async def test_many_at_once_agree(auth: Auth, tmp_path: Path) -> None:
    """Every one of many simultaneous requests with one token gets the same working successor."""
    owner = await auth.sign_up("owner")
    people = await asyncio.gather(*(refreshed(auth, owner.refresh_token) for _ in range(AT_ONCE)))

    assert len({one.refresh_token for one in people}) == 1
    assert families(tmp_path) == [(2, 1)]
    assert (await refresh(auth, people[0].refresh_token)).status == 200


@pytest.mark.parametrize("by_s", [-11, -3_600, 3_600])
async def test_reuse_after_the_grace_revokes_the_family(auth: Auth, tmp_path: Path, by_s: int) -> None:
    """A token that was used more than ten seconds ago was copied: its family is revoked, other sign-ins are not.

    A clock that was set back by more than that does not make the window longer.
    """
    owner = await auth.sign_up("owner")
    elsewhere = person(await auth.sign_in("owner"))
    newest = await refreshed(auth, owner.refresh_token)
    await move_uses(tmp_path, timedelta(seconds=by_s))
    again = await refresh(auth, owner.refresh_token)
    after = [(await refresh(auth, one.refresh_token)).status for one in (owner, newest, elsewhere)]

    assert (again.status, again.code) == (401, "token_invalid")
    assert after == [401, 401, 200]


async def test_repeating_does_not_prolong_the_grace(auth: Auth, tmp_path: Path) -> None:
    """The ten seconds run from the first use, whatever was repeated since."""
    owner = await auth.sign_up("owner")
    await refreshed(auth, owner.refresh_token)
    await move_uses(tmp_path, timedelta(seconds=-8))
    within = await refresh(auth, owner.refresh_token)
    await move_uses(tmp_path, timedelta(seconds=-8))
    after = await refresh(auth, owner.refresh_token)

    assert (within.status, after.status) == (200, 401)


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("with_newest", [False, True])
async def test_signing_out_ends_the_grace(auth: Auth, *, everywhere: bool, with_newest: bool) -> None:
    """After a sign-out no token of the family works, whichever of them asked for it."""
    owner = await auth.sign_up("owner")
    newest = await refreshed(auth, owner.refresh_token)
    chosen = newest if with_newest else owner
    body = {"refreshToken": chosen.refresh_token, "everywhere": everywhere}
    await auth.call("POST", "/auth/sign-out", body)

    assert [(await refresh(auth, one.refresh_token)).status for one in (owner, newest)] == [401, 401]


async def test_revocation_ends_the_grace(auth: Auth, tmp_path: Path) -> None:
    """Once reuse has revoked a family, tokens used within the last ten seconds yield nothing either."""
    first = await auth.sign_up("owner")
    second = await refreshed(auth, first.refresh_token)
    await move_uses(tmp_path, timedelta(seconds=-11))
    await refreshed(auth, second.refresh_token)

    assert (await refresh(auth, first.refresh_token)).status == 401
    assert (await refresh(auth, second.refresh_token)).status == 401


async def test_same_successor_after_a_restart(stream: NatsServer, tmp_path: Path) -> None:
    """The secret outlives the process: the next one gives the same answer again."""
    async with running_auth(stream, tmp_path) as auth:
        owner = await auth.sign_up("owner")
        lost = await refreshed(auth, owner.refresh_token)
    async with running_auth(stream, tmp_path) as auth:
        repeated = await refreshed(auth, owner.refresh_token)

    assert repeated.refresh_token == lost.refresh_token


async def test_tokens_of_the_version_before(stream: NatsServer, tmp_path: Path) -> None:
    """Tokens that were given out before successors were derived work, and reuse of a used one still revokes."""
    async with running_auth(stream, tmp_path) as auth:
        unused, used, overlapped = [await auth.sign_up(name) for name in ("unused", "used", "overlapped")]
        for one in (used, overlapped):
            await refreshed(auth, one.refresh_token)
    # What the version before left: no secret, and successors that are random.
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
        forked(ServiceProcess(f"auth-{number}", "services.auth", environment, folder=folder))
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


async def test_processes_agree(stream: NatsServer, tmp_path: Path) -> None:
    """Two processes that get one token many times at once give out one successor, and revoke nothing.

    They start at the same moment on an empty database, so they also agree on who makes the secret.
    """
    async with processes(stream, tmp_path, 2) as both:
        (_, here), (_, there) = both
        owner = await here.sign_up("owner")
        for _ in range(3):
            asked = [refreshed(auth, owner.refresh_token) for _ in range(AT_ONCE) for auth in (here, there)]
            people = await asyncio.gather(*asked)
            assert len({one.refresh_token for one in people}) == 1
            owner = people[0]

        assert families(tmp_path) == [(4, 1)]


async def test_killed_between_commit_and_answer(stream: NatsServer, tmp_path: Path) -> None:
    """A process that is killed after it used up a token and before it answered: the next process gives the answer."""
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


async def test_the_secret_is_sealed(tmp_path: Path) -> None:
    """The database alone derives nothing, and another secret of the settings is refused with what to do."""
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


async def test_the_seal_is_changed(tmp_path: Path) -> None:
    """A changed `BEACONFIRE_KEYS_SECRET` keeps the successors, and the old one is not needed from then on."""
    async with successors(tmp_path, "one secret") as opened:
        before = opened.of("a token")
    async with successors(tmp_path, "new secret", "one secret"):
        pass
    async with successors(tmp_path, "new secret") as opened:
        assert opened.of("a token") == before


async def test_a_database_has_secrets_of_its_own(tmp_path: Path) -> None:
    """Two databases under one `BEACONFIRE_KEYS_SECRET` derive different tokens."""
    derived = set()
    for name in ("here", "there"):
        async with successors(tmp_path / name, "one secret") as opened:
            derived.add(opened.of("a token"))

    assert len(derived) == 2
