"""Find the settings of every service and of the demo's pages by the names of their environment variables."""

import importlib

from pydantic.fields import FieldInfo

from beaconfire_kit.settings import ENV_PREFIX, Settings

CLASSES = {
    "gateway": "beaconfire_gateway.process.settings:Settings",
    "auth": "beaconfire_auth.settings:Settings",
    "publisher": "beaconfire_publisher.settings:Settings",
    "workspace": "beaconfire_demo.workspace.settings:Settings",
    "tracker": "beaconfire_demo.tracker.settings:Settings",
    "admin": "beaconfire.admin.settings:Settings",
    "demo": "beaconfire_demo.settings:PageSettings",
    "publisher's workers": "beaconfire_publisher.settings:WorkerSettings",
}
"""The class with the settings of each process."""


def settings_classes() -> dict[str, type[Settings]]:
    """Return the Settings class of each process."""
    places = {name: place.split(":") for name, place in CLASSES.items()}
    return {name: getattr(importlib.import_module(module), cls) for name, (module, cls) in places.items()}


def variables(cls: type[Settings]) -> dict[str, FieldInfo]:
    """Return a class's fields by the name of their environment variable."""
    return {f"{ENV_PREFIX}{name.upper()}": field for name, field in cls.model_fields.items()}
