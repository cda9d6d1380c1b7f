"""SECURITY.md: every threat has its defence and its tests, and everything it names exists."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

from scripts.features import _tests

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text()
ROWS = {row[0]: row[1:] for row in re.findall(r"^\| (T\d+) \| (.*?) \| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)}


def test_every_threat_has_a_row_with_a_test() -> None:
    assert len(ROWS) >= 22
    assert list(ROWS) == [f"T{number}" for number in range(1, len(ROWS) + 1)]
    assert [threat for threat, (_, _, tests) in ROWS.items() if "tests/" not in tests] == []


def test_every_test_and_module_in_the_threat_table_exists() -> None:
    named = [(path, name) for _, _, tests in ROWS.values() for path, name in re.findall(r"`([\w/.]+)::(\w+)`", tests)]
    modules = [path for _, defence, _ in ROWS.values() for path in re.findall(r"`([\w/]+\.(?:py|toml))`", defence)]

    assert [one for one in named if one[1] not in _tests(ROOT / one[0])] == []
    assert [path for path in modules if not (ROOT / path).is_file()] == []


def test_security_tests_name_their_threat_in_their_docstring() -> None:
    """A test of tests/security that stands for a threat of its own does so."""
    for path in ("test_broker_doors", "test_raw_frames", "test_floods", "test_ids", "test_json_abuse", "test_cursors"):
        text = (ROOT / f"tests/security/{path}.py").read_text()
        untold = re.findall(r'def (test_\w+)\([^"]*?\) -> None:\n    """(?!T\d+)', text)
        assert untold == [], path


def test_locked_and_allowed_dependencies_have_the_known_security_fixes() -> None:
    """T22: neither is older than the releases that fixed the vulnerabilities we know of."""
    project = tomllib.loads((ROOT / "shared/pyproject.toml").read_text())["project"]
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    locked = {package["name"]: package.get("version") for package in packages}
    allowed = {one.name.lower(): one.specifier for one in map(Requirement, project["dependencies"])}

    for name, vulnerable in (("aiohttp", "3.14.2"), ("pyjwt", "2.12.9")):
        assert vulnerable not in allowed[name]
        assert locked[name] in allowed[name]
