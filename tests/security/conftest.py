"""The fixtures of the gateway's tests, and the whole set as processes, for attacks from outside."""

import http.client
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from beaconfire.api import call
from beaconfire.local_services import Plan, ServiceProcess, Services
from beaconfire.nats_server import free_port
from tests.client import SocketClient, open_socket
from tests.forked import all_forked
from tests.gateway.conftest import _auth, _gateway
from tests.people import Person
from tests.websocket import RawSocket, client_frame, raw_socket

__all__ = ["_auth", "_gateway"]

PASSWORD = "correct horse"


@dataclass
class Target:
    """The running set: `owner` owns `campaign`, `stranger` is a member of nothing. Logs are at level debug."""

    services: Services
    folder: Path
    monitoring_port: int
    owner: Person
    stranger: Person
    campaign: str

    @property
    def gateway(self) -> ServiceProcess:
        return self.services.gateways[0]

    @property
    def room(self) -> str:
        return f"campaign:{self.campaign}"

    def logs(self) -> str:
        """Everything the services have written so far."""
        return "".join(path.read_text() for path in sorted((self.folder / "logs").glob("*.log")))

    def monitoring(self, path: str) -> Any:
        """A page of the broker's own monitoring."""
        connection = http.client.HTTPConnection("127.0.0.1", self.monitoring_port, timeout=10)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    @asynccontextmanager
    async def client(self, person: Person | None = None, *rooms: str) -> AsyncIterator[SocketClient]:
        """A well-behaved client."""
        async with open_socket(self.gateway.url) as client:
            await client.connect((person or self.owner).token, rooms)
            yield client

    @asynccontextmanager
    async def wire(self, person: Person | None = None) -> AsyncIterator[RawSocket]:
        """A connection after its `connect`, to send bytes on."""
        async with raw_socket(self.gateway.url) as raw:
            hello = {"type": "connect", "id": 0, "token": (person or self.owner).token, "rooms": [self.room]}
            raw.write(client_frame(json.dumps(hello).encode()))
            assert json.loads((await raw.frame())[1])["type"] == "connection.ack"
            yield raw

    async def status(self, method: str, url: str, body: Any = None, *, token: str | None = None) -> tuple[int, Any]:
        """Status and body of an HTTP call; a body of bytes is sent as it is."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        content: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, headers=headers, **content) as answer,
        ):
            text = await answer.text()
            return answer.status, json.loads(text) if answer.content_type == "application/json" else text

    async def assert_alive(self) -> None:
        """Every service answers, and a client can connect and hear."""
        for service in self.services.services:
            assert service.process.is_running
            assert (await self.status("GET", f"{service.ops_url}/healthz"))[0] == 200
        async with self.client(self.owner, self.room) as client:
            await hears(self, client)


async def hears(target: Target, client: SocketClient) -> None:
    """A change made now reaches this client."""
    url = f"{target.services.publisher_url}/v1/campaigns/{target.campaign}/world-time"
    status, _ = await target.status("POST", url, {"advanceSeconds": 1}, token=target.owner.token)
    assert status == 200
    while (await client.next("event"))["event"]["type"] != "world_time_changed":
        pass


def rss_bytes(service: ServiceProcess) -> int:
    """Resident memory of a service's process."""
    pid = service.process.pid
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def _sign_up(services: Services, name: str) -> Person:
    body = {"email": f"{name}@attack.example", "password": PASSWORD, "name": name}
    session: Any = call("POST", f"{services.auth_url}/auth/sign-up", body)
    user = session["user"]
    return Person(user["id"], user["email"], session["accessToken"], session["refreshToken"])


@pytest.fixture(name="target", scope="session")
def _target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """One set for all attacks that leave it whole."""
    folder = tmp_path_factory.mktemp("target")
    debug = {"BEACONFIRE_LOG_LEVEL": "debug"}
    cheap_passwords = {"BEACONFIRE_ARGON2_TIME_COST": "1", "BEACONFIRE_ARGON2_MEMORY_KIB": "64"}
    # Many attacks by one user: the limits of a user and of an address have tests of their own.
    roomy = {
        "BEACONFIRE_MESSAGES_PER_MINUTE_PER_USER": "100000",
        "BEACONFIRE_ROOMS_PER_MINUTE_PER_USER": "100000",
        "BEACONFIRE_ATTEMPTS_PER_MINUTE_ADDRESS": "100000",
    }
    environment = {"auth": debug | cheap_passwords, "publisher": debug, "gateway": debug | roomy}
    services = all_forked(Services(Plan(folder, gateways=1, environment=environment)))
    services.nats.monitoring_port = free_port()
    try:
        services.start()
        owner, stranger = _sign_up(services, "owner"), _sign_up(services, "stranger")
        url = f"{services.publisher_url}/v1/campaigns"
        made: Any = call("POST", url, {"name": "The Vale"}, token=owner.token)
        yield Target(services, folder, services.nats.monitoring_port, owner, stranger, made["campaign"]["id"])
    finally:
        services.kill()
