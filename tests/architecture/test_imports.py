"""Who may import what, beyond the layers that import-linter checks (pyproject.toml)."""

import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.sources import ROOT, imported, imported_names, modules, third_party

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
# Named by an extra of a requirement (pyjwt[crypto]), or its other half.
COMES_WITH = {"cryptography": "pyjwt", "pydantic_core": "pydantic"}
VOCABULARY = [
    Path("shared/src/beaconfire_kit/catalogue.py"),
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
    ours = {name for name in imported(path) if name.startswith("shared")}
    assert ours <= {"beaconfire_kit.catalogue", "beaconfire_kit.subjects", "beaconfire_kit.roles"}


@pytest.mark.parametrize(
    ("folder", "extra"),
    [("shared", None), ("tools", "tools"), *((f"services/{name}", name) for name in EXTRAS if name != "tools")],
)
def test_a_part_imports_only_what_its_extra_installs(folder: str, extra: str | None) -> None:
    """Modules of shared may need an extra that all their users have, such as the database for auth and the
    publisher."""
    extras = [extra] if extra else ["auth", "publisher"]
    allowed = distributions(*PROJECT["dependencies"], *(one for name in extras for one in EXTRAS[name]))
    installed = packages_distributions()

    for path in modules(folder):
        for name in third_party(path):
            assert distributions(COMES_WITH.get(name, ""), *installed.get(name, [name])) & allowed, (
                f"{path} imports {name}"
            )


def test_clients_import_nothing_of_ours() -> None:
    """A client speaks PROTOCOL.md and could live in another repository."""
    for path in modules("clients"):
        assert not {name.split(".")[0] for name in imported(path)} & {"shared", "services", "tools"}, path


def test_no_test_module_is_imported() -> None:
    """Helpers have modules of their own: a test module can be renamed or deleted without breaking another."""
    found = [
        (str(path), name)
        for path in modules("tests", "bench")
        for name in imported_names(path)
        if name.startswith("tests.") and any(part.startswith("test_") for part in name.split("."))
    ]

    assert found == []
