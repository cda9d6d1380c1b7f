"""docker-compose.yml: valid by the compose specification's own schema, and what the services really need.

It is checked here by schema and against the settings, and not run: the tests need no container engine.
"""

import json
import os
import re
import secrets
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jsonschema
import pytest
import yaml

from beaconfire.broker_users import USERS, password_variable
from beaconfire.local_services import WORKERS
from beaconfire.migrate import migrate
from beaconfire.service_settings import settings_classes, variables
from beaconfire_kit.database import DatabaseUnusable
from beaconfire_kit.settings import Settings
from beaconfire_kit.weak_secrets import MIN_KEY, weakness
from tests.databases import Postgres

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE = yaml.safe_load(TEXT)
PROXY = (ROOT / "deploy/proxy/Caddyfile").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()
ALL: dict[str, dict[str, Any]] = COMPOSE["services"]
RUNNING = {name: one for name, one in ALL.items() if "BEACONFIRE_OPS_PORT" in one.get("environment", {})}
JOBS = {name: one for name, one in ALL.items() if one["restart"] == "on-failure"}
ON_THE_BROKER = {name: one for name, one in ALL.items() if "BEACONFIRE_NATS_USER" in one["environment"]}
MIGRATIONS = {"auth": "migrate-auth", **dict.fromkeys(("publisher", *WORKERS), "migrate-publisher")}
STRONG = secrets.token_hex(24)  # as .env.example says how to make one
_INTERPOLATED = re.compile(r"\$\{(\w+)(?::[-?]([^}]*))?\}")


def service_of(name: str) -> str:
    """Which of our services a compose service runs."""
    return str(ALL[name]["build"]["args"]["SERVICE"])


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


@pytest.mark.parametrize("name", ON_THE_BROKER)
def test_broker_users_are_in_the_table(name: str) -> None:
    """Each service connects as a user of the broker's table, its own, with that user's password."""
    environment = ALL[name]["environment"]
    user = environment["BEACONFIRE_NATS_USER"]

    assert user in {row.name for row in USERS}
    assert user == (name if name in ("setup", *WORKERS) else service_of(name))
    assert environment["BEACONFIRE_NATS_PASSWORD"].startswith(f"${{{password_variable(user)}:?")


@pytest.mark.parametrize("name", WORKERS)
def test_workers_are_run(name: str) -> None:
    """Each worker runs as itself, on the publisher's database."""
    environment = ALL[name]["environment"]

    assert ALL[name]["command"] == ["python", "-m", "beaconfire_publisher", name]
    assert environment["BEACONFIRE_DATABASE_URL"] == ALL["publisher"]["environment"]["BEACONFIRE_DATABASE_URL"]


@pytest.mark.parametrize(("name", "job"), MIGRATIONS.items())
def test_databases_are_migrated_first(name: str, job: str) -> None:
    """What has a database starts once it is migrated: by the job of its service, on its own database and user."""
    url = ALL[name]["environment"]["BEACONFIRE_DATABASE_URL"]
    service = job.removeprefix("migrate-")

    assert ALL[name]["depends_on"][job] == {"condition": "service_completed_successfully"}
    assert ALL[job]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert ALL[job]["command"] == ["python", "-m", "beaconfire", "migrate", service]
    assert ALL[job]["environment"] == {"BEACONFIRE_DATABASE_URL": url}
    assert re.fullmatch(rf"postgresql\+asyncpg://{service}:\$\{{\w+:\?.+\}}@postgres:5432/{service}", url)


