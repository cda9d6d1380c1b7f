"""`beaconfire migrate`: update the tables of a service's database, before a new version of the service starts."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic_settings import SettingsConfigDict

from beaconfire_auth.migrations import MIGRATIONS as AUTH
from beaconfire_demo.tracker.migrations import MIGRATIONS as TRACKER
from beaconfire_demo.workspace.migrations import MIGRATIONS as WORKSPACE
from beaconfire_kit.database import Database, DatabaseAway, cause
from beaconfire_kit.migrations import Migrated, Migrations
from beaconfire_kit.setting_files import FileSettings, MayContainPassword
from beaconfire_kit.settings import ENV_PREFIX
from beaconfire_publisher.migrations import MIGRATIONS as PUBLISHER

DEMO = {one.service: one for one in (WORKSPACE, TRACKER)}
SERVICES = {AUTH.service: AUTH, PUBLISHER.service: PUBLISHER} | DEMO
RETRY_S = 0.5


class _Environment(FileSettings):
    """The only setting that a migration needs. The secrets of the services are not needed."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="ignore")

    database_url: MayContainPassword = ""


class CannotMigrate(Exception):
    """The text contains the problem and what to do."""


def migrate(service: str | None, url: str | None, folder: Path, *, timeout_s: float) -> Iterator[str]:
    """Migrate the database of one service, or of all. Yield a line about each.

    Without a `url`, it is that of the environment, or that of the `beaconfire up` in `folder`. Raises CannotMigrate,
    DatabaseUnusable.
    """
    if service is not None and service not in SERVICES:
        raise CannotMigrate(f"there is no service {service!r} with a database. It is one of {_names()}")
    try:
        urls = database_urls(service, url, folder)
    except ValueError as error:
        raise CannotMigrate(str(error)) from None
    for name, where in urls.items():
        done = asyncio.run(_migrate(SERVICES[name], where, timeout_s))
        yield _line(name, done)


def database_urls(service: str | None, url: str | None, folder: Path) -> dict[str, str]:
    """Return the URLs of the database of one service, or of all if `service` is None, by the service's name.

    Without a `url`, it is that of the environment, or that of the `beaconfire up` in `folder`. Raises ValueError if
    there is a `url` but no service.
    """
    url = url or _Environment().database_url
    if service is None and url:
        raise ValueError(f"one database is given: name its service, {_names()}")
    return databases_of(folder) if service is None else {service: url or _database_of(folder, service)}


def databases_of(folder: Path) -> dict[str, str]:
    """Return the URLs of the databases of the `beaconfire up` in a folder, by the service's name.

    An application of the demo that never ran there has none.
    """
    there = [name for name in SERVICES if name not in DEMO or (folder / f"{name}.db").exists()]
    return {name: _database_of(folder, name) for name in there}


def _database_of(folder: Path, name: str) -> str:
    return f"sqlite+aiosqlite:///{folder.absolute() / name}.db"


async def _migrate(migrations: Migrations, url: str, timeout_s: float) -> Migrated:
    database = Database(url)
    deadline = time.monotonic() + timeout_s
    try:
        while True:
            try:
                return await migrations.upgrade(database)
            except DatabaseAway as error:
                if time.monotonic() > deadline:
                    raise CannotMigrate(f"{database.where}: {error.message} ({cause(error)})") from None
            await asyncio.sleep(RETRY_S)
    finally:
        await database.close()


def _names() -> str:
    return " or ".join(SERVICES)


def _line(service: str, done: Migrated) -> str:
    if done.before == done.after:
        return f"{service}: already up to date, at revision {done.after}"
    return f"{service}: migrated from {done.before or 'no revision'} to {done.after}"
