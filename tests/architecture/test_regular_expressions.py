"""No text that a client chooses makes a regular expression of ours take more than linear time."""

import pytest

from tests.architecture.regular_expressions import is_linear, uses
from tests.architecture.sources import modules

FOUND = [use for path in modules("shared", "services") for use in uses(path)]
WORD = "[!-~]+"


@pytest.mark.parametrize("use", FOUND, ids=lambda use: use.place)
def test_linear(use: object) -> None:
    """Every pattern in shared/ and services/ that `re` runs takes linear time, as it is used there."""
    assert is_linear(use.pattern, flags=use.flags, searched=use.searched), use  # type: ignore[attr-defined]


def test_every_pattern_is_found() -> None:
    """The patterns that stand in the sources are among those that are checked."""
    assert {"shared/logs.py", "shared/subjects.py", "services/gateway/deflate.py"} <= {
        use.place.partition(":")[0] for use in FOUND
    }


@pytest.mark.parametrize(
    ("pattern", "searched"),
    [
        (r"(a+)+b", False),
        (r"(a|a)*b", False),
        (r"a*a*b", False),
        (r"a*[ab]*c", False),
        (r"(a?b?)*c", False),
        (r"\s*,\s*", True),
        (r"[ \t]*(\w+)", True),
        (r"(\w+)\s*=", True),
        (r"eyJ[\w-]{5,}\.[\w-]+", True),
        (r"\d+(?=%)[.]", True),
        (r"(?:x\w*)*y", False),
        (r"[ \t]*(\w+)((?:[ \t]*;[ \t]*\w+(?:[ \t]*=[ \t]*\w+)?)*)[ \t]*", True),
    ],
)
def test_slow_patterns_are_known(pattern: str, searched: bool) -> None:
    """The check finds what makes a pattern slow: nested, adjacent and overlapping repetitions, and searches."""
    assert not is_linear(pattern, searched=searched)


@pytest.mark.parametrize(
    ("pattern", "searched"),
    [
        (r"[a-z]+(\.[a-z]+)*", False),
        (r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)*", False),
        (r"a*b*c*", False),
        (r"\w{1,64}", True),
        (r"(?:W/)?\"(\d{1,15})\"", True),
        (r"(?<=token=)[^\s&]+", True),
        (r"\{([a-z_]+)\}", True),
        (r"eyJ[\w-]{5,}(\.[\w-]+)*", True),
        (r"(?i:error|warning)", True),
    ],
)
def test_fast_patterns_are_known(pattern: str, searched: bool) -> None:
    """The check lets pass what takes linear time."""
    assert is_linear(pattern, searched=searched)
