"""Run the doctor on a broker of a test, and change that broker."""

import json
from typing import Any

from nats.aio.client import Client

from beaconfire.diagnosis import Check
from beaconfire.doctor import Deployment, diagnose
from beaconfire.nats_server import NatsServer
from tests.conftest import broker_settings


async def looked_at(server: NatsServer, **more: Any) -> dict[str, Check]:
    """Return the doctor's results, by the name of the check."""
    settings = broker_settings(server, "operator", environment=more.pop("environment", "production"))
    if server.monitoring_port:
        more["monitoring"] = [f"http://127.0.0.1:{server.monitoring_port}"]
    return {check.name: check for check in await diagnose(Deployment(settings, **more))}


def names(checks: dict[str, Check], verdict: str) -> set[str]:
    return {name for name, check in checks.items() if check.verdict == verdict}


async def change(nc: Client, call: str, body: Any = None) -> dict[str, Any]:
    answer = json.loads((await nc.request(f"$JS.API.{call}", json.dumps(body or {}).encode())).data)
    assert "error" not in answer, answer
    return dict(answer)
