"""Make databases for tests: SQLite in a folder, or a real PostgreSQL of this test process.

A test that needs a database uses `database_url(folder, service)`. A module marked `on_both_databases` runs on each.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url

from beaconfire.migrate import SERVICES
from beaconfire.nats_server import free_port
from beaconfire.processes import Process
from beaconfire_kit.database import Database

on_both_databases = pytest.mark.usefixtures("each_database")
START_TIMEOUT_S = 30.0
# The data need not survive the machine, so no commit waits for the disk. It survives the server: commits are written.
FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "16MB",
    "max_connections": "200",
    "jit": "off",
}


class Postgres:
    """A PostgreSQL server of our own, from the machine's binaries, on a free port of this machine."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="beaconfire-postgresql-"))
        self.port = free_port()
        self._as_user = _as_unprivileged(self.folder)
        self._data = self.folder / "data"
        options = [part for name, value in FAST.items() for part in ("-c", f"{name}={value}")]
        self.process = Process(
            "postgresql",
            [
                *([*self._as_user, "--pdeathsig", "KILL"] if self._as_user else []),
                str(binaries() / "postgres"),
                *("-D", str(self._data), "-p", str(self.port), "-h", "127.0.0.1", "-k", str(self.folder)),
                *options,
            ],
            log_path=self.folder / "log",
        )

    def make(self) -> None:
        """Make the cluster and start it. Superuser `beaconfire`; every other user needs a password."""
        arguments = ["-D", str(self._data), "--no-sync", "-A", "trust", "-U", "beaconfire", "-E", "UTF8", "--locale=C"]
        command = [*self._as_user, str(binaries() / "initdb"), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder)
        doors = "local all beaconfire trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        (self._data / "pg_hba.conf").write_text(doors)
        self.start()

    def drop(self, *names: str) -> None:
        """Drop databases, and the users of the same names."""
        place = ["--host", str(self.folder), "--port", str(self.port), "--username", "beaconfire"]
        for name in names:
            subprocess.run([binaries() / "dropdb", *place, "--force", name], check=True, capture_output=True)
            subprocess.run([binaries() / "dropuser", *place, name], check=True, capture_output=True)

    def start(self) -> None:
        """Start it, and wait until it answers. Not on a thread that ends: it would end with it."""
        self.process.start()

        async def answers() -> None:
            async with asyncio.timeout(START_TIMEOUT_S):
                while True:
                    try:
                        await (await asyncpg.connect(self.dsn("postgres"))).close()
                    except (OSError, asyncpg.PostgresError):
                        assert self.process.is_running, self.process.last_lines
                        await asyncio.sleep(0.02)
                    else:
                        return

        run(answers())

    def stop_at_once(self) -> None:
        """End it as a crash would, but for the shared memory: connections are cut, nothing is written (SIGQUIT)."""
        if self.process.is_running and self.process.pid is not None:
            os.kill(self.process.pid, signal.SIGQUIT)
            assert self.process.wait(20)

    def remove(self) -> None:
        self.stop_at_once()
        shutil.rmtree(self.folder, ignore_errors=True)

    def dsn(self, database: str) -> str:
        """Return a URL through the server's socket, which needs no password."""
        return f"postgresql://beaconfire@/{database}?host={self.folder}&port={self.port}"


