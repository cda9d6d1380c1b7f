"""The user's `BEACONFIRE_…` variables, and which of them reach the services of `beaconfire up`.

A service is given its own settings alone. A few are for `up` to choose: it says so, and what to use instead.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from beaconfire.service_settings import settings_classes, variables
from beaconfire_kit.settings import ENV_PREFIX, nearest, variable

CHOSEN_BY_UP = {
    "host": "use --host",
    "port": "use --port",
    "ops_host": "the operations ports are on loopback",
    "ops_port": "the operations ports are free ones",
    "reuse_port": "the gateways share --port",
    "workers": "use --workers",
    "nats_url": "it starts a broker of its own; --port chooses its port",
    "nats_user": "it starts a broker of its own, with its own users",
    "nats_password": "it starts a broker of its own, with its own passwords",
    "database_url": "it uses databases in the folder of --data",
    "jwks_url": "it starts its own auth",
    "grant_tokens": "it makes one for the folder of --data",
    "auth_url": "it starts its own auth",
    "keys_secret": "it makes one for the folder of --data",
    "demo_people": "use --no-demo to have none",
    "static_dir": "its gateways serve the demo's page",
    "log_format": "it reads the logs as JSON; --verbose shows all of them",
}
"""Settings that `up` decides, and what to use instead."""

ADDED = "allowed_origins"
"""What the user gives is added to the origins that `up` allows; `--origin` does the same."""

FOR_OTHER_PROGRAMS = {variable(name) for name in ("operator_token", "service_token", "publisher_url", "token")}
"""What other commands and the examples read: nothing is said about them."""

_SERVICES = {"gateway": "gateway", "auth": "auth", "publisher": "publisher", "demo": "demo"} | dict.fromkeys(
    ("rules-engine", "scheduler"), "publisher's workers"
)


@dataclass(frozen=True, slots=True)
class PassedOn:
    """What of an environment reaches the services, by service; and what does not, in a sentence each."""

    by_service: Mapping[str, Mapping[str, str]]
    origins: tuple[str, ...]
    notes: tuple[str, ...]


def passed_on(environment: Mapping[str, str]) -> PassedOn:
    """Sort the user's variables."""
    given = {name: value for name, value in environment.items() if name.startswith(ENV_PREFIX)}
    origins = given.pop(variable(ADDED), "")
    chosen_here = {variable(name) for name in CHOSEN_BY_UP} | FOR_OTHER_PROGRAMS
    classes = settings_classes()
    by_service = {
        service: {name: given[name] for name in variables(classes[cls]) if name in given and name not in chosen_here}
        for service, cls in _SERVICES.items()
    }
    used = {name for names in by_service.values() for name in names}
    notes = tuple(_notes(sorted(given.keys() - used - FOR_OTHER_PROGRAMS)))
    return PassedOn(by_service, tuple(part.strip() for part in origins.split(",") if part.strip()), notes)


def _notes(unused: list[str]) -> Iterator[str]:
    known = [name for cls in settings_classes().values() for name in variables(cls)]
    for name in unused:
        if instead := CHOSEN_BY_UP.get(name.removeprefix(ENV_PREFIX).lower()):
            yield f"{name} has no effect on `beaconfire up`: {instead}"
        elif near := nearest(name, known):
            yield f"{name} has no effect: there is no such setting; did you mean {near}?"
        else:
            yield f"{name} has no effect: no service has such a setting (docs/reference/settings.md)"
