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
def test_documented_commands_name_the_path_of_beaconfire(page: str) -> None:
    """`beaconfire` is not on a new terminal's PATH."""
    blocks = shell_blocks(page)

    assert [block for block in blocks if _BARE.search(block) or "$(beaconfire " in block] == []


@pytest.mark.parametrize("page", PAGES)
def test_documented_commands_do_not_hide_a_failure_in_a_substitution(page: str) -> None:
    """`export NAME=$(command)` succeeds even if the command fails, and leaves the variable empty."""
    assert [block for block in shell_blocks(page) if _HIDDEN_FAILURE.search(block)] == []
