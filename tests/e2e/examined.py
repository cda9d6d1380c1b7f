"""Run the doctor on a whole running set."""

from beaconfire.diagnosis import Check
from beaconfire.doctor import Deployment, diagnose
from beaconfire.local_services import Services
from beaconfire.operating import AuthOperator
from tests.conftest import broker_settings


async def looked_at(services: Services, *more_services: str) -> dict[str, Check]:
    """What `beaconfire doctor` says about the set, by the name of the check."""
    databases = {name: database(services, name) for name in ("auth", "publisher")}
    deployment = Deployment(
        broker_settings(services.nats, "operator", environment="development"),
        services.nats.passwords,
        monitoring=[f"http://127.0.0.1:{port}"] if (port := services.nats.monitoring_port) else [],
        services=[*(one.ops_url for one in services.services), *more_services],
        databases=databases,
        doors=[services.gateways[0].url],
        auth=AuthOperator(services.auth.ops_url, services.operator_token),
    )
    return {check.name: check for check in await diagnose(deployment)}


def database(services: Services, name: str) -> str:
    """The URL of a service's database."""
    return services._database(name)


def problems(checks: dict[str, Check]) -> dict[str, str]:
    """What is wrong, and what to do, by the name of the check."""
    return {name: f"{check.found} → {check.advice}" for name, check in checks.items() if check.verdict == "wrong"}
