"""What developers do with migrations: write the next revision, and check that none is missing.

python -m scripts.migrations check | write auth "add a column"
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from alembic.util.exc import CommandError
from sqlalchemy import Connection

from beaconfire.migrate import SERVICES
from beaconfire_kit.database import Database
from beaconfire_kit.migrations import Migrations

T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.migrations", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="exit code 1 where a model has no migration")
    write = commands.add_parser("write", help="write a revision with what the models have and the revisions lack")
    write.add_argument("service", choices=sorted(SERVICES))
    write.add_argument("title")
    given = parser.parse_args()
    try:
        if given.command == "write":
            write_revision(SERVICES[given.service], given.title)
        elif problems := [line for one in SERVICES.values() for line in check(one)]:
            sys.exit("\n".join(problems))
    except CommandError as error:
        sys.exit(f"{error}. Two revisions on the same one: give the later its own number, and set its down_revision")


def check(migrations: Migrations) -> list[str]:
    """What a migrated database has otherwise than the models, in a line each."""
    differences = asyncio.run(_migrated(migrations, migrations.differences))
    advice = f'run: make migration SERVICE={migrations.service} TITLE="what it does"'
    return [f"{migrations.service}: no migration for {one}; {advice}" for one in differences]


def write_revision(migrations: Migrations, title: str) -> None:
    """Write the next revision, in house style, and print its path: it is to be read before it is committed."""
    path = asyncio.run(_migrated(migrations, lambda connection: migrations.write(connection, title)))
    lines = [line for line in path.read_text().splitlines(keepends=True) if "# ###" not in line]
    path.write_text("".join(lines))
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", path], check=True)
    print(f"wrote {path}: read it, and say in its docstring what it does to a database that is in use")


async def _migrated(migrations: Migrations, work: Callable[[Connection], T]) -> T:
    """The result of `work` on a new SQLite database at the newest revision."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite+aiosqlite:///{Path(folder)}/new.db")
        try:
            await migrations.upgrade(database)
            async with database.transaction() as tx:
                return await tx.run_sync(work)
        finally:
            await database.close()


if __name__ == "__main__":
    main()
