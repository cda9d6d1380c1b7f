"""Commands of `beaconfire` that run within the test's process, which is faster."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from beaconfire.cli import main


@dataclass(frozen=True, slots=True)
class Said:
    """A command's output, and its exit code."""

    exit_code: int
    text: str


Call = Callable[..., Said]
"""`call("doctor", "--json", BEACONFIRE_NATS_USER="operator")` runs a command, with these environment variables."""


@pytest.fixture(name="call")
def _call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command within this process, up to its exit."""

    def call(*arguments: str, **environment: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["beaconfire", *arguments])
        for name, value in {"COLUMNS": "200", **environment}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Said(end.value.code if isinstance(end.value.code, int) else 0, out + err)

    return call
