"""Ask the Docker engine, through its command."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

MISSING = """
No Docker engine is reachable. `make test-containers` installs and starts one if you are root, and runs these tests.
To leave them out: --ignore tests/containers"""
HEALTHY_S = 90.0


def docker(
    *arguments: str, timeout_s: float = 60.0, folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """Run a docker command. Returns what it printed. Fails with that if the command failed."""
    return run(["docker", *arguments], timeout_s=timeout_s, folder=folder, environment=environment)


def run(
    command: list[str],
    *,
    timeout_s: float,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a program. Returns its output, without its error output. Fails with both if the program failed."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def is_reachable() -> bool:
    """Whether the docker command is there, and its engine answers."""
    try:
        docker("version", timeout_s=20)
    except (AssertionError, FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return True


def state(container: str) -> dict[str, Any]:
    """What the engine knows about a container: its process, its health, when it started."""
    (found,) = json.loads(docker("inspect", container))
    return {**found["State"], "RestartCount": found["RestartCount"]}


def is_healthy(container: str) -> bool:
    """Whether its health check has succeeded."""
    return bool(state(container).get("Health", {}).get("Status") == "healthy")


def wait_until(condition: Callable[[], bool], what: str, *, timeout_s: float = HEALTHY_S) -> None:
    """Ask until the condition holds. Fails, saying what did not happen."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, f"{what}: not within {timeout_s:g} s"
        time.sleep(0.2)
