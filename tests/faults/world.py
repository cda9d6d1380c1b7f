"""The part of the line that delivers, as processes that can be hurt: broker, gateways, writers, followers."""

import asyncio
import itertools
import json
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig

from beaconfire.local_services import ServiceProcess
from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.events.campaign import SettlementUpdated
from beaconfire_kit.stream_setup import declare_stream
from beaconfire_kit.subjects import parse_subject
from tests.conftest import Broker, connected
from tests.fakes import FakeAuth
from tests.faults.checker import Event, Verdict, check
from tests.faults.follower import Follower
from tests.faults.listener import Listener
from tests.proxy import Proxy

ROOT = "campaign:c1"
ELSEWHERE = "campaign:c2"


class Nats(Broker, Protocol):
    """A broker that faults can freeze and thaw."""

    def thaw(self) -> None: ...


class World:
    """The processes and followers that faults act on."""

    def __init__(
        self,
        nats: NatsServer,
        gateways: list[ServiceProcess],
        routes: list[Proxy],
        auth: FakeAuth,
        publishers: Sequence[Client],
        *,
        whole: Nats | None = None,
    ) -> None:
        self.folder = nats.folder.parent
        self.nats = nats
        self._whole = whole or nats
        """All servers, where there are several."""
        self.gateways = gateways
        self.routes = routes
        """The proxies between each gateway and the broker."""
        self.auth = auth
        self.followers: list[Follower] = []
        self.listeners: list[Listener] = []
        """Clients of other protocols than ours. Their own modules run them."""
        self.acknowledged: dict[int, str] = {}
        self.acknowledged_at: dict[int, float] = {}
        """When, on the monotonic clock, the publisher had the acknowledgement of each offset."""
        self.caught_up_s: list[float] = []
        """After each return of the broker: the time until every follower had all events written up to then."""
        self._of_room: dict[str, list[int]] = {}
        self._ids: dict[str, str] = {}
        self._publishers = publishers
        self._numbers = itertools.count()
        self._written = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []

    def follow(self, name: str, *rooms: str, **habits: Any) -> Follower:
        """Add a follower of rooms of the campaign, from now on."""
        self.auth.members[name] = {ROOT: "viewer"}
        urls = [gateway.url for gateway in self.gateways]
        follower = Follower(name, urls, self.auth.token(name, ttl_s=3600), rooms or (ROOT,), newer=self.newer, **habits)
        self.followers.append(follower)
        self._tasks.append(asyncio.create_task(follower.run(), name=name))
        return follower

    def listen(self, listener: Listener) -> None:
        """Add a client of another protocol, which may follow rooms of the campaign."""
        self.auth.members[listener.name] = {ROOT: "viewer"}
        self.listeners.append(listener)

    @property
    def everybody(self) -> Sequence[Follower | Listener]:
        """All clients."""
        return [*self.followers, *self.listeners]

    async def everybody_is_there(self) -> None:
        """Wait until all followers are connected for the first time."""
        async with asyncio.timeout(30):
            while any(one.started_at is None for one in self.everybody):
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def writing(self, *, writers: int = 4, pause_s: float = 0.01, size: int = 0) -> AsyncIterator[None]:
        """Events keep being published while the block runs; at its end, those under way are acknowledged."""
        stop = asyncio.Event()
        through = itertools.cycle(self._publishers)
        tasks = [asyncio.create_task(self._write(stop, pause_s, size, next(through))) for _ in range(writers)]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*tasks)

    async def written(self, count: int) -> None:
        """Wait until `count` more events are acknowledged."""
        wanted = len(self.acknowledged) + count
        while len(self.acknowledged) < wanted:
            self._written.clear()
            await self._written.wait()

    async def publish(
        self, campaign: str = "c1", *, settlement: str | None = None, size: int = 0, through: Client | None = None
    ) -> int:
        """Publish one event until it is acknowledged. Returns its offset."""
        number = next(self._numbers)
        event = SettlementUpdated(
            campaign_id=campaign,
            settlement_id=settlement or f"s{number % 5}",
            operation="update",
            changed_fields=(f"n{number}", "x" * size),
        )
        one = Envelope(event, Metadata(source="load"))
        self._ids[f"n{number}"] = one.id
        nc = through or self._publishers[0]
        offset = await broker.publish(nc, one.subject, one.encode(), message_id=one.id, attempt_timeout_s=0.5)
        self.acknowledged[offset] = one.id
        self.acknowledged_at[offset] = time.monotonic()
        for room in parse_subject(one.subject).rooms:
            self._of_room.setdefault(str(room), []).append(offset)
        self._written.set()
        return offset

    def id_of(self, payload: Mapping[str, Any]) -> str:
        """The id of the event with this payload."""
        return self._ids[payload["changedFields"][0]]

    def newer(self, rooms: frozenset[str], after: int) -> list[int]:
        """The offsets above `after` that are acknowledged and for these rooms."""
        offsets = {offset for room in rooms for offset in self._of_room.get(room, ()) if offset > after}
        return sorted(offsets)

    async def figure(self, name: str) -> int:
        """A metric, over all gateways."""
        return sum([await self.metric(gateway, name) for gateway in self.gateways])

    async def metric(self, service: ServiceProcess, name: str) -> int:
        """A figure of one process; 0 where it was never counted."""
        async with aiohttp.ClientSession() as http, http.get(f"{service.ops_url}/metrics") as answer:
            found = re.search(rf"^{re.escape(name)} (\S+)$", await answer.text(), re.MULTILINE)
        return int(float(found[1])) if found else 0

    async def catch_up(self) -> None:
        """Wait until every follower has an event that is written from now on. The broker has just come back."""
        began = time.monotonic()
        offset = await self.publish(settlement="s1")  # one that all clients hear
        await asyncio.gather(*(one.reach(offset) for one in self.everybody))
        self.caught_up_s.append(time.monotonic() - began)

    async def heard_again(self) -> None:
        """Publish until a follower is reached: the gateways hear again."""
        before = {follower: len(follower.applied) for follower in self.followers}
        while all(len(follower.applied) == count for follower, count in before.items()):
            await self.publish()
            await asyncio.sleep(0.05)

    async def settle(self, timeout_s: float = 60.0) -> None:
        """Wait until every follower has the last acknowledged event, or time is up. The verdict names the others."""
        last = max(self.acknowledged)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*(one.reach(last) for one in self.everybody))

    async def verdicts(self) -> Mapping[str, Verdict]:
        """Judge every follower by the stream. Every acknowledged event must be in it."""
        stream = await self.read_stream()
        lost = {offset for offset, event_id in self.acknowledged.items() if stream.get(offset, _NOTHING).id != event_id}
        assert not lost, f"acknowledged, and not in the stream: {sorted(lost)[:5]}"
        last = max(self.acknowledged)
        return {
            one.name: check(
                one.applied,
                stream,
                rooms=one.rooms,
                after=one.started_at or 0,
                upto=last,
                reloads=one.reloads,
            )
            for one in self.everybody
        }

    async def stop(self) -> None:
        """Disconnect all followers, and the broker too, so that no task of ours waits for a frozen one."""
        self._whole.thaw()
        await self.dismiss()

    async def dismiss(self) -> None:
        """Let all followers go; others may come."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks, self.followers = [], []

    async def _write(self, stop: asyncio.Event, pause_s: float, size: int, through: Client) -> None:
        while not stop.is_set():
            number = next(self._numbers)
            await self.publish("c2" if number % 7 == 0 else "c1", size=size, through=through)
            await asyncio.sleep(pause_s)

    async def read_stream(self) -> dict[int, Event]:
        """All events of the stream, up to the last one that was acknowledged."""
        return await events_of(self._whole, max(self.acknowledged))


async def events_of(server: Broker, upto: int) -> dict[int, Event]:
    """All events of the stream, by offset, read by a means the gateway does not use. Repeats until it succeeds."""
    while True:
        try:
            return await _read_once(server, upto)
        except (nats.errors.Error, nats.js.errors.Error):
            await asyncio.sleep(0.2)


async def _read_once(server: Broker, upto: int) -> dict[int, Event]:
    stream: dict[int, Event] = {}
    async with connected(server, "setup") as nc:
        reading = await nc.jetstream().pull_subscribe(
            "campaign.>", stream=broker.STREAM, config=ConsumerConfig(ack_policy=AckPolicy.NONE)
        )
        while not stream or max(stream) < upto:
            # Waits for as many as it asks for: no more than there are.
            waiting = (await reading.consumer_info()).num_pending or 1
            for message in await reading.fetch(min(waiting, 500), timeout=10):
                rooms = frozenset(str(room) for room in parse_subject(message.subject).rooms)
                stream[message.metadata.sequence.stream] = Event(json.loads(message.data)["id"], rooms)
    return stream


@asynccontextmanager
async def world(
    folder: Path, *, gateways: int = 2, sabotage: str = "", settings: Mapping[str, str] | None = None
) -> AsyncIterator[World]:
    """Start it; everything is ended at the end of the block, whatever was done to it.

    `sabotage` names a part of the gateway that is switched off (`tests/faults/sabotage.py`).
    """
    nats = NatsServer(folder / "nats")
    processes: list[ServiceProcess] = []
    try:
        await asyncio.to_thread(nats.start)
        async with AsyncExitStack() as stack:
            setup = await stack.enter_async_context(connected(nats, "setup"))
            await declare_stream(setup)
            auth = await stack.enter_async_context(FakeAuth().running(nats))
            nc = await stack.enter_async_context(connected(nats, "publisher"))
            routes = [await stack.enter_async_context(Proxy(nats.port).running()) for _ in range(gateways)]
            for number, route in enumerate(routes, 1):
                environment = {
                    **nats.environment("gateway"),
                    "BEACONFIRE_NATS_URL": f"nats://127.0.0.1:{route.port}",
                    "BEACONFIRE_JWKS_URL": auth.jwks_url,
                    "BEACONFIRE_STOP_TIMEOUT_S": "3",
                    "SABOTAGE": sabotage,
                    **(settings or {}),
                }
                module = "tests.faults.sabotage" if sabotage else "beaconfire_gateway"
                if sabotage:
                    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
                processes.append(ServiceProcess(f"gateway-{number}", module, environment, folder=folder / "logs"))
                processes[-1].start(wait=False)
            for process in processes:
                await asyncio.to_thread(process.wait_ready)
            one = World(nats, processes, routes, auth, [nc])
            stack.push_async_callback(one.stop)
            yield one
    finally:
        for process in processes:
            process.process.thaw()
            process.kill()
        nats.thaw()
        nats.stop()


_NOTHING = Event("", frozenset())
