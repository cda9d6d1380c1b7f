"""Commands in code blocks can be pasted into a new terminal."""

import re

import pytest

from tests.architecture.sources import ROOT

PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in (
        "*.md",
        "docs/howto/*.md",
        "docs/topics/*.md",
        "docs/start/*.md",
        "examples/**/*.md",
        "clients/*/*.md",
    )
    for path in ROOT.glob(pattern)
    if "node_modules" not in path.parts
)
_FENCED = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_BARE = re.compile(r"^\s*(?:[A-Z_]+=\S+ )*beaconfire ", re.MULTILINE)
_HIDDEN_FAILURE = re.compile(r"\b(?:export|local|readonly|declare) \w+=[^\n]*\$\(")


def shell_blocks(page: str) -> list[str]:
    """The page's blocks of commands."""
    found = _FENCED.findall((ROOT / page).read_text())
    return [text for language, text in found if language in ("", "sh", "bash")]


@pytest.mark.parametrize("page", PAGES)
def test_no_command_needs_an_activated_environment(page: str) -> None:
    """`beaconfire` is not on a new terminal's PATH: a block that calls it names `.venv/bin/beaconfire`."""
    blocks = shell_blocks(page)

    assert [block for block in blocks if _BARE.search(block) or "$(beaconfire " in block] == []


@pytest.mark.parametrize("page", PAGES)
def test_no_command_hides_that_another_failed(page: str) -> None:
    """`export NAME=$(command)` ends well even if the command failed: the variable would be empty without a word."""
    assert [block for block in shell_blocks(page) if _HIDDEN_FAILURE.search(block)] == []
