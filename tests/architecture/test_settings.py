"""Settings are read in one place, and every variable that is written down exists."""

import ast
import re
from pathlib import Path

import pytest

from beaconfire.service_settings import settings_classes
from beaconfire_kit.settings import ENV_PREFIX, Settings
from tests.architecture.sources import ROOT, modules, parsed
from tests.architecture.variables import known_variables

PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "docker-compose.yml", ".env.example", "deploy/**/*", "Makefile", ".ci/run")
    for path in ROOT.glob(pattern)
    if path.is_file()
)


READ_THE_ENVIRONMENT = {Path(f"shared/src/beaconfire_kit/{name}.py") for name in ("settings", "setting_files")}


@pytest.mark.parametrize("path", modules("shared", "services"), ids=str)
def test_only_the_modules_of_settings_read_the_environment(path: Path) -> None:
    if path in READ_THE_ENVIRONMENT:
        return
    names = {node.attr for node in ast.walk(parsed(path)) if isinstance(node, ast.Attribute)}
    names |= {alias.name for node in ast.walk(parsed(path)) if isinstance(node, ast.ImportFrom) for alias in node.names}

    assert not names & {"environ", "environb", "getenv"}


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_every_variable_in_documents_and_deployment_files_is_read_by_something(path: Path) -> None:
    named = set(re.findall(rf"\b{ENV_PREFIX}[A-Z0-9_]*[A-Z0-9]\b(?!_)", (ROOT / path).read_text()))

    assert named <= known_variables()


@pytest.mark.parametrize(("service", "cls"), settings_classes().items())
def test_every_setting_has_a_description_for_the_reference(service: str, cls: type[Settings]) -> None:
    assert [name for name, field in cls.model_fields.items() if not field.description] == []
