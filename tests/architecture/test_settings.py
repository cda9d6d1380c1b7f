"""Configuration: read in one place, and every variable that is written down somewhere exists."""

import ast
import re
from pathlib import Path

import pytest

from shared.settings import ENV_PREFIX, Settings
from tests.architecture.sources import ROOT, modules, parsed
from tools.broker_users import NODE_NAME_VARIABLE, ROUTES_PASSWORD_VARIABLE, ROUTES_VARIABLE, USERS, password_variable
from tools.derived.settings_page import settings_classes, variables

# Read by compose, the proxy, the broker, the job `setup` and PostgreSQL's first start, never by a service.
DEPLOYMENT = {
    NODE_NAME_VARIABLE,
    ROUTES_VARIABLE,
    ROUTES_PASSWORD_VARIABLE,
    "BEACONFIRE_STREAM_REPLICAS",
    "BEACONFIRE_SITE",
    "BEACONFIRE_TLS",
    "BEACONFIRE_HTTP_PORT",
    "BEACONFIRE_HTTPS_PORT",
    "BEACONFIRE_POSTGRES_PASSWORD",
    "BEACONFIRE_AUTH_DATABASE_PASSWORD",
    "BEACONFIRE_PUBLISHER_DATABASE_PASSWORD",
}
PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "docker-compose.yml", ".env.example", "deploy/**/*", "Makefile", ".ci/run")
    for path in ROOT.glob(pattern)
    if path.is_file()
)


@pytest.mark.parametrize("path", modules("shared", "services"), ids=str)
def test_the_environment_is_read_in_one_place(path: Path) -> None:
    """No module but shared/settings.py looks at the environment; values are passed down."""
    if path == Path("shared/settings.py"):
        return
    names = {node.attr for node in ast.walk(parsed(path)) if isinstance(node, ast.Attribute)}
    names |= {alias.name for node in ast.walk(parsed(path)) if isinstance(node, ast.ImportFrom) for alias in node.names}

    assert not names & {"environ", "environb", "getenv"}


def known() -> set[str]:
    """Every variable that something of ours reads."""
    classes: list[type[Settings]] = [Settings, *settings_classes().values()]
    passwords = {password_variable(user.name) for user in USERS}
    programs = [path.read_text() for path in (ROOT / "examples").glob("*/*") if path.suffix in (".go", ".js", ".sh")]
    examples = {name for text in programs for name in re.findall(rf"\b{ENV_PREFIX}[A-Z_]+\b", text)}
    return {name for cls in classes for name in variables(cls)} | passwords | DEPLOYMENT | examples


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_every_variable_written_down_exists(path: Path) -> None:
    """A variable in the documentation or a deployment file is one that is read."""
    named = set(re.findall(rf"\b{ENV_PREFIX}[A-Z0-9_]*[A-Z0-9]\b(?!_)", (ROOT / path).read_text()))

    assert named <= known()


@pytest.mark.parametrize(("service", "cls"), settings_classes().items())
def test_every_setting_says_why(service: str, cls: type[Settings]) -> None:
    """Each setting has a line for the reference."""
    assert [name for name, field in cls.model_fields.items() if not field.description] == []
