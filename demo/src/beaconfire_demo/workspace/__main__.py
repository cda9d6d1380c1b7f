"""Run the workspace service, with settings from `BEACONFIRE_…`: `python -m beaconfire_demo.workspace`."""

if __name__ == "__main__":
    from beaconfire_kit import stopping

    stopping.exit_on_signal()  # before the other imports, which take a second

from beaconfire_demo.workspace.app import build
from beaconfire_demo.workspace.settings import Settings
from beaconfire_kit.service import run

if __name__ == "__main__":
    run("workspace", Settings, build)
