"""Declares every event of ours, so that `beaconfire_kit.event.events` has them. Gateways do without."""

import pkgutil
from importlib import import_module

from beaconfire_kit import events

for _module in pkgutil.iter_modules(events.__path__, f"{events.__name__}."):
    import_module(_module.name)