@pytest.mark.parametrize("name", ALL)
def test_hardened(name: str) -> None:
    """Every container runs without root, capabilities or a file system that can be written, and within limits."""
    one = ALL[name]

    assert one["user"] not in ("root", "0", "0:0")
    assert one["read_only"] is True
    assert "/tmp" in one["tmpfs"]
    assert one["cap_drop"] == ["ALL"]
    assert "cap_add" not in one
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert set(one["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}


@pytest.mark.parametrize("name", [name for name in ALL if name not in JOBS])
def test_health_is_asked(name: str) -> None:
    """Every container that stays says whether it is well."""
    assert ALL[name]["healthcheck"]["test"][0] == "CMD"
    assert ALL[name]["restart"] == "unless-stopped"


def test_images_are_pinned_and_run_without_root() -> None:
    """Each image we build is of a named release, and ends as the user that compose names."""
    for path in ("deploy/Dockerfile", "deploy/proxy/Dockerfile"):
        text = (ROOT / path).read_text()

        assert all(re.search(r":\d+\.\d+-", base) for base in re.findall(r"^FROM (\S+)", text, re.MULTILINE))
        assert re.findall(r"^USER (\S+)", text, re.MULTILINE) == [ALL["proxy"]["user"]] == [ALL["auth"]["user"]]
        assert "\nHEALTHCHECK " in text


def test_the_last_stage_builds_nothing() -> None:
    """What the image is made with stays in the stage before."""
    last = (ROOT / "deploy/Dockerfile").read_text().rsplit("\nFROM ", 1)[1]

    assert not re.search(r"uv sync|pip install|apt-get|gcc", last)
    assert "pip uninstall" in last


def test_the_broker_has_every_password() -> None:
    """nats-server gets each password its configuration names."""
    assert set(ALL["nats"]["environment"]) == {password_variable(user.name) for user in USERS}


@pytest.mark.parametrize("name", [*RUNNING, *JOBS])
def test_addresses_name_services(name: str) -> None:
    """Every host in an address is a service of this file, on the port that it listens on."""
    for value in ALL[name]["environment"].values():
        for host, port in re.findall(r"(?:http://|nats://|@)([\w-]+):(\d+)", value):
            if host == "postgres":
                assert port == "5432"
                continue
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
    kept = {"nats": "nats:/data", "postgres": "postgres:/var/lib/postgresql/data", "proxy": "caddy:/data"}
    for name, volume in kept.items():
        assert volume in ALL[name]["volumes"]
        assert volume.partition(":")[0] in COMPOSE["volumes"]


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
    """All variables of all services."""
    return {variable: value for one in ALL.values() for variable, value in one["environment"].items()}


def test_no_secret_is_written_down() -> None:
    """Passwords come from .env and have no default."""
    for variable, value in any_environment().items():
        if re.search("PASSWORD|SECRET|TOKEN", variable):
            assert re.fullmatch(r"\$\{\w+:\?set it in \.env\}", value)
    assert not re.search(r"(PASSWORD|SECRET|TOKEN)=\S", EXAMPLE)


def test_make_env(tmp_path: Path) -> None:
    """deploy/make-env.sh gives every secret a value of its own, strong and readable for its owner alone, and never
    writes over one that is there."""
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / "deploy/make-env.sh", tmp_path / "deploy")
    shutil.copy(ROOT / ".env.example", tmp_path)
    command = [str(tmp_path / "deploy/make-env.sh")]
    subprocess.run(command, check=True)
    made = (tmp_path / ".env").read_text()
    again = subprocess.run(command, capture_output=True, text=True)
    values = dict(re.findall(r"^(\w+)=(.*)$", made, re.MULTILINE))
    drawn = [value for name, value in values.items() if f"{name}=\n" in EXAMPLE]

    assert values.keys() == dict(re.findall(r"^(\w+)=(.*)$", EXAMPLE, re.MULTILINE)).keys()
    assert len(drawn) > 10
    assert len(set(drawn)) == len(drawn)
    assert [weakness(value, min_length=MIN_KEY) for value in drawn] == [None] * len(drawn)
    assert all(re.fullmatch("[a-z][a-z0-9]+", value) for value in drawn)
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    assert again.returncode == 1
    assert ".env is there already" in again.stderr
    assert (tmp_path / ".env").read_text() == made


def test_postgresql_init(postgres: Postgres, tmp_path: Path) -> None:
    """The script that a new PostgreSQL runs makes a database and a user each, which the jobs can migrate, and which
    are closed to the other service."""
    passwords = {"auth": "a'uth pass", "publisher": "publisher-pass"}
    environment = {
        "PATH": os.environ["PATH"],
        "PGHOST": str(postgres.folder),
        "PGPORT": str(postgres.port),
        "POSTGRES_USER": "beaconfire",
        **{f"BEACONFIRE_{name.upper()}_DATABASE_PASSWORD": value for name, value in passwords.items()},
    }
    subprocess.run([ROOT / "deploy/postgres/init.sh"], check=True, env=environment)
    for name, password in passwords.items():
        url = f"postgresql://{name}:{quote(password)}@127.0.0.1:{postgres.port}"
        foreign = next(other for other in passwords if other != name)

        assert next(migrate(name, f"{url}/{name}", tmp_path, timeout_s=10)).startswith(f"{name}: migrated from")
        with pytest.raises(DatabaseUnusable, match="this user may not"):
            list(migrate(name, f"{url}/{foreign}", tmp_path, timeout_s=10))
