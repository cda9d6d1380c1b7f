"""docker-compose.yml: valid by the compose specification's own schema, and what the services really need.

It is checked here by schema and against the settings, and not run: the tests need no container engine.
"""

import json
import re
import secrets
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from shared.settings import Settings
from tools.broker_users import USERS, password_variable
from tools.cluster import WORKERS
from tools.derived.settings_page import settings_classes, variables

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE = yaml.safe_load(TEXT)
PROXY = (ROOT / "deploy/proxy/Caddyfile").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()
OURS = {name: one for name, one in COMPOSE["services"].items() if "build" in one}
RUNNING = {name: one for name, one in OURS.items() if name != "setup"}
STRONG = secrets.token_hex(24)  # as .env.example says how to make one
_INTERPOLATED = re.compile(r"\$\{(\w+)(?::[-?]([^}]*))?\}")


def service_of(name: str) -> str:
    """Which of our services a compose service runs."""
    return str(OURS[name]["build"]["args"]["SERVICE"])


def settings_of(name: str) -> type[Settings]:
    """What a compose service reads from its environment."""
    return settings_classes()["publisher's workers" if name in WORKERS else service_of(name)]


def resolved(value: str) -> str:
    """A value with its interpolations filled in."""
    return _INTERPOLATED.sub(lambda match: STRONG if match[2] == "set it in .env" else match[2] or "", value)


def test_it_is_valid_by_the_specification() -> None:
    """The compose specification's JSON Schema takes it."""
    schema = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"

    jsonschema.validate(COMPOSE, json.loads(schema.read_text()))


@pytest.mark.parametrize("name", RUNNING)
def test_every_variable_is_a_setting(name: str) -> None:
    """A service is given no variable it does not read."""
    known = variables(settings_of(name))

    assert set(RUNNING[name]["environment"]) <= set(known)


@pytest.mark.parametrize("name", RUNNING)
def test_its_settings_are_accepted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service's own Settings read the environment that compose would give it, with nothing missing."""
    for variable, value in RUNNING[name]["environment"].items():
        monkeypatch.setenv(variable, resolved(value))

    settings = settings_of(name)()

    assert (settings.host, settings.port, settings.ops_port) == ("0.0.0.0", 8080, 9090)
    assert settings.environment == "production"
    assert list(settings.weak_secrets()) == []


@pytest.mark.parametrize("name", RUNNING)
def test_no_local_default_is_left(name: str) -> None:
    """What points at this machine by default points at a container, or into a volume, here."""
    environment = RUNNING[name]["environment"]
    local = [
        variable
        for variable, field in variables(settings_of(name)).items()
        if re.search(r"127\.0\.0\.1|\.beaconfire", str(field.default))
    ]

    assert local
    for variable in local:
        assert variable in environment, f"{variable} keeps its local default"


@pytest.mark.parametrize("name", OURS)
def test_broker_users_are_in_the_table(name: str) -> None:
    """Each service connects as a user of the broker's table, its own, with that user's password."""
    environment = OURS[name]["environment"]
    user = environment["BEACONFIRE_NATS_USER"]

    assert user in {row.name for row in USERS}
    assert user == (name if name in ("setup", *WORKERS) else service_of(name))
    assert environment["BEACONFIRE_NATS_PASSWORD"].startswith(f"${{{password_variable(user)}:?")


@pytest.mark.parametrize("name", WORKERS)
def test_workers_are_run(name: str) -> None:
    """Each worker runs as itself, on the publisher's database."""
    environment = OURS[name]["environment"]

    assert OURS[name]["command"] == ["python", "-m", "services.publisher", name]
    assert environment["BEACONFIRE_DATABASE_URL"] == OURS["publisher"]["environment"]["BEACONFIRE_DATABASE_URL"]
    assert OURS[name]["volumes"] == OURS["publisher"]["volumes"]


def test_the_broker_has_every_password() -> None:
    """nats-server gets each password its configuration names."""
    assert set(COMPOSE["services"]["nats"]["environment"]) == {password_variable(user.name) for user in USERS}


@pytest.mark.parametrize("name", OURS)
def test_addresses_name_services(name: str) -> None:
    """Every host in an address is a service of this file, on the port that it listens on."""
    for value in OURS[name]["environment"].values():
        for host, port in re.findall(r"(?:http|nats)://([\w-]+):(\d+)", value):
            assert port == ("4222" if host == "nats" else RUNNING[host]["environment"]["BEACONFIRE_PORT"])


def test_the_proxy_names_services_and_their_ports() -> None:
    """Everything behind the proxy is there, and everything with a public port is behind the proxy."""
    upstreams = set(re.findall(r"([\w-]+):8080", PROXY))

    assert upstreams == set(RUNNING) - set(WORKERS)


@pytest.mark.parametrize("name", RUNNING)
def test_health_is_asked_on_the_operations_port(name: str) -> None:
    """The health check asks the port on which the service answers."""
    assert f":{RUNNING[name]['environment']['BEACONFIRE_OPS_PORT']}/readyz" in RUNNING[name]["healthcheck"]["test"][3]


def test_only_the_proxy_is_published() -> None:
    """No service, and no operations port, can be reached past the proxy."""
    assert [name for name, one in COMPOSE["services"].items() if "ports" in one] == ["proxy"]


def test_every_interpolation_is_in_the_example() -> None:
    """.env.example has each variable that docker-compose.yml asks for, and no other."""
    assert set(re.findall(r"^(\w+)=", EXAMPLE, re.MULTILINE)) == {match[1] for match in _INTERPOLATED.finditer(TEXT)}


def test_data_outlives_its_containers() -> None:
    """What is kept, is kept on a named volume."""
    for name in ("nats", "auth", "publisher"):
        assert f"{name}:/data" in COMPOSE["services"][name]["volumes"]
        assert name in COMPOSE["volumes"]


def test_every_path_it_mounts_or_builds_from_is_there() -> None:
    """Files that compose and the Dockerfile name exist in the repository."""
    mounts = [
        volume.split(":")[0]
        for one in COMPOSE["services"].values()
        for volume in one.get("volumes", ())
        if volume.startswith("./")
    ]
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)

    for path in [*mounts, *(path for line in copies for path in line.split())]:
        assert (ROOT / path).exists(), path


def any_environment() -> dict[str, Any]:
    """All variables of all our services."""
    return {variable: value for one in OURS.values() for variable, value in one["environment"].items()}


def test_no_secret_is_written_down() -> None:
    """Passwords come from .env and have no default."""
    for variable, value in any_environment().items():
        if "PASSWORD" in variable:
            assert value.endswith(":?set it in .env}")
    assert not re.search(r"PASSWORD=\S", EXAMPLE)
