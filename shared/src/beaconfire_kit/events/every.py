"""Declares every event of ours, so that `beaconfire_kit.event.events` has them. Gateways do without."""

import pkgutil
from importlib import import_module
from pathlib import Path

for _module in pkgutil.iter_modules([str(Path(__file__).parent)], f"{__package__}."):
    import_module(_module.name)
