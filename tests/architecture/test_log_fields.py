"""Fields of log lines neither collide with the fields of every line nor are blanked without need."""

import ast
from collections.abc import Iterator

from beaconfire_kit.logs import RESERVED, is_redacted
from tests.architecture.sources import ROOT, SOURCES

METHODS = {"debug", "info", "warning", "error", "exception", "critical", "bind", "bound_contextvars"}
# structlog's own: we want their effect.
MEANT = {"exc_info"}


def fields() -> Iterator[tuple[str, str]]:
    """Each field that a call of a logger is given, with where it stands."""
    for package in SOURCES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
                    for keyword in node.keywords:
                        if keyword.arg is not None and keyword.arg not in MEANT:
                            yield keyword.arg, f"{path.relative_to(ROOT)}:{node.lineno}"


def test_no_log_field_has_the_name_of_a_field_of_every_line() -> None:
    """A field called `service` would say that another service wrote the line."""
    assert [(name, where) for name, where in fields() if name in RESERVED] == []


def test_no_log_field_has_a_name_that_is_always_blanked() -> None:
    """A field that is always blanked says nothing: it needs another name, or must not be logged."""
    assert [(name, where) for name, where in fields() if is_redacted(name)] == []


def test_log_fields_are_found_in_the_sources() -> None:
    """Without this, the tests above could look at nothing."""
    assert len(list(fields())) > 150
