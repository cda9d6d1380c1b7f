"""Pass the user's `BEACONFIRE_…` variables on to the services of `beaconfire up`.

Each service gets only its own settings. `up` chooses some of them itself. If one of those is set, `up` prints what to
use instead.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from beaconfire.service_settings import settings_classes, variables
from beaconfire_kit.setting_files import SUFFIX
from beaconfire_kit.settings import ENV_PREFIX, nearest, variable

CHOSEN_BY_UP = {
    "host": "use --host",
    "port": "use --port",
    "ops_host": "the operations ports are on loopback",
    "ops_port": "`up` takes free ports for operations",
    "reuse_port": "the gateways share --port",
    "workers": "use --workers",
    "nats_url": "`up` starts its own broker; --port chooses its port",
    "nats_user": "`up` starts its own broker, with its own users",
    "nats_password": "`up` starts its own broker, with its own passwords",
    "database_url": "`up` uses databases in the folder of --data",
    "jwks_url": "`up` starts its own auth",
    "grant_tokens": "`up` creates one for the folder of --data",
    "auth_url": "`up` starts its own auth",
    "keys_secret": "`up` creates one for the folder of --data",
    "applications": "use --only",
    "demo_people": "use --no-demo to have none",
    "static_dir": "use --page",
    "log_format": "`up` reads the logs as JSON; --verbose shows every line",
}
"""Settings that `up` chooses, and what to use instead."""

ADDED = "allowed_origins"
"""The user's value is added to the origins that `up` allows, as with `--origin`."""

FOR_OTHER_PROGRAMS = {variable(name) for name in ("operator_token", "service_token", "publisher_url", "token")} | {
    variable(name) + SUFFIX for name in ("operator_token", "service_token")
}
"""Variables that other commands and the examples read. There is no note about them."""

_SERVICES = {name: name for name in ("gateway", "auth", "publisher", "workspace", "tracker", "demo")} | dict.fromkeys(
    ("rules-engine", "scheduler"), "publisher's workers"
)


@dataclass(frozen=True, slots=True)
class PassedOn:
    """The variables that reach each service, and a sentence for each variable that reaches none."""

    by_service: Mapping[str, Mapping[str, str]]
    origins: tuple[str, ...]
    notes: tuple[str, ...]


def passed_on(environment: Mapping[str, str], *, also_used: Collection[str] = ()) -> PassedOn:
    """Assign the user's variables to the services. There is no note about those that are `also_used` elsewhere."""
    given = {name: value for name, value in environment.items() if name.startswith(ENV_PREFIX)}
    origins = given.pop(variable(ADDED), "")
    chosen_here = {variable(name) for name in CHOSEN_BY_UP} | FOR_OTHER_PROGRAMS
    classes = settings_classes()
    by_service = {
        service: {name: given[name] for name in variables(classes[cls]) if name in given and name not in chosen_here}
        for service, cls in _SERVICES.items()
    }
    used = {name for names in by_service.values() for name in names}
    notes = tuple(_notes(sorted(given.keys() - used - FOR_OTHER_PROGRAMS - set(also_used))))
    return PassedOn(by_service, tuple(part.strip() for part in origins.split(",") if part.strip()), notes)


def _notes(unused: list[str]) -> Iterator[str]:
    known = [name for cls in settings_classes().values() for name in variables(cls)]
    for name in unused:
        if instead := CHOSEN_BY_UP.get(name.removeprefix(ENV_PREFIX).removesuffix(SUFFIX).lower()):
            yield f"{name} has no effect on `beaconfire up`: {instead}"
        elif near := nearest(name, known):
            yield f"{name} has no effect: there is no such setting; did you mean {near}?"
        else:
            yield f"{name} has no effect: no service has such a setting (docs/reference/settings.md)"
