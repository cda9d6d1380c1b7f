"""docker-compose.yml is valid by the compose specification and provides what the services need."""

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

from beaconfire.broker_users import USERS, password_variable
from beaconfire.local_services import WORKERS
from beaconfire.migrate import migrate
from beaconfire.service_settings import settings_classes, variables
from beaconfire_kit.database import DatabaseUnusable
from beaconfire_kit.settings import Settings
from beaconfire_kit.weak_secrets import MIN_KEY, weakness
from tests.architecture.sources import PROJECTS
from tests.databases import Postgres
from tests.deploy.compose_file import ALL, COMPOSE, EXAMPLE, ROOT, TEXT
from tests.routers import built

PROXY = (ROOT / "deploy/proxy/Caddyfile").read_text()
RUNNING = {name: one for name, one in ALL.items() if "BEACONFIRE_OPS_PORT" in one.get("environment", {})}
JOBS = {name: one for name, one in ALL.items() if one["restart"] == "on-failure"}
ON_THE_BROKER = {name: one for name, one in ALL.items() if "BEACONFIRE_NATS_USER" in one["environment"]}
MIGRATIONS = {"auth": "migrate-auth", **dict.fromkeys(("publisher", *WORKERS), "migrate-publisher")}
STRONG = secrets.token_hex(24)  # as .env.example says how to make one
_INTERPOLATED = re.compile(r"\$\{(\w+)(?::[-?]([^}]*))?\}")


def service_of(name: str) -> str:
    """Which of our services a compose service runs."""
    return name if name == "admin" else str(ALL[name]["build"]["args"]["SERVICE"])


def settings_of(name: str) -> type[Settings]:
    """Return the settings that a compose service reads from its environment."""
    return settings_classes()["publisher's workers" if name in WORKERS else service_of(name)]


def resolved(value: str) -> str:
    """A value with its interpolations filled in."""
    return _INTERPOLATED.sub(lambda match: STRONG if match[2] == "set it in .env" else match[2] or "", value)


def test_compose_file_is_valid_by_the_compose_specification() -> None:
    schema = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"

    jsonschema.validate(COMPOSE, json.loads(schema.read_text()))


@pytest.mark.parametrize("name", RUNNING)
def test_compose_gives_services_only_variables_that_they_read(name: str) -> None:
    known = variables(settings_of(name))

    assert set(RUNNING[name]["environment"]) <= set(known)


