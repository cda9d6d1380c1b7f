"""Fixtures that every test may use: the real broker, as it is shipped, and real databases."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import hypothesis
import pytest
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import SecretStr

from beaconfire.local_services import Plan, Services
from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.seams.nats_connection import Connection
from beaconfire_kit.settings import Settings
from beaconfire_kit.stream_setup import declare_stream
from tests.databases import Databases, ForeignPostgres, Postgres, chosen
from tests.forked import all_running

# A loaded machine takes its time for an example: no property here is about time.
hypothesis.settings.register_profile(
    "beaconfire", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("beaconfire")
# Stack traces as they come: structlog's own rendering of one takes seconds in which the loop stands still.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

PATIENCE_S = 20.0
"""How long a test waits for what must come."""
CLUSTER = Path(__file__).parent / "cluster"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the cluster's tests first.

    A test process that is done takes tests from the end of another's queue (`--dist worksteal`). If the cluster's tests
    stood in the middle, it would take some of them and start a second cluster.
    """
    items.sort(key=lambda item: CLUSTER not in item.path.parents)


@pytest.fixture(name="nats_server")
def _nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A nats-server of its own for each test, with the shipped user table and durability."""
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.thaw()
    server.kill()


class Broker(Protocol):
    """One nats-server, or several: the addresses, and the passwords of the users."""

    @property
    def url(self) -> str: ...

    @property
    def passwords(self) -> dict[str, str]: ...


@dataclass(frozen=True, slots=True)
class At:
    """A broker as it is reached on some way of its own: by a proxy, or one server of several."""

    url: str
    passwords: dict[str, str]


def broker_settings(server: Broker, user: str, **more: Any) -> Settings:
    """Settings that connect as `user`."""
    return Settings(nats_url=server.url, nats_user=user, nats_password=SecretStr(server.passwords[user]), **more)


class PatientConnection(Connection):
    """The connection of a test. A request waits for a busy machine; nats-py itself waits for only half a second."""

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        timeout: float = PATIENCE_S,
        old_style: bool = False,
        headers: dict[str, Any] | None = None,
    ) -> Msg:
        return await super().request(subject, payload, timeout, old_style, headers)


@asynccontextmanager
async def connected(
    server: Broker, user: str, *, on_disconnected: Callable[[], None] | None = None
) -> AsyncIterator[Client]:
    """A connection to the broker as `user`. A connection that ends for good fails the test."""

    def closed() -> None:
        pytest.fail("the broker connection was closed for good")

    settings = broker_settings(server, user)
    nc = await broker.connect(
        settings, f"test-{user}", client=PatientConnection(), on_closed=closed, on_disconnected=on_disconnected
    )
    try:
        yield nc
    finally:
        await broker.close(nc)


@pytest.fixture(name="stream")
async def _stream(nats_server: NatsServer) -> NatsServer:
    """The broker with the stream declared."""
    async with connected(nats_server, "setup") as nc:
        await declare_stream(nc)
    return nats_server


@pytest.fixture(name="services")
def _services(tmp_path: Path) -> Iterator[Services]:
    """The whole set as processes, as in production: broker, auth, publisher and two gateways with a port each."""
    cheap_passwords = {"BEACONFIRE_ARGON2_TIME_COST": "1", "BEACONFIRE_ARGON2_MEMORY_KIB": "64"}
    with all_running(Plan(tmp_path / "services", gateways=2, environment={"auth": cheap_passwords})) as whole:
        yield whole


@pytest.fixture(name="postgres", scope="session")
def _postgres() -> Iterator[Postgres]:
    """A PostgreSQL of this test process, empty."""
    server = Postgres()
    try:
        server.make()
        yield server
    finally:
        server.remove()


@pytest.fixture(name="postgres_databases", scope="session")
def _postgres_databases(request: pytest.FixtureRequest) -> Iterator[Databases]:
    """Makes databases on it, or on the one of `POSTGRES_URL`."""
    url = os.environ.get("POSTGRES_URL")
    databases = Databases(ForeignPostgres(url) if url else request.getfixturevalue("postgres"))
    yield databases
    databases.drop_templates()


@pytest.fixture(name="on_postgresql")
def _on_postgresql(postgres_databases: Databases) -> Iterator[None]:
    """Run a test on PostgreSQL: fixtures that use `database_url` get such a database."""
    with chosen(postgres_databases):
        yield


@pytest.fixture(name="each_database", params=["sqlite", "postgresql"])
def _each_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a test on SQLite and on PostgreSQL: fixtures that use `database_url` get such a database."""
    if request.param == "sqlite":
        yield request.param
        return
    with chosen(request.getfixturevalue("postgres_databases")):
        yield request.param
