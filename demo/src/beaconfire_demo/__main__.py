"""Write the demo's pages into a folder: `python -m beaconfire_demo FOLDER`, settings from `BEACONFIRE_…`."""

import argparse
from pathlib import Path

from beaconfire_demo.settings import PageSettings
from beaconfire_demo.site import write_site
from beaconfire_kit.settings import read_settings


def main() -> None:
    """Write the pages, and print their folder."""
    parser = argparse.ArgumentParser(prog="python -m beaconfire_demo", description="Write the demo's pages.")
    parser.add_argument(
        "folder", type=Path, help="the folder to write to; a gateway serves it with BEACONFIRE_STATIC_DIR"
    )
    folder = parser.parse_args().folder
    write_site(folder, read_settings(PageSettings))
    print(f"wrote the pages into {folder}")  # noqa: T201


if __name__ == "__main__":
    main()
