"""Write the next revision of a service's tables. The module must have the service's `MIGRATIONS`:

python -m beaconfire_kit.migrations quests.migrations "The first tables"
"""

import argparse
import importlib
import sys

from alembic.util.exc import CommandError

from beaconfire_kit.migrations.revisions import write


def main() -> None:
    """Write the revision and print its path."""
    parser = argparse.ArgumentParser(prog="python -m beaconfire_kit.migrations", description=__doc__)
    parser.add_argument("module", help="the module with MIGRATIONS, `quests.migrations`")
    parser.add_argument("title", help="a short name for the change")
    given = parser.parse_args()
    try:
        path = write(importlib.import_module(given.module).MIGRATIONS, given.title)
    except CommandError as error:
        sys.exit(f"{error}. If two revisions follow the same one, renumber the later and set its down_revision")
    print(f"wrote {path}: read it before you commit it")  # noqa: T201


if __name__ == "__main__":
    main()
