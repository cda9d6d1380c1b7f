"""Everything at once: three brokers, PostgreSQL, auth and the publisher twice, workers, four gateways, clients.

Clients of every protocol reach the gateways through one load balancer, over TLS.
"""

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from beaconfire.local_services import ServiceProcess
from tests.client import trust, trusting
from tests.cluster.brokers import Brokers
from tests.cursors import cursor_of
from tests.databases import Postgres, database_url
from tests.faults import http_followers, socketio_followers
from tests.faults.checker import Verdict, check
from tests.faults.follower import Follower
from tests.faults.http_followers import EventStreamFollower, PollFollower
from tests.faults.listener import Listener
from tests.faults.plain_followers import PlainFollower
from tests.faults.socketio_followers import SocketIOFollower
from tests.faults.world import events_of
from tests.forked import forked
from tests.proxies import Balancer, balanced

PATIENCE_S = 90.0
TRY_AGAIN = "try again"
"""What a client of Socket.IO is told while the brokers elect a leader. It does, and the verdict says what it got."""
PAUSE_S = 0.02
"""Between two events: services that start need the processors too."""
GATEWAYS = 4
PERSON = {"email": "owner@everything.example", "password": "correct horse", "name": "Owner"}
CHEAP_PASSWORDS = {"ARGON2_TIME_COST": "1", "ARGON2_MEMORY_KIB": "64"}
# A load balancer asks every 2 s whether a gateway is ready. Clients of HTTP take silence of 5 s for a loss.
GATEWAY = {"TRUSTED_PROXIES": "127.0.0.1/32", "HEARTBEAT_S": "2", "STOP_ACCEPT_S": "3", "STOP_TIMEOUT_S": "8"}


@asynccontextmanager
async def repeating(action: Callable[[], Awaitable[object]], pause_s: float = 0) -> AsyncIterator[None]:
    """Do something again and again while the block runs."""
    stop = asyncio.Event()

    async def repeat() -> None:
        while not stop.is_set():
            await action()
            await asyncio.sleep(pause_s)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        stop.set()
        await task


class Services:
    """The processes, by what they are. Each is lost with `kill`, and stopped in order with `stop`."""

    def __init__(self, brokers: Brokers, folder: Path) -> None:
        self._brokers = brokers
        self._folder = folder
        token = secrets.token_hex(24)
        users = {
            "DATABASE_URL": database_url(folder, "auth"),
            "KEYS_SECRET": secrets.token_hex(24),
            "GRANT_TOKENS": token,
            **CHEAP_PASSWORDS,
        }
        self.auths = [self._service(f"auth-{number}", "auth", **users) for number in (1, 2)]
        database = {"DATABASE_URL": database_url(folder, "publisher")}
        self.publishers = [
            self._service(f"publisher-{number}", "publisher", SERVICE_TOKEN=token, **self._keys(number), **database)
            for number in range(2)
        ]
        self.workers = [self._service(name, "publisher", name, **database) for name in ("rules-engine", "scheduler")]
        self.gateways = [
            self._service(f"gateway-{number}", "gateway", **GATEWAY, **self._keys(number)) for number in range(GATEWAYS)
        ]

    @property
    def all(self) -> list[ServiceProcess]:
        return [*self.auths, *self.publishers, *self.workers, *self.gateways]

    async def start(self, *services: ServiceProcess) -> None:
        """Start services, and wait until they are ready."""
        for service in services:
            service.start(wait=False)
        for service in services:
            await asyncio.to_thread(service.wait_ready)

    def _keys(self, number: int) -> dict[str, str]:
        """Return where a service asks auth: every second one asks the second auth."""
        auth = self.auths[number % len(self.auths)].url
        return {"JWKS_URL": f"{auth}/.well-known/jwks.json", "AUTH_URL": auth}

    def _service(self, name: str, service: str, *arguments: str, **settings: str) -> ServiceProcess:
        environment = self._brokers.environment(arguments[0] if arguments else service)
        environment |= {f"BEACONFIRE_{key}": value for key, value in settings.items()}
        one = ServiceProcess(name, f"beaconfire_{service}", environment, arguments=arguments, folder=self._folder)
        return forked(one)


class SecureFollower(Follower):
    """A client of the native protocol, over TLS."""

    def __init__(self, name: str, url: str, certificate: Path, token: str, rooms: Sequence[str]) -> None:
        super().__init__(name, [url], token, rooms)
        self._certificate = certificate

    def session(self) -> aiohttp.ClientSession:
        return trusting(self._certificate)


