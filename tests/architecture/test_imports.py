"""Imports follow rules beyond the layers that import-linter checks (pyproject.toml)."""

import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.architecture.sources import OURS, PROJECTS, imported, imported_names, modules, third_party

KIT = PROJECTS["shared"]
KIT_EXTRAS: dict[str, list[str]] = KIT["optional-dependencies"]
# Named by an extra of a requirement (pyjwt[crypto]), or its other half.
COMES_WITH = {"cryptography": "pyjwt", "pydantic_core": "pydantic"}
VOCABULARY = [
    Path("shared/src/beaconfire_kit/event.py"),
    Path("shared/src/beaconfire_kit/subjects.py"),
    Path("shared/src/beaconfire_kit/roles.py"),
    *modules("shared/src/beaconfire_kit/events"),
]


def distributions(*requirements: str) -> set[str]:
    """The names in requirements, normalised."""
    names = [re.match(r"[\w.-]+", requirement) for requirement in requirements]
    return {name[0].lower().replace("_", "-") for name in names if name}


@pytest.mark.parametrize("path", VOCABULARY, ids=str)
def test_subjects_roles_and_events_import_only_pydantic(path: Path) -> None:
    """Subjects, roles and events can be read, and copied, without the rest of the product."""
    assert third_party(path) <= {"pydantic"}
    ours = {name for name in imported(path) if name.startswith("beaconfire")}
    assert ours <= {"beaconfire_kit.event", "beaconfire_kit.subjects", "beaconfire_kit.roles"}


def allowed(folder: str) -> set[str]:
    """Return the distributions that a part may import: its own dependencies, with its extras, and those of the kit."""
    extras_of_part = PROJECTS[folder].get("optional-dependencies", {}).values() if folder != "shared" else ()
    requirements: list[str] = [
        *PROJECTS[folder].get("dependencies", []),
        *(one for more in extras_of_part for one in more),
    ]
    found = distributions(*requirements)
    for requirement in requirements if folder != "shared" else [f"beaconfire-kit[{','.join(KIT_EXTRAS)}]"]:
        if (kit := re.match(r"beaconfire-kit(?:\[([\w,-]+)\])?", requirement)) is not None:
            extras = kit[1].split(",") if kit[1] else []
            found |= distributions(*KIT["dependencies"], *(one for name in extras for one in KIT_EXTRAS[name]))
    return found


@pytest.mark.parametrize("folder", PROJECTS)
def test_a_part_imports_only_what_its_own_distribution_and_the_kit_install(folder: str) -> None:
    """Installed alone, a part has nothing else."""
    installed = packages_distributions()
    own = PROJECTS[folder]["name"]

    for path in modules(f"{folder}/src"):
        for name in {name.split(".")[0] for name in imported(path)} - set(sys.stdlib_module_names):
            found = distributions(COMES_WITH.get(name, ""), *installed.get(name, [name]))
            assert found & {own, *allowed(folder)}, f"{path} imports {name}"


def test_clients_import_nothing_of_ours() -> None:
    """A client speaks PROTOCOL.md and could live in another repository."""
    for path in modules("clients"):
        assert not {name.split(".")[0] for name in imported(path)} & OURS, path


def test_no_test_module_is_imported() -> None:
    """Helpers have modules of their own: a test module can be renamed or deleted without breaking another."""
    found = [
        (str(path), name)
        for path in modules("tests", "bench")
        for name in imported_names(path)
        if name.startswith("tests.") and any(part.startswith("test_") for part in name.split("."))
    ]

    assert found == []
