"""The revisions of the tracker's tables."""

from pathlib import Path

from beaconfire_demo.tracker.store import TABLES
from beaconfire_kit.migrations import Migrations

MIGRATIONS = Migrations("tracker", TABLES, Path(__file__).parent, before_revisions=frozenset())
