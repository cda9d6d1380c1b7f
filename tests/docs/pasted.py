"""The commands of one section of a page, and a shell into which an operator pastes them."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.docs.tree import ROOT

RUN_S = 120
_COMMANDS = re.compile(r"^ *```(?:sh|bash)?\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def commands(page: str, heading: str) -> list[str]:
    """Return the commands of a section, one a line, without their comments. Fails if the section has none."""
    text = (ROOT / page).read_text()
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no section {heading!r}"
    lines = "\n".join(_COMMANDS.findall(found[1])).splitlines()
    typed = [re.sub(r"\s{2,}# .*", "", line).strip() for line in lines]
    assert typed, f"{page}, {heading}: no commands"
    return [line for line in typed if line]


def with_word(lines: Sequence[str], word: str) -> list[str]:
    """Return those of the page's commands that contain a word."""
    found = [line for line in lines if word in line]
    assert found, f"the page has no command with {word!r}"
    return found


class Shell:
    """A shell in a folder in which `.venv/bin/beaconfire` is there, with variables that the operator exported."""

    def __init__(self, folder: Path, **exported: str) -> None:
        self._folder = folder
        self._environment = {**os.environ, **exported}
        folder.mkdir(exist_ok=True)
        (folder / ".venv").symlink_to(sys.prefix)

    def run(self, *lines: str, **environment: str) -> tuple[int, str]:
        """Type lines. Returns the exit code and what was printed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(lines)],
            cwd=self._folder,
            env={**self._environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_S,
            check=False,
        )
        return done.returncode, done.stdout

    def succeeds(self, *lines: str, **environment: str) -> str:
        """Type lines. Fails with what was printed if one of them fails."""
        code, printed = self.run(*lines, **environment)
        assert code == 0, printed
        return printed
