"""Fields of log lines: none collides with those that every line has, and none is blanked though it is harmless."""

import ast
from collections.abc import Iterator
from pathlib import Path

from shared.logs import RESERVED, is_redacted

ROOT = Path(__file__).parents[2]
METHODS = {"debug", "info", "warning", "error", "exception", "critical", "bind", "bound_contextvars"}
# structlog's own: what it does with them is wanted.
MEANT = {"exc_info"}


def fields() -> Iterator[tuple[str, str]]:
    """Each field that a call of a logger is given, with where it stands."""
    for package in ("services", "shared", "tools"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
                    for keyword in node.keywords:
                        if keyword.arg is not None and keyword.arg not in MEANT:
                            yield keyword.arg, f"{path.relative_to(ROOT)}:{node.lineno}"


def test_no_field_collides() -> None:
    """A field that is called `service` would say that another service wrote the line."""
    assert [(name, where) for name, where in fields() if name in RESERVED] == []


def test_no_field_is_blanked() -> None:
    """A field that is always blanked says nothing: it needs another name, or must not be logged."""
    assert [(name, where) for name, where in fields() if is_redacted(name)] == []


def test_fields_are_found() -> None:
    """The two above look at something."""
    assert len(list(fields())) > 150
