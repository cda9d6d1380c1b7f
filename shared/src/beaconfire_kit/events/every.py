"""Import every event class of ours, so that `beaconfire_kit.event.events` returns them. Gateways do not import this."""

import pkgutil
from importlib import import_module
from pathlib import Path

for _module in pkgutil.iter_modules([str(Path(__file__).parent)], f"{__package__}."):
    import_module(_module.name)
