"""All services with a campaign and a workspace, as tests in JavaScript find them in the variable BEACONFIRE_STAGE."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from beaconfire import demo
from beaconfire.api import call
from beaconfire.local_services import Plan, Services
from tests.forked import all_forked

VARIABLE = "BEACONFIRE_STAGE"
WORKSPACE = "w1"


@contextmanager
def staged(folder: Path) -> Iterator[dict[str, str]]:
    """Run the services in a folder. Yields the variable for the environment of a test in JavaScript."""
    services = all_forked(Services(Plan(folder, gateways=1)))
    try:
        services.start()
        yield {VARIABLE: json.dumps(_stage(services))}
    finally:
        services.kill()


def _stage(services: Services) -> dict[str, Any]:
    campaign = dict(demo.seed_all(services))["campaign"]
    people = {person.name: _sign_in(services, person) for person in demo.PEOPLE}
    operators = f"{services.auth.ops_url}/api/v1/auth/service-tokens"
    patterns = ["workspace.*.>", "workspace.*.member.*", "user.*.notification.*"]
    asked = {"service": "backend", "publish": patterns}
    backend = call("POST", operators, asked, token=services.operator_token)["token"]
    owner = {"root": f"workspace:{WORKSPACE}", "owner": {"userId": people["Owner"]["id"]}}
    call("POST", f"{services.auth_url}/auth/roots", owner, token=backend)
    viewer = f"{services.auth_url}/auth/roots/workspace:{WORKSPACE}/members/{people['Viewer']['id']}"
    call("PUT", viewer, {"role": "viewer"}, token=backend)
    return {
        "gatewayUrl": services.gateways[0].url,
        "publisherUrl": services.publisher_url,
        "campaign": campaign,
        "workspace": WORKSPACE,
        "backend": backend,
        "people": people,
    }


def _sign_in(services: Services, person: demo.Person) -> dict[str, str]:
    credentials = {"email": person.email, "password": demo.PASSWORD}
    session = call("POST", f"{services.auth_url}/auth/sign-in", credentials)
    return {"id": session["user"]["id"], "token": session["accessToken"]}
