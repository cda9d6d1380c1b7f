"""Create a service's tables, and change them with its releases.

Alembic runs the migrations. Each service has its own folder of revisions and its own version table. A service never
changes tables of PostgreSQL unasked: it checks the revision when it starts, and reports what to do.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, inspect, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from beaconfire_kit import logs
from beaconfire_kit.database import (
    Database,
    DatabaseAway,
    DatabaseRefused,
    DatabaseUnusable,
    FileUnusable,
    lock,
    make_file,
)

log = logs.get(__name__)

VERSION_TABLE = "beaconfire_{service}_revision"
LOCK_TIMEOUT = "30s"
"""How long a migration waits for a table that running services use."""


@dataclass(frozen=True, slots=True)
class Migrated:
    """The revisions before and after a migration. None: the database had no tables."""

    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Migrations:
    """The revisions of a service's tables."""

    service: str
    tables: MetaData
    folder: Path
    before_revisions: frozenset[str]
    """The tables of the last release without revisions. Migrations continue from such a database."""

    @property
    def version_table(self) -> str:
        return VERSION_TABLE.format(service=self.service)

    @property
    def head(self) -> str:
        """The newest revision, the one that this code needs."""
        head = self._script().get_current_head()
        assert head is not None
        return head

    async def settle(self, database: Database, *, migrate: bool | None) -> None:
        """Check that the tables are those of this code. Migrate them first if `migrate`. None: only if it is SQLite.

        Raises DatabaseUnusable, and DatabaseAway if the database is not there or still has to be migrated.
        """
        if database.is_sqlite if migrate is None else migrate:
            done = await self.upgrade(database)
            if done.before != done.after:
                log.info("migrated the database", database=self.service, before=done.before, after=done.after)
            return
        async with _opened(database, database.connected) as connection:
            current = await connection.run_sync(self.current)
        if current != self.head:
            raise DatabaseAway(
                f"the database is at {current or 'no revision'}, this version needs {self.head}: "
                f"run `beaconfire migrate {self.service}`"
            )

    async def upgrade(self, database: Database, to: str = "head") -> Migrated:
        """Migrate the tables to a revision, by default the newest, all or nothing. Two at once are harmless.

        Raises DatabaseAway, DatabaseUnusable.
        """
        return await self._run(database, command.upgrade, to)

    async def downgrade(self, database: Database, to: str) -> Migrated:
        """Take the tables back to a revision; `base` is none. Newer columns are lost. Raises as `upgrade` does."""
        return await self._run(database, command.downgrade, to)

    def current(self, connection: Connection) -> str | None:
        """Return the revision of a database, None before the first. Raises DatabaseUnusable if it is unknown here."""
        found = self._context(connection).get_current_heads()
        known = {script.revision for script in self._script().walk_revisions()}
        if unknown := sorted(set(found) - known):
            raise DatabaseUnusable(
                f"the {self.service} database is at revision {', '.join(unknown)}, which this version does not know: "
                "it was migrated by a newer one. Run that one, or restore the backup from before it"
            )
        return found[0] if found else None

    def differences(self, connection: Connection) -> list[Any]:
        """How the tables differ from the models, in alembic's words. None may, after `upgrade`."""
        return list(compare_metadata(self._context(connection), self.tables))

    def write(self, connection: Connection, title: str) -> Path:
        """Write a revision with the difference between a migrated database and the models. Returns its path."""
        revision_id = f"{len(list(self._script().walk_revisions())) + 1:04}"
        made = command.revision(self._config(connection), title, autogenerate=True, rev_id=revision_id)
        assert made is not None
        assert not isinstance(made, list)
        path = Path(made.path)
        path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if "# ###" not in line))
        return path

    async def _run(self, database: Database, change: Callable[[Config, str], None], to: str) -> Migrated:
        await asyncio.to_thread(_make_file, database)
        async with _opened(database, database.migrating) as tx:
            if not database.is_sqlite:
                await tx.execute(text("SET LOCAL lock_timeout = 0"))
                await tx.execute(text("SET LOCAL statement_timeout = 0"))
            await lock(tx, f"migration of {self.service}")
            if not database.is_sqlite:
                await tx.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
            return await tx.run_sync(self._change, change, to)

    def _change(self, connection: Connection, change: Callable[[Config, str], None], to: str) -> Migrated:
        before = self.current(connection)
        if before is None:
            self._check_it_is_ours(connection)
        change(self._config(connection), to)
        if connection.dialect.name == "sqlite" and (
            broken := connection.execute(text("PRAGMA foreign_key_check")).all()
        ):
            raise DatabaseUnusable(f"{len(broken)} rows of table {broken[0][0]} refer to rows that are not there")
        return Migrated(before, self.current(connection))

    def _check_it_is_ours(self, connection: Connection) -> None:
        """Raise DatabaseUnusable for a database that has tables which no release of this service made."""
        there = set(inspect(connection).get_table_names())
        others = [name for name in there if name.startswith("beaconfire_") and name != self.version_table]
        if others:
            raise DatabaseUnusable(
                f"this database is another service's (it has a table {others[0]}): {self.service} needs one of its "
                "own, or a schema of its own (PostgreSQL: ALTER ROLE … SET search_path)"
            )
        taken = there & set(self.tables.tables)
        if missing := self.before_revisions - there if taken else ():
            raise DatabaseUnusable(
                f"this database has a table {min(taken)} and none called {min(missing)}: {self.service} did not make "
                "it, and leaves it alone. Point it at an empty database"
            )

    def _context(self, connection: Connection) -> MigrationContext:
        return MigrationContext.configure(connection, opts={"version_table": self.version_table, "compare_type": True})

    def _config(self, connection: Connection | None = None) -> Config:
        config = Config()
        config.set_main_option("script_location", _escaped(Path(__file__).parent))
        config.set_main_option("version_locations", _escaped(self.folder))
        config.set_main_option("path_separator", "newline")
        config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
        config.attributes.update(connection=connection, migrations=self)
        return config

    def _script(self) -> ScriptDirectory:
        return ScriptDirectory.from_config(self._config())


def _escaped(path: Path) -> str:
    return str(path).replace("%", "%%")


def _make_file(database: Database) -> None:
    try:
        make_file(database)
    except OSError as error:
        raise _unusable(database, error) from error


async def open_database(database: Database, migrations: Migrations, *, migrate: bool | None) -> None:
    """Open a service's database when it starts. Raises DatabaseUnusable.

    A database that is away, or still has to be migrated, is not an error. The service is not ready until then.
    """
    await database.open(lambda: migrations.settle(database, migrate=migrate))


@asynccontextmanager
async def _opened(
    database: Database, enter: Callable[[], AbstractAsyncContextManager[AsyncConnection]]
) -> AsyncIterator[AsyncConnection]:
    try:
        async with enter() as connection:
            yield connection
    except DatabaseRefused as error:
        raise DatabaseUnusable(error.reason) from error
    except FileUnusable as error:
        raise _unusable(database, getattr(error.__cause__, "orig", None) or error.message) from error
    except SQLAlchemyError as error:
        raise _unusable(database, getattr(error, "orig", None) or error) from error


def _unusable(database: Database, cause: object) -> DatabaseUnusable:
    return DatabaseUnusable(f"cannot open the database {database.where}: {cause}. Move it away, or point elsewhere")
