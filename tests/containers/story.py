"""What users of a deployment do at its address, over TLS: sign up, make a campaign, change it, and follow it."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.client import SocketClient, TlsClient, open_socket, trust, trusting

PATIENCE_S = 90.0
PASSWORD = "correct horse"
PAUSE_S = 0.05
"""Between two events: containers that start need the processors too."""
AWAY = (500, 502, 503, 504)
"""What the proxy, or a service whose database or broker is away, answers. The caller tries again."""


class Story:
    """A user with a campaign. `sent` are the ids of the events that were published, in order."""

    def __init__(self, url: str, certificate: Path) -> None:
        self.url = url
        self.sent: list[str] = []
        self.campaign = ""
        self.settlement = ""
        self._certificate = certificate
        self._person = {"email": f"{secrets.token_hex(4)}@example.com", "password": PASSWORD}

    async def begin(self) -> None:
        """Sign up, and make the campaign with a settlement."""
        token = (await self.call("POST", "/auth/sign-up", {**self._person, "name": "Owner"}))["accessToken"]
        made = await self.call("POST", "/v1/campaigns", {"name": "Containers"}, token)
        self.campaign = made["campaign"]["id"]
        made = await self.call("POST", self._settlements, {"name": "Emberford", "population": 1}, token)
        self.settlement = made["settlement"]["id"]

    async def token(self) -> str:
        """Sign in."""
        return str((await self.call("POST", "/auth/sign-in", self._person))["accessToken"])

    @property
    def email(self) -> str:
        return self._person["email"]

    @property
    def room(self) -> str:
        return f"campaign:{self.campaign}"

    async def population(self, token: str) -> int:
        """Read the settlement."""
        found = await self.call("GET", f"{self._settlements}/{self.settlement}", token=token)
        return int(found["settlement"]["population"])

    async def change(self, population: int, token: str) -> None:
        """Change the settlement."""
        await self.call("PATCH", f"{self._settlements}/{self.settlement}", {"population": population}, token)

    async def hear_change(self, population: int) -> dict[str, Any]:
        """Sign in, open a socket, and change the settlement. Returns the event that the socket gets."""
        token = await self.token()
        async with self.socket() as client:
            await client.connect(token, [self.room])
            await self.change(population, token)
            return dict((await client.next("event"))["event"])

    async def publish(self, count: int, token: str) -> None:
        """Publish events about the settlement over HTTP, one after the other."""
        for _ in range(count):
            event_id = f"container-{len(self.sent)}"
            payload = {
                "campaignId": self.campaign,
                "settlementId": self.settlement,
                "operation": "update",
                "changedFields": ["level"],
            }
            await self.call(
                "POST", "/v1/events", {"id": event_id, "type": "settlement_updated", "payload": payload}, token
            )
            self.sent.append(event_id)

    def client(self, token: str, **more: Any) -> TlsClient:
        """Make a client that will follow the campaign."""
        return TlsClient(self.url, self._certificate, token, [self.room], **more)

    @asynccontextmanager
    async def socket(self) -> AsyncIterator[SocketClient]:
        """Open one socket."""
        async with open_socket(self.url, ssl=trust(self._certificate)) as client:
            yield client

    @asynccontextmanager
    async def followed(self, token: str, *, clients: int = 2) -> AsyncIterator[list[TlsClient]]:
        """Run clients that follow the campaign, while events are published.

        At the end of the block, each of them has had every event once and in order.
        """
        first = len(self.sent)
        stop = asyncio.Event()

        async def write() -> None:
            while not stop.is_set():
                await self.publish(1, token)
                await asyncio.sleep(PAUSE_S)

        async with AsyncExitStack() as stack:
            following = [await stack.enter_async_context(self.client(token).running()) for _ in range(clients)]
            writing = asyncio.create_task(write())
            stack.callback(writing.cancel)
            yield following
            stop.set()
            await writing
            await self.publish(1, token)
            for one in following:
                await one.seen(self.sent[-1], timeout_s=PATIENCE_S)
        for one in following:
            ours = [event_id for event_id in one.ids if event_id in self.sent]  # without those of the workers
            assert ours == self.sent[first:], f"applied {ours}, published {self.sent[first:]}"
            assert one.resyncs == []

    async def call(self, method: str, path: str, body: Any = None, token: str = "") -> dict[str, Any]:
        """Send a request until it is answered. A repeated request has the same idempotency key."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if method == "POST":
            headers["Idempotency-Key"] = secrets.token_hex(8)
        async with asyncio.timeout(PATIENCE_S), trusting(self._certificate) as http:
            while True:
                try:
                    async with http.request(method, f"{self.url}{path}", json=body, headers=headers) as answer:
                        if answer.status < 300:
                            return dict(await answer.json())
                        assert answer.status in AWAY, f"{method} {path}: {answer.status} {await answer.text()}"
                except aiohttp.ClientConnectionError:
                    pass
                await asyncio.sleep(0.1)

    @property
    def _settlements(self) -> str:
        return f"/v1/campaigns/{self.campaign}/settlements"
