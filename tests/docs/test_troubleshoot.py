"""The pages quote messages, metrics and commands that exist."""

import ast
import re
from collections.abc import Iterator

import prometheus_client
import pytest
import typer

import beaconfire_auth.app  # noqa: F401
import beaconfire_gateway.process.app  # noqa: F401
import beaconfire_publisher.app
import beaconfire_publisher.worker  # noqa: F401  (imported for what they count)
from beaconfire.cli import app as command_line
from beaconfire_gateway.process import worker_operations
from beaconfire_gateway.process.supervisor import Board
from tests.architecture.sources import ROOT, SOURCES

PAGE = "docs/howto/troubleshoot.md"
_FOLDERS = [ROOT / "docs" / kind for kind in ("howto", "topics")]
PAGES = sorted(str(path.relative_to(ROOT)) for folder in _FOLDERS for path in folder.glob("*.md"))
_METRIC = re.compile(r"`(beaconfire_[a-z]+_[a-z_]+)(?:\{[^`]*\})?[^`]*`")
_COMMAND = re.compile(r"(?:^|[`/( ])beaconfire ([a-z][a-z-]+)", re.MULTILINE)


def quoted() -> Iterator[str]:
    """Every code span of a column "says" that is words."""
    says = False
    for line in (ROOT / PAGE).read_text().splitlines():
        if not line.startswith("|"):
            says = False
        elif line.startswith("| says |"):
            says = True
        elif says and not line.startswith("|-"):
            yield from re.findall(r"`([^`]+)`", line.split(" | ")[0])


def sentences() -> set[str]:
    """Every text of the source, with `…` for what is filled in."""
    python = [path for folder in SOURCES for path in (ROOT / folder).rglob("*.py")]
    scripts = [path for folder in ("demo", "clients") for path in (ROOT / folder).rglob("*.js")]
    found = {re.sub(r"\$\{[^`]*?\}", "…", path.read_text()) for path in scripts if "node_modules" not in path.parts}
    for path in python:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                found.add("".join(str(one.value) if isinstance(one, ast.Constant) else "…" for one in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def exported() -> set[str]:
    """The names of all metrics of all services."""
    families = [*prometheus_client.REGISTRY.collect(), *worker_operations.about(Board(1), ())]
    return {family.name + ("_total" if family.type == "counter" else "") for family in families}


def test_every_quoted_message_is_in_the_sources() -> None:
    texts, messages = sentences(), list(quoted())
    assert len(messages) > 50

    for message in messages:
        pattern = re.compile(".+?".join(re.escape(part) for part in message.split("…")))
        assert any(pattern.search(text) for text in texts), message


@pytest.mark.parametrize("page", PAGES)
def test_every_named_metric_is_exported_by_a_service(page: str) -> None:
    named = set(_METRIC.findall((ROOT / page).read_text()))
    assert named <= exported()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *PAGES])
def test_every_named_command_exists(page: str) -> None:
    group = typer.main.get_command(command_line)
    known = set(group.commands)  # type: ignore[attr-defined]
    fenced = re.findall(r"^```\w*\n(.*?)^```|(`[^`\n]+`)", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    named = {name for block, span in fenced for name in _COMMAND.findall(block or span)}
    assert named <= known