class ForeignPostgres:
    """A PostgreSQL that is there already (`POSTGRES_URL`), whose user may make databases."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url).set(drivername="postgresql")

    def dsn(self, database: str) -> str:
        return self._url.set(database=database).render_as_string(hide_password=False)


class Databases:
    """Makes databases on one server, each from a template that is migrated once."""

    def __init__(self, server: Postgres | ForeignPostgres) -> None:
        self._server = server
        self._made: set[str] = set()
        self._templates: set[str] = set()
        self._prefix = f"bf{os.getpid()}"

    def url(self, name: str, *, template: str | None = None) -> str:
        """The database of this name, made where it is not there yet: empty, or a copy of `template`."""
        full = f"{self._prefix}_{name}"
        if full not in self._made:
            source = self._source(template)
            self._execute(f'CREATE DATABASE "{full}" TEMPLATE "{source}"')
            self._made.add(full)
        return self._url(full)

    def drop_all(self) -> None:
        """Drop what `url` made."""
        for name in self._made:
            self._execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        self._made.clear()

    def drop_templates(self) -> None:
        for name in self._templates:
            self._execute(f'DROP DATABASE "{name}"')

    def _source(self, template: str | None) -> str:
        if template is None:
            return "template1"
        return self._template(template) if template in SERVICES else f"{self._prefix}_{template}"

    def _template(self, service: str) -> str:
        name = f"{self._prefix}_template_{service}"
        if name not in self._templates:
            self._execute(f'CREATE DATABASE "{name}"')
            self._templates.add(name)
            run(_migrate(self._url(name), service))
        return name

    def _url(self, database: str) -> str:
        dsn: URL = make_url(self._server.dsn(database)).set(drivername="postgresql+asyncpg")
        return dsn.render_as_string(hide_password=False)

    def _execute(self, statement: str) -> None:
        async def execute() -> None:
            connection = await asyncpg.connect(self._server.dsn("postgres"))
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

        run(execute())


class _Chosen:
    """The kind of database of the running test. One test runs at a time in a process."""

    databases: Databases | None = None


def database_url(folder: Path, service: str) -> str:
    """The URL of a service's database in the running test. The same folder is the same database."""
    if _Chosen.databases is None:
        return f"sqlite+aiosqlite:///{folder}/{service}.db"
    return _Chosen.databases.url(_name(folder, service), template=service if service in SERVICES else None)


def _name(folder: Path, service: str) -> str:
    return f"{service}_{zlib.crc32(str(folder).encode()):08x}"


def copy_database(folder: Path, to: Path, service: str) -> None:
    """Copy a service's database as a backup would. No process may use it meanwhile."""
    if _Chosen.databases is None:
        shutil.copytree(folder, to)
    else:
        database_url(folder, service)
        _Chosen.databases.url(_name(to, service), template=_name(folder, service))


def execute(folder: Path, service: str, *statements: str, **values: Any) -> list[tuple[Any, ...]]:
    """Run statements in a service's database past the service, in one transaction. Returns the rows of the last."""
    rows: list[tuple[Any, ...]] = []

    async def work() -> None:
        database = Database(database_url(folder, service))
        try:
            async with database.transaction() as tx:
                for statement in statements:
                    result = await tx.execute(text(statement), values)
                rows.extend(tuple(row) for row in result) if result.returns_rows else None
        finally:
            await database.close()

    run(work())
    return rows


@contextmanager
def chosen(databases: Databases) -> Iterator[None]:
    """Run on PostgreSQL within the block; drop at its end what was made."""
    _Chosen.databases = databases
    try:
        yield
    finally:
        _Chosen.databases = None
        databases.drop_all()


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run on a loop and thread of its own: a test's loop may be running here."""
    failed: list[BaseException] = []

    def target() -> None:
        try:
            asyncio.run(work)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


async def _migrate(url: str, service: str) -> None:
    database = Database(url)
    try:
        await SERVICES[service].upgrade(database)
    finally:
        await database.close()


def binaries() -> Path:
    """Find PostgreSQL's programs. Debian does not put them on the PATH."""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    assert versions, "PostgreSQL is not installed: run deploy/install-postgresql.sh, or set POSTGRES_URL"
    return versions[-1].parent


def _as_unprivileged(folder: Path) -> list[str]:
    """Return the start of a command that runs it as another user: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    user = "postgres" if _exists("postgres") else "nobody"
    shutil.chown(folder, user)
    group = subprocess.run(["id", "-g", user], check=True, capture_output=True, text=True).stdout.strip()
    return ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"]


def _exists(user: str) -> bool:
    return subprocess.run(["id", user], capture_output=True).returncode == 0
