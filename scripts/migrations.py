"""Write the next revision of a service's tables, or check that none is missing. For developers.

python -m scripts.migrations check | write auth "add a column"
"""

import argparse
import subprocess
import sys

from alembic.util.exc import CommandError

from beaconfire.migrate import SERVICES
from beaconfire_kit.migrations import Migrations
from beaconfire_kit.migrations.revisions import missing, write


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.migrations", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="exit code 1 where a model has no migration")
    writing = commands.add_parser("write", help="write a revision with what the models have and the revisions lack")
    writing.add_argument("service", choices=sorted(SERVICES))
    writing.add_argument("title")
    given = parser.parse_args()
    try:
        if given.command == "write":
            write_revision(SERVICES[given.service], given.title)
        elif problems := [line for one in SERVICES.values() for line in check(one)]:
            sys.exit("\n".join(problems))
    except CommandError as error:
        sys.exit(f"{error}. Two revisions on the same one: give the later its own number, and set its down_revision")


def check(migrations: Migrations) -> list[str]:
    """Return the differences between a migrated database and the models, a line each."""
    advice = f'run: make migration SERVICE={migrations.service} TITLE="what it does"'
    return [f"{migrations.service}: no migration for {one}; {advice}" for one in missing(migrations)]


def write_revision(migrations: Migrations, title: str) -> None:
    """Write the next revision, in house style, and print its path: it is to be read before it is committed."""
    path = write(migrations, title)
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", path], check=True)
    print(f"wrote {path}: read it, and describe in its docstring its effect on a database that is in use")


if __name__ == "__main__":
    main()
