"""Private names of other libraries are used only in `beaconfire_kit.seams`, where each has a test that pins it."""

import ast
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.sources import SOURCES, modules, parsed

PACKAGES = (
    "beaconfire_kit",
    "beaconfire_gateway",
    "beaconfire_auth",
    "beaconfire_publisher",
    "beaconfire_client",
    "beaconfire",
)
SEAMS = "seams"
PUBLIC = {"_exit", "_replace", "_asdict", "_fields", "_make"}
"""Documented, though they begin with an underscore: `os._exit`, and the methods of named tuples."""
FILES = [path for path in modules(*SOURCES) if SEAMS not in path.parts]


def is_private(name: str) -> bool:
    """Return whether a name is private: one leading underscore, or two that end with fewer."""
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__")) and name not in PUBLIC


def defined_names(tree: ast.AST) -> Iterator[str]:
    """Every name that a module binds: functions, classes, variables, fields, slots and attributes that it sets."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.Assign) and any(ast.unparse(one) == "__slots__" for one in node.targets):
            yield from (str(one.value) for one in ast.walk(node.value) if isinstance(one, ast.Constant))


OURS = {name for path in FILES for name in defined_names(parsed(path)) if is_private(name)}


def foreign(path: Path) -> Iterator[str]:
    """Each private name that a file uses and that no code of ours outside the seams defines."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Attribute):
            name, owner = node.attr, ast.unparse(node.value)
            # `self._x` is ours if any class of ours has it: a base may be in another file.
            is_ours = name in OURS and (owner in ("self", "cls") or owner.startswith(("self.", "super()")))
            if is_private(name) and not is_ours and name not in set(defined_names(parsed(path))):
                yield f"{path}:{node.lineno}: {owner}.{name}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr"):
            constants = [one.value for one in node.args[1:2] if isinstance(one, ast.Constant)]
            yield from (f"{path}:{node.lineno}: {one!r}" for one in constants if is_private(str(one)))
        elif isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith(PACKAGES):
            names = [*node.module.split("."), *(one.name for one in node.names)]
            yield from (f"{path}:{node.lineno}: {one}" for one in names if is_private(one))


@pytest.mark.parametrize("path", FILES, ids=str)
def test_private_names_of_libraries_are_used_in_the_seams_only(path: Path) -> None:
    """A file outside beaconfire_kit.seams names nothing private that another library defines."""
    assert sorted(foreign(path)) == []


def classes() -> Iterator[type]:
    """Every class of ours outside the seams."""
    for package in PACKAGES:
        found = importlib.import_module(package)
        for info in pkgutil.walk_packages(found.__path__, f"{package}."):
            if f".{SEAMS}" not in info.name and "migrations." not in info.name and not info.name.endswith("__main__"):
                module = importlib.import_module(info.name)
                yield from (
                    one for _, one in inspect.getmembers(module, inspect.isclass) if one.__module__ == info.name
                )


def test_private_methods_of_libraries_are_replaced_in_the_seams_only() -> None:
    """No class outside beaconfire_kit.seams defines a private name that a library's class above it has, too."""
    replaced = [
        f"{one.__module__}.{one.__name__}.{name}"
        for one in classes()
        for base in one.__mro__[1:]
        if base.__module__.split(".")[0] not in {*PACKAGES, *sys.stdlib_module_names}
        for name in vars(one).keys() & vars(base).keys()
        if is_private(name) and getattr(vars(one)[name], "__module__", "") == one.__module__
    ]

    assert replaced == []


def test_seams_use_private_names_of_libraries() -> None:
    """Without this, the tests above could look at nothing."""
    seams = [path for path in modules(*SOURCES) if SEAMS in path.parts]

    assert len([name for path in seams for name in foreign(path)]) > 10
