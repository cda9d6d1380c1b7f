"""Python sources as the architecture tests look at them: parsed, never imported."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECTS = {
    folder: tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
    for folder in (
        "shared",
        "services/gateway",
        "services/auth",
        "services/publisher",
        "tools",
        "demo",
        "clients/python",
    )
}
"""The `project` table of each distribution in the workspace, by folder."""
SOURCES = ("shared", "services", "tools", "demo", "clients/python", "scripts")
"""Folders of our Python code, besides tests and bench."""
OURS = {
    "beaconfire_kit",
    "beaconfire_gateway",
    "beaconfire_auth",
    "beaconfire_publisher",
    "beaconfire_demo",
    "beaconfire",
    "scripts",
    "bench",
    "tests",
}


def modules(*folders: str) -> list[Path]:
    """Every Python file below the folders, relative to the repository."""
    return sorted(path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    """Return the name under which a file is imported."""
    parts = path.with_suffix("").parts
    parts = parts[parts.index("src") + 1 :] if "src" in parts else parts
    return ".".join(parts).removesuffix(".__init__")


def parsed(path: Path) -> ast.Module:
    """The syntax tree of one."""
    return ast.parse((ROOT / path).read_text())


def imported(path: Path) -> Iterator[str]:
    """The full names of the modules it imports."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def imported_names(path: Path) -> Iterator[str]:
    """The full names of everything it imports, such as `tests.client.open_socket`."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.parts[: len(path.parts) - node.level] if node.level else ()
            yield from (".".join([*package, *filter(None, [node.module]), alias.name]) for alias in node.names)


def third_party(path: Path) -> set[str]:
    """The top-level names it imports that are neither ours nor Python's."""
    return {name.split(".")[0] for name in imported(path)} - OURS - set(sys.stdlib_module_names)
