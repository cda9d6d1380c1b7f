"""Tests choose other values by passing them, and never replace a constant of ours inside its module."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.architecture.sources import OURS, modules, parsed

_CONSTANT = re.compile(r"_*[A-Z][A-Z0-9_]*")
_PATCHES = {"setattr", "delattr", "object", "patch"}
"""The last names of `monkeypatch.setattr`, `mock.patch.object`, `mock.patch` and the built-in `setattr`."""


def foreign_names(tree: ast.AST) -> set[str]:
    """Return the names that a module imports from elsewhere than our own code."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [(alias.asname or alias.name.split(".")[0], alias.name) for alias in node.names]
            names |= {name for name, module in modules if module.split(".")[0] not in OURS}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] not in OURS:
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def replaced(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Find each constant that a module replaces: the line, and the constant as it is written there."""
    foreign = foreign_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            place, name = _patched(node)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            place, name = ast.unparse(node.value), node.attr
        else:
            continue
        root = place.partition(".")[0]
        if place and _CONSTANT.fullmatch(name) and root not in foreign:
            yield node.lineno, f"{place}.{name}"


def _patched(call: ast.Call) -> tuple[str, str]:
    """Return the place and the name of a call's replacement. Empty if it replaces nothing."""
    called = ast.unparse(call.func).rpartition(".")[2]
    match call.args:
        case [ast.Constant(value=str(path)), *_] if called in _PATCHES and "." in path:
            place, _, name = path.rpartition(".")
            return (place, name) if place.partition(".")[0] in OURS else ("", "")
        case [place, ast.Constant(value=str(name)), *_] if called in _PATCHES:
            return ast.unparse(place), name
    return "", ""


def test_no_test_replaces_a_constant_of_our_own_modules() -> None:
    found = [f"{path}:{line} {what}" for path in modules("tests") for line, what in replaced(parsed(path))]

    assert found == []


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('monkeypatch.setattr(relay, "POLL_S", 1)', "relay.POLL_S"),
        ('monkeypatch.setattr("beaconfire_kit.relay.POLL_S", 1)', "beaconfire_kit.relay.POLL_S"),
        ('monkeypatch.delattr(relay, "POLL_S")', "relay.POLL_S"),
        ('patch.object(relay, "POLL_S", 1)', "relay.POLL_S"),
        ('mock.patch("beaconfire_kit.relay._POLL_S", 1)', "beaconfire_kit.relay._POLL_S"),
        ('setattr(relay, "POLL_S", 1)', "relay.POLL_S"),
        ("relay.POLL_S = 1", "relay.POLL_S"),
        ("relay.POLL_S += 1", "relay.POLL_S"),
        ("with waiting() as relay.POLL_S: pass", "relay.POLL_S"),
    ],
)
def test_each_way_to_replace_a_constant_is_found(line: str, what: str) -> None:
    """Without this, the test above could look at nothing."""
    assert list(replaced(ast.parse(f"from beaconfire_kit import relay\n{line}"))) == [(2, what)]


@pytest.mark.parametrize(
    "line",
    [
        'monkeypatch.setattr(Outbox, "wake", slow)',
        'monkeypatch.setattr(socket, "SOMAXCONN", 1)',
        'mock.patch("socket.SOMAXCONN", 1)',
        'monkeypatch.setenv("COLUMNS", "200")',
        'getattr(relay, "POLL_S")',
        "limit = relay.POLL_S",
    ],
)
def test_faults_of_other_kinds_and_reads_are_allowed(line: str) -> None:
    assert list(replaced(ast.parse(f"import socket\nfrom beaconfire_kit import relay\n{line}"))) == []
