"""PostgreSQL is backed up and restored with the commands of docs/howto, while clients are connected or away."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from beaconfire.doctor import renew_epoch
from beaconfire.local_services import Plan, Services
from beaconfire.migrate import SERVICES
from beaconfire_kit.database import Database
from tests.conftest import broker_settings
from tests.databases import Postgres, binaries
from tests.docs.pasted import Shell, commands, with_word
from tests.docs.tree import ROOT
from tests.e2e.conftest import Line, running_line
from tests.e2e.story import story

DATABASES = ("auth", "publisher")
PASSWORD = "restored"
CHEAP_PASSWORDS = {"BEACONFIRE_ARGON2_TIME_COST": "1", "BEACONFIRE_ARGON2_MEMORY_KIB": "64"}
BACK_UP = commands("docs/howto/deploy.md", "Backups")
RESTORE = commands("docs/howto/operate.md", "Restore a database")
pytestmark = pytest.mark.timeout(240)


def url_of(postgres: Postgres, service: str) -> str:
    """The URL with which a service reaches its database, as its own user."""
    return f"postgresql+asyncpg://{service}:{PASSWORD}@127.0.0.1:{postgres.port}/{service}"


@pytest.fixture(name="terminal")
def _terminal(postgres: Postgres, tmp_path: Path) -> Iterator[Shell]:
    """A shell at a server with the databases and users of deploy/postgres/init.sh, and no tables."""
    terminal = Shell(
        tmp_path / "operator",
        PATH=f"{binaries()}:{os.environ['PATH']}",
        PGHOST=str(postgres.folder),
        PGPORT=str(postgres.port),
        PGUSER="beaconfire",
        POSTGRES_USER="beaconfire",
        **{f"BEACONFIRE_{name.upper()}_DATABASE_PASSWORD": PASSWORD for name in DATABASES},
    )
    terminal.succeeds(f"sh {ROOT}/deploy/postgres/init.sh")
    yield terminal
    postgres.drop(*DATABASES)


@pytest.fixture(name="line")
async def _line(terminal: Shell, postgres: Postgres, tmp_path: Path) -> AsyncIterator[Line]:
    for name in DATABASES:
        await migrated(url_of(postgres, name), name)
    databases = {name: {"BEACONFIRE_DATABASE_URL": url_of(postgres, name)} for name in DATABASES}
    environment = {
        **databases,
        "auth": databases["auth"] | CHEAP_PASSWORDS,
        "rules-engine": databases["publisher"],
        "scheduler": databases["publisher"],
    }
    async with running_line(Plan(tmp_path / "services", gateways=2, environment=environment)) as line:
        yield line


async def migrated(url: str, service: str, *, to: str = "head") -> None:
    database = Database(url)
    try:
        await SERVICES[service].upgrade(database, to)
    finally:
        await database.close()


@contextmanager
def stopped(services: Services) -> Iterator[None]:
    """All processes that use a database. Gateways keep running."""
    users = [services.auth, services.publisher, *services.workers]
    for one in users:
        one.stop()
    yield
    for one in users:
        one.start(wait=False)
    for one in users:
        one.wait_ready()


async def test_databases_and_stream_are_restored_with_the_documented_commands_and_no_event_comes_twice(
    line: Line, terminal: Shell, tmp_path: Path
) -> None:
    """The databases are restored under a newer stream, then the stream under newer databases, then both together."""
    services, backup = line.services, tmp_path / "jetstream"
    levels: list[int] = []
    wrong: dict[str, str] = {}
    async with story(line) as one:
        staying, leaving = one.follow("staying"), one.follow("leaving")
        await asyncio.gather(staying.connected(1), leaving.connected(1))
        services.nats.kill()
        await one.change(2)  # the backup has it, and has not marked its event as sent
        terminal.succeeds(*BACK_UP)
        services.nats.start()
        await one.heard_by(staying, leaving)
        await asyncio.to_thread(copy_stream, services, backup)
        in_use = terminal.run(with_word(RESTORE, "pg_restore")[0])
        for number, restored in enumerate((["databases"], ["stream"], ["databases", "stream"]), start=3):
            await one.change(number)
            await one.heard_by(staying, leaving)
            wrong |= await one.wrong(staying, leaving)
            cursor = leaving.cursor
            await one.leave(leaving)
            if "databases" in restored:
                await asyncio.to_thread(restore_databases, services, terminal)
            if "stream" in restored:
                await asyncio.to_thread(restore_stream, services, backup)
            if number == 3:
                terminal.succeeds(*with_word(RESTORE, "--new-epoch --yes"), **services.nats.environment("setup"))
            else:  # what the command calls
                await renew_epoch(broker_settings(services.nats, "setup"))
            leaving = one.follow(f"returning-{number}", since=cursor or "")
            await one.told(staying, leaving)
            levels.append(await one.level())
            await one.heard_by(staying, leaving)
            wrong |= await one.wrong(staying, leaving)

    assert levels == [2, 4, 2]
    assert wrong == {}
    assert in_use[0] != 0
    assert "is being accessed by other users" in in_use[1]


def copy_stream(services: Services, to: Path) -> None:
    services.nats.stop()
    shutil.copytree(services.nats.folder / "jetstream", to)
    services.nats.start()


def restore_databases(services: Services, terminal: Shell) -> None:
    with stopped(services):
        terminal.succeeds(*with_word(RESTORE, "pg_restore"))


def restore_stream(services: Services, backup: Path) -> None:
    services.nats.stop()
    shutil.rmtree(services.nats.folder / "jetstream")
    shutil.copytree(backup, services.nats.folder / "jetstream")
    services.nats.start()


async def test_backup_of_an_older_version_is_restored_over_newer_tables_and_migrated(
    terminal: Shell, postgres: Postgres
) -> None:
    url = url_of(postgres, "auth")
    await migrated(url, "auth", to="0007")
    terminal.succeeds(BACK_UP[0])
    await migrated(url, "auth")
    terminal.succeeds(*with_word(RESTORE, "pg_restore")[:1])
    printed = terminal.succeeds(with_word(RESTORE, "migrate")[0], BEACONFIRE_DATABASE_URL=url)

    assert "from 0007 to 0008" in printed
