"""Run the publisher or one of its workers, with settings from `BEACONFIRE_…` (docs/reference/settings.md):

python -m beaconfire_publisher [rules-engine | scheduler]
"""

if __name__ == "__main__":
    from beaconfire_kit import stopping

    stopping.exit_on_signal()  # before the other imports, which take a second

import argparse
from functools import partial

from beaconfire_kit.service import run
from beaconfire_publisher import app, worker
from beaconfire_publisher.settings import Settings, WorkerSettings


def main() -> None:
    """Run what the command line names until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="python -m beaconfire_publisher", description="The publisher or a worker of it."
    )
    parser.add_argument("worker", nargs="?", choices=sorted(worker.JOBS), help="none: the HTTP service and the relay")
    chosen = parser.parse_args().worker
    if chosen is None:
        run("publisher", Settings, app.build)
    else:
        run(chosen, WorkerSettings, partial(worker.build, worker.JOBS[chosen]), is_worker=True)


if __name__ == "__main__":
    main()
