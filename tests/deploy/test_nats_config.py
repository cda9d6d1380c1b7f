"""deploy/nats: the shipped broker configurations, read by nats-server itself."""

import os
import subprocess
from pathlib import Path

import pytest

from beaconfire.broker_users import (
    NODE_NAME_VARIABLE,
    ROUTES_PASSWORD_VARIABLE,
    ROUTES_VARIABLE,
    USERS,
    password_variable,
    quoted,
)
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
    """What nats-server says about a shipped configuration with these variables in the environment."""
    command = [binary(), "-t", "-c", str(FOLDER / config)]
    environment = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("config", "environment"), [("single.conf", PASSWORDS), ("cluster.conf", PASSWORDS | NODE)])
def test_the_shipped_configuration_is_read(config: str, environment: dict[str, str]) -> None:
    """nats-server takes it, with every password, and what a node is told, from the environment."""
    answer = checked(config, environment)

    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize(
    ("config", "missing"),
    [("single.conf", "BEACONFIRE_SETUP_PASSWORD"), *(("cluster.conf", name) for name in [*PASSWORDS, *NODE])],
)
def test_a_missing_value_stops_the_server(config: str, missing: str) -> None:
    """Without a password the server does not start, rather than starting open; nor does a node without its cluster."""
    answer = checked(config, {name: value for name, value in (PASSWORDS | NODE).items() if name != missing})

    assert answer.returncode != 0
    assert missing in answer.stderr


@pytest.mark.parametrize("password", ['a"b', "a\\b", "a\nb"])
def test_a_password_cannot_leave_its_quotes(password: str) -> None:
    """A password that would write configuration is refused."""
    with pytest.raises(ValueError, match="quotes"):
        quoted(password)
