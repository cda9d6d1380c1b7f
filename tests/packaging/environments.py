"""Wheels of the workspace, and environments with nothing in them but some of these wheels and what they need."""

import os
import subprocess
import sys
from pathlib import Path

from scripts.uv import uv
from tests.architecture.sources import ROOT


def build_wheels(folder: Path) -> Path:
    """Build the wheel of every part of the workspace into a folder."""
    _run(uv(), "build", "--quiet", "--all-packages", "--wheel", "--out-dir", str(folder))
    return folder


def constraints(path: Path) -> Path:
    """Write the versions of the lock file for pip (`PIP_CONSTRAINT`), so that a release of today breaks no test."""
    options = ("--quiet", "--frozen", "--no-emit-workspace", "--no-hashes", "--all-packages", "--no-default-groups")
    path.write_text(_run(uv(), "export", *options))
    return path


class Environment:
    """A virtual environment with one part, installed from its wheel, and what the lock file names for it."""

    def __init__(self, folder: Path, part: str, wheels: Path) -> None:
        self.folder = folder
        _run(uv(), "venv", "--quiet", "--python", sys.executable, str(folder))
        # The dependencies come from the lock file, so no index is asked again. Our wheels come without an index.
        locked = ("sync", "--quiet", "--frozen", "--no-default-groups", "--no-install-workspace", "--package", part)
        _run(uv(), *locked, UV_PROJECT_ENVIRONMENT=str(folder))
        self._pip("install", "--quiet", "--no-index", "--find-links", str(wheels), part)
        self._pip("check", "--quiet")

    def program(self, name: str) -> str:
        """Return the path of a console script."""
        return str(self.folder / "bin" / name)

    def ask(self, code: str) -> str:
        """Run Python in the environment, in an empty folder, and return what it prints."""
        return _run(self.program("python"), "-I", "-c", code, cwd=self.folder).strip()

    def _pip(self, command: str, *arguments: str) -> None:
        _run(uv(), "pip", command, "--python", self.program("python"), *arguments)


def _run(*command: str, cwd: Path = ROOT, **more: str) -> str:
    """Run a command, and return its output. Raises AssertionError with it if the command fails."""
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}"
    return done.stdout
