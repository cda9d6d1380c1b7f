"""Clients of server-sent events and of long polling that follow rooms, and do what a browser or a page would."""

import asyncio
import random
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Protocol

import aiohttp

from tests.cursors import cursor_of
from tests.event_streams import Parser
from tests.faults.checker import Reload
from tests.faults.listener import Listener

SILENCE_S = 5.0
"""A gateway is taken for lost after this. Gateways of these tests write every 2 s."""
WAIT_S = 2
PASSING = frozenset({429, 502, 503, 504})
"""The statuses after which a client tries again."""
LOST = (aiohttp.ClientError, OSError, TimeoutError)


class Follower(Protocol):
    """A client that `running` runs."""

    name: str

    async def run(self, http: aiohttp.ClientSession, url: str, token: str, /) -> None: ...


class HttpFollower(Listener, ABC):
    """What both have in common. A subclass sends one request at a time, and takes what comes."""

    def __init__(self, name: str, rooms: frozenset[str]) -> None:
        super().__init__(name, rooms)
        self.cursor = ""

    async def run(self, http: aiohttp.ClientSession, url: str, token: str) -> None:
        """Follow forever."""
        headers = {"Authorization": f"Bearer {token}"}
        while True:
            try:
                await self._ask(http, url, headers)
            except LOST:
                if self.connects:
                    self.lose()
                await asyncio.sleep(random.uniform(0.02, 0.2))

    @abstractmethod
    async def _ask(self, http: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> None:
        """Send one request, and take what comes until its end."""

    def _is_let_in(self, answer: aiohttp.ClientResponse) -> bool:
        if answer.status != 200 and answer.status not in PASSING:
            self.problems.append(f"refused with {answer.status}")
        return answer.status == 200

    def _take(self, message: Mapping[str, Any], cursor: str) -> None:
        match message["type"]:
            case "connection.ack":
                if self.started_at is None:
                    self.begin(message["cursor"])
            case "event":
                self.apply(cursor, message["event"]["id"])
            case "resync":
                upto = cursor_of(message["cursor"]).offset
                self.reloads.append(Reload(self._had, upto, message["reason"]))


class EventStreamFollower(HttpFollower):
    """Follows `GET /sse`, and comes back with the last id that it had."""

    async def _ask(self, http: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> None:
        parser = Parser()
        parser.last_id = self.cursor
        last_id = {"Last-Event-ID": self.cursor} if self.cursor else {}
        async with http.get(
            f"{url}/sse", params={"rooms": ",".join(self.rooms)}, headers={**headers, **last_id}
        ) as answer:
            if not self._is_let_in(answer):
                raise aiohttp.ClientError
            self.connect()
            async for data in answer.content.iter_any():
                for event in parser.feed(data):
                    self._take(event.json, event.id)
                    self.cursor = event.id
        raise aiohttp.ClientError("the answer ended")


class PollFollower(HttpFollower):
    """Follows `POST /poll`, and polls again with the cursor of the answer."""

    async def _ask(self, http: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> None:
        body = {"rooms": sorted(self.rooms), "waitS": WAIT_S, **({"cursor": self.cursor} if self.cursor else {})}
        async with http.post(f"{url}/poll", json=body, headers=headers) as answer:
            if not self._is_let_in(answer):
                raise aiohttp.ClientError
            found = await answer.json()
            if "cursor" not in found:  # the session ended while it was being answered
                raise aiohttp.ClientError
        self.connect()
        self.cursor = found["cursor"]
        for message in found["messages"]:
            self._take(message, str(replace(cursor_of(self.cursor), offset=message.get("offset", 0))))


@asynccontextmanager
async def running(
    followers: Sequence[Follower], url: str, tokens: Mapping[str, str], *, trusted: ssl.SSLContext | None = None
) -> AsyncIterator[None]:
    """Run the clients while the block runs. `trusted` are the authorities of an address with TLS."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE_S, sock_read=SILENCE_S)
    connector = aiohttp.TCPConnector(ssl=trusted or True)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as http:
        tasks = [asyncio.create_task(one.run(http, url, tokens[one.name]), name=one.name) for one in followers]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
