"""docs/howto/run_locally.md names targets, options, commands and tests that exist."""

import re
import shlex
from typing import Any

import pytest
import typer

from beaconfire.cli import app
from tests.architecture.sources import ROOT

PAGE = (ROOT / "docs/howto/run_locally.md").read_text()
COMMANDS = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]
OURS = re.compile(r"\.venv/bin/beaconfire ([^)]+)")


def parameters(command: str) -> dict[str, Any]:
    """Parse a command of ours as it is parsed before it runs. Fails if a name or an option does not exist."""
    found: Any = typer.main.get_command(app)
    arguments = shlex.split(command)
    while hasattr(found, "commands") and not arguments[0].startswith("-"):
        found = found.commands[arguments.pop(0)]
    return dict(found.make_context(found.name, arguments).params)


def makes() -> list[tuple[str, list[str]]]:
    """The target and the ARGS of each `make` on the page."""
    found = [re.fullmatch(r'(?:[A-Z_]+=\S+ )?make (\w+)(?: ARGS="(.*)")?', command) for command in COMMANDS]
    return [(match[1], shlex.split(match[2] or "")) for match in found if match]


def test_every_target_is_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for target, _ in makes()}

    assert named == {"up", "test", "check", "faults"}
    assert named <= targets


@pytest.mark.parametrize("arguments", [shlex.join(given) for target, given in makes() if target == "up" and given])
def test_every_option_of_up_exists(arguments: str) -> None:
    command = f"up {arguments}".replace("FOLDER", str(ROOT / "demo")).replace("FILE", str(ROOT / "pyproject.toml"))

    assert parameters(command)


@pytest.mark.parametrize("command", [found for line in COMMANDS for found in OURS.findall(line)])
def test_every_command_of_ours_is_accepted_as_it_is_written(command: str) -> None:
    assert parameters(command)


def test_named_tests_and_fixtures_exist() -> None:
    folders = [word for _, given in makes() for word in given if word.startswith("tests/")]

    assert folders
    assert all((ROOT / folder).is_dir() for folder in folders)
    assert 'name="services"' in (ROOT / "tests/conftest.py").read_text()
    assert "fixture `services` (tests/conftest.py)" in " ".join(PAGE.split())