class Everything:
    """The services, a campaign with its owner, and the owner's clients."""

    def __init__(self, brokers: Brokers, services: Services, balancer: Balancer, http: aiohttp.ClientSession) -> None:
        self.brokers = brokers
        self.services = services
        self.balancer = balancer
        self.native: list[SecureFollower] = []
        self.others: list[Listener] = []
        self.campaign = ""
        self.published: list[str] = []
        """The ids of the events that were published, in order."""
        self._http = http
        self._token = ""
        self._ids: dict[str, str] = {}
        self._numbers = itertools.count()

    async def begin(self) -> None:
        """Sign the owner up, and make the campaign."""
        auths = [one.url for one in self.services.auths]
        self._token = (await self._call(auths, "/auth/sign-up", PERSON))["accessToken"]
        made = await self._call(self._publishers, "/v1/campaigns", {"name": "Everything"})
        self.campaign = made["campaign"]["id"]

    @asynccontextmanager
    async def followed(self, certificate: Path) -> AsyncIterator[None]:
        """Run clients of every protocol through the load balancer while the block runs."""
        url = self.balancer.url
        room = f"campaign:{self.campaign}"
        both = (frozenset({room}), frozenset({f"{room}/settlement:s1"}))
        socketio = [
            SocketIOFollower(f"socketio-{way}", rooms, [way])
            for way, rooms in zip(("websocket", "polling"), both, strict=True)
        ]
        requests = [
            kind(f"{kind.__name__}-{number}", rooms)
            for kind in (EventStreamFollower, PollFollower, PlainFollower)
            for number, rooms in enumerate(both)
        ]
        self.native = [
            SecureFollower(f"native-{number}", url, certificate, self._token, sorted(both[number % 2]))
            for number in range(4)
        ]
        self.others = [*socketio, *requests]
        tokens = {one.name: self._token for one in self.others}
        async with (
            socketio_followers.running(socketio, url, tokens, id_of=self._id_of, certificate=certificate),
            http_followers.running(requests, url, tokens, trusted=trust(certificate)),
        ):
            tasks = [asyncio.create_task(one.run(), name=one.name) for one in self.native]
            try:
                async with asyncio.timeout(PATIENCE_S):
                    while any(one.started_at is None for one in self.clients):
                        await asyncio.sleep(0.02)
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def clients(self) -> list[Follower | Listener]:
        return [*self.native, *self.others]

    @property
    def trouble(self) -> list[str]:
        """What clients met that no fault explains."""
        return [f"{one.name}: {found}" for one in self.others for found in one.problems if TRY_AGAIN not in found]

    async def publish(self) -> int | None:
        """Publish an event over HTTP, through one of the publishers. Returns its offset if that is known yet."""
        number = next(self._numbers)
        self._ids[f"n{number}"] = event_id = f"everything-{number}"
        payload = {
            "campaignId": self.campaign,
            "settlementId": "s1",
            "operation": "update",
            "changedFields": [f"n{number}"],
        }
        event = {"id": event_id, "type": "settlement_updated", "payload": payload}
        offset = (await self._call(self._publishers, "/v1/events", event)).get("offset")
        self.published.append(event_id)
        return cursor_of(offset).offset if offset else None

    def publishing(self) -> AbstractAsyncContextManager[None]:
        """Publish events while the block runs."""
        return repeating(self.publish, PAUSE_S)

    async def written(self, count: int) -> None:
        """Wait until `count` more events are published."""
        wanted = len(self.published) + count
        async with asyncio.timeout(PATIENCE_S):
            while len(self.published) < wanted:
                await asyncio.sleep(0.02)

    async def verdicts(self) -> Mapping[str, Verdict]:
        """Wait until all clients have an event that is published now, and judge each of them by the stream."""
        while (last := await self.publish()) is None:
            pass
        with suppress(TimeoutError):  # the verdict names the clients that lack it
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.gather(*(one.reach(last) for one in self.clients))
        stream = await events_of(self.brokers, last)
        stored = [event.id for _, event in sorted(stream.items()) if event.id in self.published]
        assert stored == self.published, "published and acknowledged, and not in the stream, or not in this order"
        return {
            one.name: check(
                one.applied, stream, rooms=one.rooms, after=one.started_at or 0, upto=last, reloads=one.reloads
            )
            for one in self.clients
        }

    async def _call(self, urls: Sequence[str], path: str, body: Any) -> dict[str, Any]:
        """POST until it is done: at the next address, and at the first again, while services are away."""
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        headers["Idempotency-Key"] = secrets.token_hex(8)
        async with asyncio.timeout(PATIENCE_S):
            for url in itertools.cycle(urls):
                try:
                    async with self._http.post(f"{url}{path}", json=body, headers=headers) as answer:
                        if answer.status < 300:
                            return dict(await answer.json())
                        assert answer.status in (500, 503), await answer.text()
                except aiohttp.ClientConnectionError:
                    pass
                await asyncio.sleep(0.02)
        raise AssertionError("no address")

    @property
    def _publishers(self) -> list[str]:
        return [one.url for one in self.services.publishers]

    def _id_of(self, payload: dict[str, Any]) -> str:
        return self._ids[payload["changedFields"][0]]


@asynccontextmanager
async def everything(kind: str, folder: Path) -> AsyncIterator[Everything]:
    """Run all services, a load balancer of this kind in front of the gateways, and the clients."""
    async with AsyncExitStack() as stack:
        brokers = await stack.enter_async_context(Brokers(folder).running())
        services = Services(brokers, folder)
        for one in services.all:
            stack.callback(one.kill)
        await services.start(*services.all)
        balancer = await stack.enter_async_context(balanced(kind, folder, [one.url for one in services.gateways]))
        whole = Everything(brokers, services, balancer, await stack.enter_async_context(aiohttp.ClientSession()))
        await whole.begin()
        await stack.enter_async_context(whole.followed(folder / "site.crt"))
        yield whole


async def lose_each_part(whole: Everything, postgres: Postgres) -> None:
    """Kill one of each service, the leading broker, PostgreSQL and the load balancer. Then deploy all gateways anew."""
    services = whole.services
    async with whole.publishing():
        await whole.written(5)
        for service in (services.gateways[0], services.publishers[0], services.auths[0], services.workers[0]):
            service.kill()
            await whole.written(5)
            await services.start(service)
        leader = await whole.brokers.leader()
        whole.brokers.servers[leader].kill()
        await whole.written(5)
        await whole.brokers.start(leader)
        await asyncio.to_thread(postgres.stop_at_once)
        postgres.start()
        await whole.written(5)
        await whole.balancer.kill()  # closes every connection
        await whole.written(5)
        await whole.balancer.start()
        await whole.written(5)
        for gateway in services.gateways:  # a rolling deployment
            await asyncio.to_thread(gateway.stop, PATIENCE_S)
            await services.start(gateway)
            await whole.written(5)
