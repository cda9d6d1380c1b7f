"""deploy/nats: the shipped broker configurations, read by nats-server itself."""

import os
import subprocess
from pathlib import Path

import pytest

from beaconfire.broker_config import NODE_NAME_VARIABLE, ROUTES_PASSWORD_VARIABLE, ROUTES_VARIABLE, quoted
from beaconfire.broker_users import USERS, password_variable
from beaconfire.nats_server import binary

FOLDER = Path(__file__).parents[2] / "deploy/nats"
PASSWORDS = {password_variable(user.name): f"secret-of-{user.name}" for user in USERS}
NODE = {
    NODE_NAME_VARIABLE: "nats-1",
    ROUTES_PASSWORD_VARIABLE: "secret-of-routes",
    ROUTES_VARIABLE: '["nats-route://routes:secret-of-routes@nats-1:6222", '
    '"nats-route://routes:secret-of-routes@nats-2:6222"]',
}


def checked(config: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Return nats-server's output about a shipped configuration with these variables in the environment."""
    command = [binary(), "-t", "-c", str(FOLDER / config)]
    environment = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("config", "environment"), [("single.conf", PASSWORDS), ("cluster.conf", PASSWORDS | NODE)])
def test_nats_server_accepts_the_shipped_configuration_with_values_from_the_environment(
    config: str, environment: dict[str, str]
) -> None:
    answer = checked(config, environment)

    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize(
    ("config", "missing"),
    [("single.conf", "BEACONFIRE_SETUP_PASSWORD"), *(("cluster.conf", name) for name in [*PASSWORDS, *NODE])],
)
def test_nats_server_does_not_start_without_a_password_or_without_its_cluster(config: str, missing: str) -> None:
    answer = checked(config, {name: value for name, value in (PASSWORDS | NODE).items() if name != missing})

    assert answer.returncode != 0
    assert missing in answer.stderr


@pytest.mark.parametrize("password", ['a"b', "a\\b", "a\nb"])
def test_password_that_would_write_configuration_is_refused(password: str) -> None:
    with pytest.raises(ValueError, match="quotes"):
        quoted(password)
