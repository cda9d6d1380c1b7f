"""Lists the environment variables that our code and deployment read."""

import re

from beaconfire.broker_config import NODE_NAME_VARIABLE, ROUTES_PASSWORD_VARIABLE, ROUTES_VARIABLE
from beaconfire.broker_users import PUBLISHER, USERS, password_variable
from beaconfire.service_settings import settings_classes, variables
from beaconfire_kit.setting_files import SUFFIX, may_be_in_file
from beaconfire_kit.settings import ENV_PREFIX, Settings
from tests.architecture.sources import ROOT

# Read by compose, the proxy, the broker, the job `setup` and PostgreSQL's first start, never by a service.
DEPLOYMENT = {
    NODE_NAME_VARIABLE,
    ROUTES_VARIABLE,
    ROUTES_PASSWORD_VARIABLE,
    "BEACONFIRE_STREAM_REPLICAS",
    "BEACONFIRE_ADMIN_PORT",
    "BEACONFIRE_SITE",
    "BEACONFIRE_TLS",
    "BEACONFIRE_HTTP_PORT",
    "BEACONFIRE_HTTPS_PORT",
    "BEACONFIRE_POSTGRES_PASSWORD",
    "BEACONFIRE_AUTH_DATABASE_PASSWORD",
    "BEACONFIRE_PUBLISHER_DATABASE_PASSWORD",
}
TESTS = {"BEACONFIRE_SCREENSHOTS"}  # tests/browser/looks.py


def known_variables() -> set[str]:
    """Every variable that our services, tools, clients, examples, deployment files and tests read."""
    classes: list[type[Settings]] = [Settings, *settings_classes().values()]
    passwords = {password_variable(user.name) for user in USERS}
    programs = [path.read_text() for path in (ROOT / "examples").glob("*/*") if path.suffix in (".go", ".js", ".sh")]
    programs += [path.read_text() for path in (ROOT / "clients/python/src").rglob("*.py")]
    examples = {name for text in programs for name in re.findall(rf"\b{ENV_PREFIX}[A-Z_]+\b", text)}
    settings = {name: field for cls in classes for name, field in variables(cls).items()}
    in_files = {name + SUFFIX for name, field in settings.items() if may_be_in_file(field)}
    in_files |= {password_variable(user) + SUFFIX for user in (PUBLISHER, "setup")}  # of the command line
    return settings.keys() | in_files | passwords | DEPLOYMENT | examples | TESTS
