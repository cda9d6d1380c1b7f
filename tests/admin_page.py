"""Starts the admin page within a test, for services that run or for none."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pydantic import SecretStr

from beaconfire.admin.app import build
from beaconfire.admin.settings import Settings
from beaconfire.admin.watching import EVERY_S
from beaconfire.local_services import Services
from beaconfire.nats_server import NatsServer, free_port
from beaconfire_kit.serving import listening
from tests.conftest import broker_settings

OPERATOR = "o" + "0123456789abcdef" * 2
READER = "r" + "fedcba9876543210" * 2


@asynccontextmanager
async def admin_page(
    server: NatsServer | None = None, *, every_s: float = EVERY_S, **settings: Any
) -> AsyncIterator[str]:
    """Start it, and yield its URL. Without a server, its broker is away."""
    chosen = {
        "operator_token": SecretStr(OPERATOR),
        "operator_read_token": SecretStr(READER),
        "nats_url": f"nats://127.0.0.1:{free_port()}" if server is None else server.url,
        **({} if server is None else broker_settings(server, "operator").model_dump(include={"nats_user"})),
        **({} if server is None else {"nats_password": SecretStr(server.passwords["operator"])}),
        **settings,
    }
    one = Settings(environment="development", **{"port": 0, **chosen})
    async with listening(build(one, every_s=every_s), one, name="admin") as at:
        yield at.url


def of_services(services: Services, *, others: Sequence[str] = ()) -> dict[str, Any]:
    """The settings of the page for these services. `others` are gateways that do not run."""
    return {
        "operator_token": SecretStr(services.operator_token),
        "gateway_ops": (*(one.ops_url for one in services.gateways), *others),
        "auth_ops": (services.auth.ops_url,),
        "publisher_ops": (services.publisher.ops_url,),
        "publisher_password": SecretStr(services.nats.passwords["publisher"]),
    }
