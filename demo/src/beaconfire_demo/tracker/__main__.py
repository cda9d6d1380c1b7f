"""Run the tracker: `python -m beaconfire_demo.tracker`, with settings from `BEACONFIRE_…`."""

if __name__ == "__main__":
    from beaconfire_kit import stopping

    stopping.exit_on_signal()  # before the other imports, which take a second

from beaconfire_demo.tracker import app
from beaconfire_demo.tracker.settings import Settings
from beaconfire_kit.service import run

if __name__ == "__main__":
    run("tracker", Settings, app.build)
