"""deploy/nats: the shipped broker configuration, read by nats-server itself."""

import os
import subprocess
from pathlib import Path

import pytest

from tools.broker_users import USERS, password_variable, quoted
from tools.nats_server import binary

CONFIG = Path(__file__).parents[2] / "deploy/nats/single.conf"


def checked(**passwords: str) -> subprocess.CompletedProcess[str]:
    """What nats-server says about the shipped configuration with these passwords in the environment."""
    environment = {"PATH": os.environ["PATH"], **passwords}
    return subprocess.run([binary(), "-t", "-c", CONFIG], env=environment, capture_output=True, text=True, check=False)


def test_the_shipped_configuration_is_read() -> None:
    """nats-server takes it, with every password from the environment."""
    answer = checked(**{password_variable(user.name): f"secret-of-{user.name}" for user in USERS})

    assert answer.returncode == 0, answer.stderr


def test_a_missing_password_stops_the_server() -> None:
    """Without its passwords the server does not start, rather than starting open."""
    answer = checked()

    assert answer.returncode != 0
    assert "BEACONFIRE_SETUP_PASSWORD" in answer.stderr


@pytest.mark.parametrize("password", ['a"b', "a\\b", "a\nb"])
def test_a_password_cannot_leave_its_quotes(password: str) -> None:
    """A password that would write configuration is refused."""
    with pytest.raises(ValueError, match="quotes"):
        quoted(password)
