"""A client of `/poll` for tests: it polls for its rooms, and keeps the cursor of each answer."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

WAIT_S = 15.0


class Refused(Exception):
    """The gateway did not answer with messages."""

    def __init__(self, status: int, error: dict[str, Any], retry_after: str | None) -> None:
        super().__init__(f"{status}: {error}")
        self.status = status
        self.code = error["code"]
        self.message = error["message"]
        self.retry_after = retry_after


class PollClient:
    """One client. `cursor` is that of its last answer, and `urls` may be of several gateways: it takes turns."""

    def __init__(self, http: aiohttp.ClientSession, urls: Sequence[str], token: str, rooms: Sequence[str]) -> None:
        self.urls = list(urls)
        self.rooms = list(rooms)
        self.token = token
        self.cursor: str | None = None
        self.events: list[dict[str, Any]] = []
        """The event messages of all answers, in order."""
        self.answers = 0
        self._http = http

    async def poll(self, **fields: Any) -> list[dict[str, Any]]:
        """Send one poll, with these fields besides rooms and cursor; returns the messages. Raises Refused."""
        url = self.urls[self.answers % len(self.urls)]
        body = {"rooms": self.rooms, "cursor": self.cursor, **fields}
        async with asyncio.timeout(WAIT_S + body.get("waitS", 25)):
            async with self._http.post(f"{url}/poll", json=body, headers=self._headers()) as response:
                return self._take(await read(response))

    async def get(self, **fields: Any) -> list[dict[str, Any]]:
        """The same with GET."""
        query = {"rooms": ",".join(self.rooms), **({"cursor": self.cursor} if self.cursor else {}), **fields}
        async with asyncio.timeout(WAIT_S + query.get("waitS", 25)):
            async with self._http.get(f"{self.urls[0]}/poll", params=query, headers=self._headers()) as response:
                return self._take(await read(response))

    async def poll_for(self, count: int, **fields: Any) -> None:
        """Poll until it has `count` events."""
        while len(self.events) < count:
            await self.poll(**fields)

    @property
    def ids(self) -> list[str]:
        """The settlements of its events, in order."""
        return [one["event"]["payload"]["settlementId"] for one in self.events]

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def _take(self, answer: dict[str, Any]) -> list[dict[str, Any]]:
        self.cursor = answer["cursor"]
        self.answers += 1
        messages: list[dict[str, Any]] = answer["messages"]
        self.events += [one for one in messages if one["type"] == "event"]
        return messages


async def read(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The answer's JSON. Raises Refused for an error."""
    answer: dict[str, Any] = await response.json()
    if response.status != 200:
        raise Refused(response.status, answer["error"], response.headers.get("Retry-After"))
    return answer


@asynccontextmanager
async def polling(url: str, token: str, rooms: Sequence[str] = ("campaign:c1",)) -> AsyncIterator[PollClient]:
    """A client of the gateway at `url`. It is in its rooms: its first poll was answered."""
    async with aiohttp.ClientSession() as http:
        client = PollClient(http, [url], token, rooms)
        await client.poll()
        yield client


@asynccontextmanager
async def waiting(client: PollClient, **fields: Any) -> AsyncIterator["asyncio.Task[list[dict[str, Any]]]"]:
    """A poll that runs beside the block. It may be awaited within."""
    task = asyncio.create_task(client.poll(**fields))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
