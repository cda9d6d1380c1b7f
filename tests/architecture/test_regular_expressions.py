"""No text that a client chooses takes a regular expression of ours more than linear time."""

import pytest

from tests.architecture.regular_expressions import is_linear, uses
from tests.architecture.sources import modules

FOUND = [use for path in modules("shared", "services") for use in uses(path)]
WORD = "[!-~]+"


@pytest.mark.parametrize("use", FOUND, ids=lambda use: use.place)
def test_every_pattern_takes_linear_time_as_it_is_used(use: object) -> None:
    assert is_linear(use.pattern, flags=use.flags, searched=use.searched), use  # type: ignore[attr-defined]


def test_every_pattern_in_the_sources_is_checked() -> None:
    assert {
        "shared/src/beaconfire_kit/logs.py",
        "shared/src/beaconfire_kit/subjects.py",
        "services/gateway/src/beaconfire_gateway/wire/deflate.py",
    } <= {use.place.partition(":")[0] for use in FOUND}


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
def test_nested_adjacent_and_overlapping_repetitions_are_found_slow(pattern: str, searched: bool) -> None:
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
def test_patterns_that_take_linear_time_pass_the_check(pattern: str, searched: bool) -> None:
    assert is_linear(pattern, searched=searched)
