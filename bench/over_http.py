"""Measure how long a change over HTTP takes to reach a client's socket, and a removal its member's.

All services run as processes on this machine (broker with `sync_interval: always`, SQLite `synchronous=FULL`). One user
changes a settlement over HTTP. Two clients are connected, each to another gateway process. The time from sending the
request to the frame is measured in milliseconds, on one clock. The response waits for the broker, so the frame often
arrives before it. The time to the response, and from the response to the frame, are measured, too; the latter may be
negative.

At first there are twenty changes a second. Then each change follows the previous one immediately. So it competes with
the previous one's work in the rules engine, in auth and on the disk. At the end, a member is removed and added again
and again. The time from the request that removes the member to `room.left` on the socket is measured.
"""

import asyncio
import json
import re
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from beaconfire.local_services import Plan, Services

PASSWORD = "of a benchmark"
WARM_UP = 50
EVERY_S = 0.05
REMOVALS = 100


class Listener:
    """A member's socket. It records when the event of each request arrived."""

    def __init__(self) -> None:
        self.arrived: dict[str, float] = {}
        self.created: dict[str, float] = {}
        """When the event of each request was created (seconds since 1970)."""
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self, http: aiohttp.ClientSession, url: str, token: str, room: str) -> None:
        """Connect, and wait for the ack."""
        socket = await http.ws_connect(f"{url}/ws", protocols=["beaconfire.v1"])
        await socket.send_json({"type": "connect", "id": 1, "token": token, "rooms": [room]})
        assert (await socket.receive_json())["rooms"][room]["success"]
        self._task = asyncio.create_task(self._listen(socket))

    async def wait(self, correlation_id: str) -> float:
        """Return when the event of a request arrived."""
        async with asyncio.timeout(10):
            while correlation_id not in self.arrived:
                self._changed.clear()
                await self._changed.wait()
        return self.arrived[correlation_id]

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            now = time.perf_counter()
            frame = json.loads(message.data)
            if frame["type"] == "event":
                metadata = frame["event"]["metadata"]
                if metadata["source"] == "api":  # not what the rules engine makes of it
                    self.arrived[metadata.get("correlationId", "")] = now
                    created = datetime.fromisoformat(metadata["timestamp"])
                    self.created[metadata.get("correlationId", "")] = created.timestamp()
                self._changed.set()


async def measure(services: Services, changes: int) -> dict[str, list[float]]:
    """Return the samples of each column, in milliseconds."""
    async with aiohttp.ClientSession() as http:
        owner = await _post(http, f"{services.auth_url}/auth/sign-up", None, _person())
        token = owner["accessToken"]
        campaign = await _post(http, f"{services.publisher_url}/v1/campaigns", token, {"name": "Bench"})
        path = f"{services.publisher_url}/v1/campaigns/{campaign['campaign']['id']}/settlements"
        settlement = await _post(http, path, token, {"name": "Bench"})
        room = f"campaign:{campaign['campaign']['id']}"
        listeners = [Listener() for _ in services.gateways]
        for listener, gateway in zip(listeners, services.gateways, strict=True):
            await listener.open(http, gateway.url, token, room)
        names = ("request to socket", "request to event", "event to broker", "one after the other")
        columns: dict[str, list[float]] = {name: [] for name in names}
        begin, behind_s = time.perf_counter(), time.time() - time.perf_counter()
        for number in range(WARM_UP + 2 * changes):
            if number == WARM_UP:
                stored = await _stored(http, services)
            if number == WARM_UP + changes:
                columns["event to broker"].append(1e3 * _mean(stored, await _stored(http, services)))
            is_paced = number < WARM_UP + changes
            if is_paced:
                await asyncio.sleep(begin + number * EVERY_S - time.perf_counter())
            asked = await _change(http, f"{path}/{settlement['settlement']['id']}", token, number)
            arrived = [await listener.wait(f"bench-{number}") for listener in listeners]
            to_socket = [1e3 * (at - asked) for at in arrived]
            if not is_paced:
                columns["one after the other"] += to_socket
            elif number >= WARM_UP:
                columns["request to socket"] += to_socket
                created = listeners[0].created[f"bench-{number}"] - behind_s
                columns["request to event"].append(1e3 * (created - asked))
        columns["removal to room.left"] = await _removals(http, services, token, room)
        return columns


async def _removals(http: aiohttp.ClientSession, services: Services, token: str, room: str) -> list[float]:
    """Return how long each removal of a member took to reach the socket, in milliseconds."""
    viewer = await _post(http, f"{services.auth_url}/auth/sign-up", None, {**_person(), "email": "v@bench.example"})
    members = f"{services.auth_url}/auth/roots/{room}/members"
    headers = {"Authorization": f"Bearer {token}"}
    samples = []
    async with http.ws_connect(f"{services.gateways[0].url}/ws", protocols=["beaconfire.v1"]) as socket:
        await socket.send_json({"type": "connect", "id": 0, "token": viewer["accessToken"]})
        await _until(socket, "connection.ack")
        for number in range(1, REMOVALS + 1):
            await _post(http, members, token, {"email": "v@bench.example", "role": "viewer"})
            await socket.send_json({"type": "subscribe", "id": number, "rooms": [room]})
            assert (await _until(socket, "reply"))["rooms"][room]["success"]
            asked = time.perf_counter()
            async with http.delete(f"{members}/{viewer['user']['id']}", headers=headers) as answer:
                assert answer.status == 204, await answer.text()
            await _until(socket, "room.left")
            samples.append(1e3 * (time.perf_counter() - asked))
    return samples


async def _until(socket: aiohttp.ClientWebSocketResponse, kind: str) -> dict[str, Any]:
    """Return the next frame of a type."""
    while (frame := dict(await socket.receive_json()))["type"] != kind:
        pass
    return frame


async def _change(http: aiohttp.ClientSession, url: str, token: str, number: int) -> float:
    """Make one change. Returns when the request was sent."""
    headers = {"Authorization": f"Bearer {token}", "X-Correlation-Id": f"bench-{number}"}
    asked = time.perf_counter()
    async with http.patch(url, json={"population": number + 1}, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
    return asked


async def _stored(http: aiohttp.ClientSession, services: Services) -> tuple[float, float]:
    """Return how many events the publisher's relay has had acknowledged, and the seconds since they were written."""
    async with http.get(f"{services.publisher.ops_url}/metrics") as answer:
        found = dict(
            re.findall(r"^beaconfire_outbox_store_latency_seconds_(count|sum) (\S+)$", await answer.text(), re.M)
        )
    return float(found["count"]), float(found["sum"])


def _mean(before: tuple[float, float], after: tuple[float, float]) -> float:
    return (after[1] - before[1]) / (after[0] - before[0])


async def _post(http: aiohttp.ClientSession, url: str, token: str | None, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with http.post(url, json=body, headers=headers) as answer:
        assert answer.status < 300, await answer.text()
        return dict(await answer.json())


def _person() -> dict[str, str]:
    return {"email": "owner@bench.example", "password": PASSWORD, "name": "Owner"}


def run(folder: Path, changes: int) -> dict[str, list[float]]:
    """Start all services, measure, and stop them. Returns the samples of each column, in milliseconds."""
    services = Services(Plan(folder, gateways=2))
    try:
        services.start()
        return uvloop.run(measure(services, changes))
    finally:
        services.stop()
