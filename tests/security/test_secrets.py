"""T19: outside development, no service starts with a default or weak secret. Real processes."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from beaconfire.processes import Process

SERVICES = ("auth", "publisher", "gateway")
STRONG = "9f1c7be2a05d4436b8e1720cfa9d6e53"
BROKER = {"BEACONFIRE_NATS_USER": "x", "BEACONFIRE_NATS_PASSWORD": STRONG}


async def refusal(service: str, environment: Mapping[str, str], folder: Path) -> str:
    """Return the output of a service that does not start. It must end with 2."""
    process = Process(
        service,
        [sys.executable, "-m", f"beaconfire_{service}", *([str(folder / "page")] if service == "demo" else [])],
        log_path=folder / "log",
        environment=environment,
    )
    process.start()
    try:
        ended = await asyncio.to_thread(process.wait, 40)
    finally:
        process.kill()
    said = (folder / "log").read_text()
    assert (ended, process.exit_code) == (True, 2), said
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("service", SERVICES)
async def test_missing_secrets_stop_the_start_with_advice(service: str, tmp_path: Path) -> None:
    """T19: without settings, production is meant."""
    said = await refusal(service, {}, tmp_path)

    for variable in ("BEACONFIRE_NATS_USER", "BEACONFIRE_NATS_PASSWORD"):
        assert f"{variable}: " in said
    assert "openssl rand -hex 24" in said
    assert "BEACONFIRE_ENVIRONMENT=development" in said


WEAK = [
    *(
        (service, {**BROKER, "BEACONFIRE_NATS_PASSWORD": "changeme"}, "BEACONFIRE_NATS_PASSWORD")
        for service in SERVICES
    ),
    *(
        (service, {**BROKER, "BEACONFIRE_DATABASE_URL": url}, "BEACONFIRE_DATABASE_URL")
        for service in ("auth", "publisher")
        for url in ("postgresql+asyncpg://me:postgres@db/x", "postgresql+asyncpg://me@db/x")
    ),
    (
        "demo",
        {**BROKER, "BEACONFIRE_DEMO_PEOPLE": '[{"name": "a", "email": "a@b", "password": "demo-demo"}]'},
        "BEACONFIRE_DEMO_PEOPLE",
    ),
    (
        "gateway",
        {
            **BROKER,
            "BEACONFIRE_OUTSIDE_ISSUERS": '[{"name": "a", "issuer": "b", "audience": "c", "jwksUrl": "http://d/"}]',
        },
        "BEACONFIRE_OUTSIDE_ISSUERS",
    ),
]


@pytest.mark.parametrize(("service", "environment", "variable"), WEAK)
async def test_weak_secret_stops_the_start_with_a_reason_that_does_not_repeat_it(
    service: str, environment: dict[str, str], variable: str, tmp_path: Path
) -> None:
    """T19: the reason says what is wrong with it."""
    said = await refusal(service, environment, tmp_path)

    assert f"{variable}: " in said
    assert environment[variable] not in said
