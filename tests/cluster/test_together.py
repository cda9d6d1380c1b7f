"""Everything at once: three brokers, PostgreSQL, two publishers, and three gateways behind a real load balancer."""

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from beaconfire.local_services import ServiceProcess
from tests.client import TlsClient
from tests.cluster.brokers import Brokers
from tests.databases import Postgres, database_url
from tests.proxies import proxied

PATIENCE_S = 60.0
PASSWORD = "correct horse"


class Whole:
    """All processes, and calls to the services."""

    def __init__(self, brokers: Brokers, folder: Path, http: aiohttp.ClientSession) -> None:
        self.brokers = brokers
        self._folder = folder
        self._http = http
        grant_token, keys_secret = secrets.token_hex(24), secrets.token_hex(24)
        self.auth = self._service(
            "auth",
            "auth",
            DATABASE_URL=database_url(folder, "auth"),
            KEYS_SECRET=keys_secret,
            GRANT_TOKENS=grant_token,
            ARGON2_TIME_COST="1",
            ARGON2_MEMORY_KIB="64",
        )
        keys = {"JWKS_URL": f"{self.auth.url}/.well-known/jwks.json", "AUTH_URL": self.auth.url}
        database = {"DATABASE_URL": database_url(folder, "publisher")}
        self.publishers = [
            self._service(f"publisher-{number}", "publisher", SERVICE_TOKEN=grant_token, **keys, **database)
            for number in (1, 2)
        ]
        self.worker = self._service("rules-engine", "publisher", "rules-engine", **database)
        self.gateways = [
            self._service(f"gateway-{number}", "gateway", TRUSTED_PROXIES="127.0.0.1/32", **keys)
            for number in (1, 2, 3)
        ]
        self._in_turn = itertools.cycle(self.publishers)

    @property
    def processes(self) -> list[ServiceProcess]:
        return [self.auth, *self.publishers, self.worker, *self.gateways]

    def _service(self, name: str, service: str, *arguments: str, **settings: str) -> ServiceProcess:
        user = name if arguments else service
        environment = self.brokers.environment(user)
        environment |= {f"BEACONFIRE_{key}": value for key, value in settings.items()}
        return ServiceProcess(name, f"beaconfire_{service}", environment, arguments=arguments, folder=self._folder)

    async def start(self, *services: ServiceProcess) -> None:
        """Start services, and wait until they are ready."""
        for service in services:
            service.start(wait=False)
        for service in services:
            await asyncio.to_thread(service.wait_ready)

    async def call(self, url: str, body: Any, token: str = "") -> dict[str, Any]:
        """POST until it is done: a service that is away is asked again, or the other one."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    async with self._http.post(url, json=body, headers=headers) as answer:
                        if answer.status < 300:
                            return dict(await answer.json())
                        assert answer.status in (500, 503), await answer.text()
                except aiohttp.ClientConnectionError:
                    pass
                if url.endswith("/v1/events"):
                    url = f"{next(self._in_turn).url}/v1/events"
                await asyncio.sleep(0.05)

    async def publish(self, campaign: str, token: str, number: int) -> str:
        """Publish an event over HTTP at one of the publishers. Returns its id."""
        event_id = f"together-{number}"
        payload = {"campaignId": campaign, "settlementId": "s1", "operation": "update", "changedFields": ["level"]}
        event = {"id": event_id, "type": "settlement_updated", "payload": payload}
        await self.call(f"{next(self._in_turn).url}/v1/events", event, token)
        return event_id


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[Whole, str]]:
    """Start everything; yields it, and the load balancer's address."""
    async with AsyncExitStack() as stack:
        brokers = await stack.enter_async_context(Brokers(folder).running())
        http = await stack.enter_async_context(aiohttp.ClientSession())
        whole = Whole(brokers, folder, http)
        for one in whole.processes:
            stack.callback(one.kill)
        await whole.start(*whole.processes)
        gateways = [one.url for one in whole.gateways]
        yield whole, await stack.enter_async_context(proxied("haproxy", folder, gateways))


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("on_postgresql")
async def test_no_event_is_lost_repeated_or_reordered_while_each_part_of_the_whole_is_lost_in_turn(
    postgres: Postgres, tmp_path: Path
) -> None:
    """A gateway, the leading broker, PostgreSQL and a publisher are killed. Then a gateway stops in order."""
    async with running(tmp_path) as (whole, url), AsyncExitStack() as stack:
        body = {"email": "owner@together.example", "password": PASSWORD, "name": "Owner"}
        token = (await whole.call(f"{whole.auth.url}/auth/sign-up", body))["accessToken"]
        made = await whole.call(f"{whole.publishers[0].url}/v1/campaigns", {"name": "Together"}, token)
        campaign = made["campaign"]["id"]
        clients = [TlsClient(url, tmp_path / "site.crt", token, [f"campaign:{campaign}"]) for _ in range(4)]
        for client in clients:
            await stack.enter_async_context(client.running())
        sent: list[str] = []

        async def write(count: int) -> None:
            for _ in range(count):
                sent.append(await whole.publish(campaign, token, len(sent)))

        await write(5)
        for service in (whole.gateways[0], whole.publishers[0]):
            service.kill()
            await write(5)
            await whole.start(service)
        leader = await whole.brokers.leader()
        whole.brokers.servers[leader].kill()
        await write(5)
        await whole.brokers.start(leader)
        postgres.stop_at_once()
        postgres.start()
        await write(5)
        stopping = asyncio.to_thread(whole.gateways[1].stop, PATIENCE_S)
        await asyncio.gather(stopping, write(5))
        await whole.start(whole.gateways[1])
        await write(5)
        for client in clients:
            await client.seen(sent[-1], timeout_s=PATIENCE_S)

    for client in clients:
        assert [one for one in client.ids if one in sent] == sent
        assert client.resyncs == []
    assert sum(client.losses for client in clients) > 0
