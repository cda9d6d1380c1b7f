"""A copy of the tree in which a how-to is followed, and the code blocks of its page."""

import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
RUN_S = 300  # Go's standard library is compiled on a machine's first build
_BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?(?: after="([^\n]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_OURS = ("BEACONFIRE_", "COVERAGE_", "MAKE", "MFLAGS", "PYTEST_", "PYTHON", "UV_RUN_", "VIRTUAL_ENV")
"""Prefixes of the variables that `make test`, uv and pytest set for themselves."""


class Block(NamedTuple):
    """A code block of a page. `title` is the file it belongs into, `after` the line there that it follows; without
    that it is the whole file."""

    language: str
    title: str
    after: str
    text: str


def blocks(page: str) -> list[Block]:
    """The page's code blocks, in order."""
    return [Block(*found) for found in _BLOCK.findall((ROOT / page).read_text())]


def write_blocks(page: str, folder: Path) -> None:
    """Put the page's blocks into the files that they name."""
    for _, name, after, text in blocks(page):
        path = folder / name
        if after:
            there = path.read_text()
            assert there.count(f"{after}\n") == 1, f"{name} has no single line {after!r}"
            path.write_text(there.replace(f"{after}\n", f"{after}\n{text}"))
        elif name:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def fresh_shell(text: str, folder: Path) -> str:
    """Run a page's commands as a reader does in a new terminal in a folder. Returns what they printed.

    `.venv/bin` is not on the PATH, and none of our settings is set. If a command fails, this fails with its output.
    """
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env=fresh_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


class Tree:
    """Copy everything under version control, so that a test can change and run it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "tree"
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
        for name in listed.decode().split("\0"):
            if name and ((ROOT / name).is_file() or (ROOT / name).is_symlink()):
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.root / name, follow_symlinks=False)
        with suppress(FileNotFoundError):  # the first run of the checks takes longer
            shutil.copytree(ROOT / ".mypy_cache", self.root / ".mypy_cache")

    @property
    def environment(self) -> dict[str, str]:
        """In which Python imports from the copy, and not from where it was copied."""
        sources = sorted(path for path in self.root.glob("**/src") if list(path.glob("beaconfire*")))
        return {"PYTHONPATH": ":".join(map(str, [self.root, *sources])), "PYTHONSAFEPATH": "1"}

    def write(self, page: str) -> None:
        """Put the page's blocks into the files that they name."""
        write_blocks(page, self.root)

    def python(self, *arguments: str) -> str:
        """Run the copy's code. Returns what it printed; raises with that where it fails."""
        return self.run(sys.executable, *arguments)

    def run(self, *command: str) -> str:
        """Run a program in the copy. Returns what it printed; raises with that where it fails."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}"
        return done.stdout

    def fresh_shell(self, text: str, *, installed: bool = True) -> str:
        """Run a page's commands as a reader does in a new terminal in the tree, as `fresh_shell` does.

        `installed` puts our own environment into the tree, which imports from the original. Without it `make` installs
        the copy.
        """
        if installed and not (self.root / ".venv").exists():
            (self.root / ".venv").symlink_to(Path(sys.prefix))
        return fresh_shell(text, self.root)


def fresh_environment() -> dict[str, str]:
    """Return the environment of a new terminal: no virtual environment, no setting of ours, no trace of pytest.

    uv may be there only as the tree's own copy.
    """
    ours = {str(Path(sys.executable).parent), str(Path(sys.prefix) / "bin")}
    path = [*(one for one in os.environ["PATH"].split(":") if one not in ours), str(ROOT / ".uv" / "bin")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return {**kept, "PATH": ":".join(path), "TERM": "dumb"}