@pytest.mark.parametrize("name", RUNNING)
def test_settings_accept_the_environment_that_compose_gives(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for variable, value in RUNNING[name]["environment"].items():
        monkeypatch.setenv(variable, resolved(value))
    if "BEACONFIRE_STATIC_DIR" in RUNNING[name]["environment"]:  # a mount, see test_gateways_serve_the_page
        monkeypatch.setenv("BEACONFIRE_STATIC_DIR", str(tmp_path))

    settings = settings_of(name)()

    assert (settings.host, settings.port, settings.ops_port) == ("0.0.0.0", 8080, 9090)
    assert settings.environment == "production"
    assert list(settings.weak_secrets()) == []


@pytest.mark.parametrize("name", RUNNING)
def test_no_setting_in_compose_points_at_the_local_machine(name: str) -> None:
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
def test_each_service_in_compose_connects_as_its_own_broker_user_with_that_users_password(name: str) -> None:
    environment = ALL[name]["environment"]
    user = environment["BEACONFIRE_NATS_USER"]

    assert user in {row.name for row in USERS}
    assert user == (name if name in ("setup", *WORKERS) else "operator" if name == "admin" else service_of(name))
    assert environment["BEACONFIRE_NATS_PASSWORD"].startswith(f"${{{password_variable(user)}:?")


@pytest.mark.parametrize("name", WORKERS)
def test_compose_runs_each_worker_on_the_publishers_database(name: str) -> None:
    environment = ALL[name]["environment"]

    assert ALL[name]["command"] == ["python", "-m", "beaconfire_publisher", name]
    assert environment["BEACONFIRE_DATABASE_URL"] == ALL["publisher"]["environment"]["BEACONFIRE_DATABASE_URL"]


@pytest.mark.parametrize(("name", "job"), MIGRATIONS.items())
def test_services_with_a_database_start_after_their_own_migration_job(name: str, job: str) -> None:
    url = ALL[name]["environment"]["BEACONFIRE_DATABASE_URL"]
    service = job.removeprefix("migrate-")

    assert ALL[name]["depends_on"][job] == {"condition": "service_completed_successfully"}
    assert ALL[job]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert ALL[job]["command"] == ["python", "-m", "beaconfire", "migrate", service]
    assert ALL[job]["environment"] == {"BEACONFIRE_DATABASE_URL": url}
    assert re.fullmatch(rf"postgresql\+asyncpg://{service}:\$\{{\w+:\?.+\}}@postgres:5432/{service}", url)


@pytest.mark.parametrize("name", ALL)
def test_every_container_runs_without_root_capabilities_or_a_writable_file_system_and_with_limits(name: str) -> None:
    one = ALL[name]

    assert one["user"] not in ("root", "0", "0:0")
    assert one["read_only"] is True
    assert "/tmp" in one["tmpfs"]
    assert one["cap_drop"] == ["ALL"]
    assert "cap_add" not in one
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert set(one["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}


@pytest.mark.parametrize("name", [name for name in ALL if name not in JOBS])
def test_every_lasting_container_has_a_health_check(name: str) -> None:
    assert ALL[name]["healthcheck"]["test"][0] == "CMD"
    assert ALL[name]["restart"] == "unless-stopped"


def test_built_images_are_pinned_to_a_release_and_run_as_the_user_in_compose() -> None:
    for path in ("deploy/Dockerfile", "deploy/proxy/Dockerfile"):
        text = (ROOT / path).read_text()

        assert all(re.search(r":\d+\.\d+-", base) for base in re.findall(r"^FROM (\S+)", text, re.MULTILINE))
        assert re.findall(r"^USER (\S+)", text, re.MULTILINE) == [ALL["proxy"]["user"]] == [ALL["auth"]["user"]]
        assert "\nHEALTHCHECK " in text


@pytest.mark.parametrize("folder", PROJECTS)
def test_image_gets_the_pyproject_of_every_part_of_the_workspace(folder: str) -> None:
    """Without one of them, uv does not accept the lock file."""
    assert f"\nCOPY {folder}/pyproject.toml {folder}/\n" in (ROOT / "deploy/Dockerfile").read_text()
    sent = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{folder}/pyproject.toml", f"!{folder.partition('/')[0]}"} & set(sent)


def test_build_tools_stay_in_an_earlier_image_stage() -> None:
    last = (ROOT / "deploy/Dockerfile").read_text().rsplit("\nFROM ", 1)[1]

    assert not re.search(r"uv sync|pip install|apt-get|gcc", last)
    assert "pip uninstall" in last


def test_broker_container_gets_every_password_of_its_configuration() -> None:
    assert set(ALL["nats"]["environment"]) == {password_variable(user.name) for user in USERS}


@pytest.mark.parametrize("name", [*RUNNING, *JOBS])
def test_every_address_in_compose_names_a_service_and_its_port(name: str) -> None:
    for value in ALL[name]["environment"].values():
        for host, port in re.findall(r"(?:http://|nats://|@)([\w-]+):(\d+)", value):
            if host == "postgres":
                assert port == "5432"
                continue
            wanted = "BEACONFIRE_OPS_PORT" if name == "admin" else "BEACONFIRE_PORT"
            assert port == ("4222" if host == "nats" else RUNNING[host]["environment"][wanted])


def test_proxy_serves_every_service_with_a_public_port_and_nothing_else() -> None:
    upstreams = set(re.findall(r"([\w-]+):8080", PROXY))

    assert upstreams == set(RUNNING) - {*WORKERS, "admin"}


def test_proxy_sends_what_gateways_answer_below_the_publishers_path_to_gateways() -> None:
    routes = {name: app.router.routes() for name, _, app in built()}["gateway"]
    paths = {one.resource.canonical for one in routes if one.resource and one.resource.canonical.startswith("/v1/")}
    found = re.search(r"@publisher \{\s+path /v1/\*\s+not path (.+)\s+\}\s+handle @publisher", PROXY)

    assert found
    assert set(found[1].split()) == paths


@pytest.mark.parametrize("name", RUNNING)
def test_health_checks_use_the_operations_port(name: str) -> None:
    assert f":{RUNNING[name]['environment']['BEACONFIRE_OPS_PORT']}/readyz" in RUNNING[name]["healthcheck"]["test"][3]


def test_only_the_proxys_ports_are_published_and_the_admin_pages_on_loopback_if_it_is_asked_for() -> None:
    published = {name: one for name, one in COMPOSE["services"].items() if "ports" in one}

    assert set(published) == {"admin", "proxy"}
    assert published["admin"]["profiles"] == ["admin"]
    assert all(port.startswith("127.0.0.1:") for port in published["admin"]["ports"])


def test_admin_page_asks_every_service_that_answers_operators() -> None:
    asked = ",".join(ALL["admin"]["environment"][f"BEACONFIRE_{kind}_OPS"] for kind in ("GATEWAY", "AUTH", "PUBLISHER"))

    assert set(re.findall(r"http://([\w-]+):9090", asked)) == set(RUNNING) - {*WORKERS, "admin"}


def test_env_example_has_exactly_the_variables_of_compose() -> None:
    assert set(re.findall(r"^(\w+)=", EXAMPLE, re.MULTILINE)) == {match[1] for match in _INTERPOLATED.finditer(TEXT)}


def test_lasting_data_is_on_named_volumes() -> None:
    kept = {"nats": "nats:/data", "postgres": "postgres:/var/lib/postgresql/data", "proxy": "caddy:/data"}
    for name, volume in kept.items():
        assert volume in ALL[name]["volumes"]
        assert volume.partition(":")[0] in COMPOSE["volumes"]


@pytest.mark.parametrize("name", ["gateway-1", "gateway-2"])
def test_gateways_in_compose_serve_the_page_from_a_volume(name: str) -> None:
    """The job `page` writes it into a volume before they start."""
    (mount,) = ALL[name]["volumes"]
    volume, folder, mode = mount.split(":")

    assert (ALL[name]["environment"]["BEACONFIRE_STATIC_DIR"], mode) == (folder, "ro")
    assert ALL["page"]["command"] == ["python", "-m", "beaconfire_demo", "/data"]
    assert ALL["page"]["volumes"] == [f"{volume}:/data"]
    assert ALL[name]["depends_on"]["page"] == {"condition": "service_completed_successfully"}


def test_files_named_by_compose_and_the_dockerfile_exist() -> None:
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


def test_passwords_come_from_the_env_file_and_have_no_default() -> None:
    for variable, value in any_environment().items():
        if variable == "BEACONFIRE_OPERATOR_READ_TOKEN":  # an .env of an earlier version has none, and still works
            assert value == "${BEACONFIRE_OPERATOR_READ_TOKEN:-}"
        elif re.search("PASSWORD|SECRET|TOKEN", variable):
            assert re.fullmatch(r"\$\{\w+:\?set it in \.env\}", value)
    assert not re.search(r"(PASSWORD|SECRET|TOKEN)=\S", EXAMPLE)


def test_make_env_writes_a_strong_readable_secret_each_and_never_overwrites_a_file(tmp_path: Path) -> None:
    """The file is readable for its owner alone."""
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
    assert ".env exists already" in again.stderr
    assert (tmp_path / ".env").read_text() == made


def test_postgresql_init_script_makes_a_closed_database_and_user_for_each_service(
    postgres: Postgres, tmp_path: Path
) -> None:
    """The migration jobs can use them."""
    passwords = {"auth": "a'uth pass", "publisher": "publisher-pass"}
    environment = {
        "PATH": os.environ["PATH"],
        "PGHOST": str(postgres.folder),
        "PGPORT": str(postgres.port),
        "POSTGRES_USER": "beaconfire",
        **{f"BEACONFIRE_{name.upper()}_DATABASE_PASSWORD": value for name, value in passwords.items()},
    }
    subprocess.run([ROOT / "deploy/postgres/init.sh"], check=True, env=environment)
    try:
        for name, password in passwords.items():
            url = f"postgresql://{name}:{quote(password)}@127.0.0.1:{postgres.port}"
            foreign = next(other for other in passwords if other != name)

            assert next(migrate(name, f"{url}/{name}", tmp_path, timeout_s=10)).startswith(f"{name}: migrated from")
            with pytest.raises(DatabaseUnusable, match="this user may not"):
                list(migrate(name, f"{url}/{foreign}", tmp_path, timeout_s=10))
    finally:
        postgres.drop(*passwords)  # other tests of this process have the same server
