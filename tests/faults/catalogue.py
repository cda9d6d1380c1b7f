"""The catalogue changes under load, while everything that takes part in a push is killed, frozen and started.

Events of old and new types flow. Whether one is valid depends on the revision at its offset, and on nothing else:
bounds are widened and narrowed, versions and types come and go. At the end, every event of the stream is judged once
more, by another validator and by the markers in the stream. What clients got and what was set aside must be that.
"""

import asyncio
import itertools
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig

from beaconfire.local_services import ServiceProcess
from beaconfire_kit import broker
from beaconfire_kit.catalogue_store import CatalogueStore
from beaconfire_kit.subjects import parse_subject
from tests.conftest import connected
from tests.faults.checker import Event, Verdict, check
from tests.faults.follower import Follower
from tests.faults.report import Section
from tests.faults.world import ROOT, World, world
from tests.kit.fragments import document
from tests.kit.pusher import Change, Pusher

EVENTS_A_SECOND = 200
WRITERS = 8
FROZEN_S = 2.5
PATIENCE_S = 90.0
MOVED, SCANNED, SENT = "parcel.moved", "parcel.scanned", "invoice.sent"
SETTINGS = {"BEACONFIRE_RING_AGE_S": "3"}
"""Some clients resume from a gateway's memory, and some from the stream."""


def logistics(bound: int, *, second: bool, scanned: bool) -> dict[str, Any]:
    """Return a fragment whose parcels weigh at most `bound`, with a second version and another type if asked for."""
    weight = {"type": "object", "required": ["weight"], "properties": {"weight": {"type": "integer", "maximum": bound}}}
    messages: dict[str, Any] = {MOVED: {"name": MOVED, "payload": weight}}
    if second:
        kilos = {"type": "object", "required": ["kilos"], "properties": {"kilos": {"type": "integer"}}}
        messages["moved2"] = {"name": MOVED, "payload": kilos, "x-beaconfire": {"version": 2}}
    if scanned:
        messages[SCANNED] = {"name": SCANNED, "payload": {"type": "object"}}
    return document("logistics", parcels={"address": "campaign.{campaignId}.parcel.{parcelId}", "messages": messages})


def billing(bound: int) -> dict[str, Any]:
    """Return a fragment whose invoices are of at most `bound`."""
    amount = {"type": "object", "required": ["amount"], "properties": {"amount": {"type": "integer", "maximum": bound}}}
    address = "campaign.{campaignId}.invoice.{invoiceId}"
    return document("billing", invoices={"address": address, "messages": {SENT: {"name": SENT, "payload": amount}}})


@dataclass(slots=True)
class Wanted:
    """What the two fragments say now, read from their documents."""

    bound: int = 10
    second: bool = False
    scanned: bool = False
    amount: int | None = 10
    """None if there is no fragment of invoices."""

    @classmethod
    def read(cls, documents: Mapping[str, Mapping[str, Any]]) -> "Wanted":
        messages = documents["logistics"]["channels"]["parcels"]["messages"]
        bill = documents.get("billing")
        amount = bill["channels"]["invoices"]["messages"][SENT]["payload"]["properties"]["amount"] if bill else None
        return cls(
            messages[MOVED]["payload"]["properties"]["weight"]["maximum"],
            "moved2" in messages,
            SCANNED in messages,
            amount["maximum"] if amount else None,
        )

    @property
    def logistics(self) -> dict[str, Any]:
        return logistics(self.bound, second=self.second, scanned=self.scanned)

    @property
    def billing(self) -> dict[str, Any]:
        return billing(self.amount or 10)


def change_of(number: int, now: Wanted, revision: int) -> Change:
    """Return the change number `number`: additions, wider bounds, new versions, removals, rollbacks, in turn."""
    wanted = Wanted(now.bound, now.second, now.scanned, now.amount)
    match number % 8:
        case 1:
            wanted.second = not now.second
        case 2:
            wanted.scanned = not now.scanned
        case 3:
            return {"rollback": revision - 1}
        case 4 if now.amount is not None:
            return {"remove": ["billing"]}
        case 4 | 5:
            return {"push": [billing((now.amount or 0) + 10)]}
        case 6:
            wanted.bound += 10
            return {"push": [wanted.logistics, billing((now.amount or 0) + 10)]}
        case _:
            wanted.bound += 10
    removes = (now.second and not wanted.second) or (now.scanned and not wanted.scanned)
    return {"push": [wanted.logistics], "allowRemovals": removes}


class Load:
    """Publishes events of all types, valid ones and others, and remembers what was acknowledged."""

    def __init__(self, nc: Client) -> None:
        self._nc = nc
        self._random = random.Random(14)
        self._numbers = itertools.count()
        self.bound = 10
        """About what is valid now, so that events are on both sides of it."""
        self.acknowledged: dict[int, str] = {}
        self.acknowledged_at: dict[int, float] = {}

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Publish while the block runs. At its end, what is under way is acknowledged."""
        stop = asyncio.Event()
        tasks = [asyncio.create_task(self._write(stop)) for _ in range(WRITERS)]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*tasks)

    async def written(self, count: int) -> None:
        """Wait until `count` more events are acknowledged."""
        wanted = len(self.acknowledged) + count
        while len(self.acknowledged) < wanted:
            await asyncio.sleep(0.005)

    async def publish_valid(self) -> int:
        """Publish an event that is valid in every revision. Returns its offset."""
        return await self._publish("campaign.c1.parcel.last", MOVED, 1, {"weight": 1})

    async def _write(self, stop: asyncio.Event) -> None:
        due = time.monotonic()
        while not stop.is_set():
            due = max(due + WRITERS / EVENTS_A_SECOND, time.monotonic() - 1)
            number = next(self._numbers) % 5
            kind, version, payload = self._random.choice(
                [
                    (MOVED, 1, {"weight": self._random.randrange(self.bound + 15)}),
                    (MOVED, 2, {"kilos": 1}),
                    (SCANNED, 1, {}),
                    (SENT, 1, {"amount": self._random.randrange(self.bound + 15)}),
                ]
            )
            thing = "invoice.i" if kind == SENT else "parcel.p"
            await self._publish(f"campaign.c1.{thing}{number}", kind, version, payload)
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _publish(self, subject: str, type_: str, version: int, payload: Mapping[str, Any]) -> int:
        event_id = f"load-{next(self._numbers)}"
        metadata = {"timestamp": datetime.now(UTC).isoformat(), "source": "load"}
        body = {"id": event_id, "type": type_, "version": version, "payload": payload, "metadata": metadata}
        offset = await broker.publish(
            self._nc, subject, json.dumps(body).encode(), message_id=event_id, attempt_timeout_s=0.5
        )
        self.acknowledged[offset] = event_id
        self.acknowledged_at[offset] = time.monotonic()
        return offset


@dataclass(slots=True)
class Outcome:
    """What came of it."""

    pushes: int
    revisions: int
    steps: int
    """The requests of a push. A fault happens before one of them."""
    at_steps: Mapping[str, int]
    """How often each fault happened during a push."""
    events: int
    took_s: float
    valid: int
    invalid: int
    otherwise_now: int
    """Events that the newest revision would judge otherwise than the one at their offset."""
    set_aside: int
    wrongly_set_aside: list[int]
    """Offsets of valid events among the dead letters."""
    verdicts: Mapping[str, Verdict]
    """Of the clients that were there all the time, those that resumed from before, and one for each gateway."""
    heads: Mapping[str, int]
    """The revision that each gateway has at the end, and the broker."""
    latest_s: float
    """The longest time from an event's acknowledgement to a client that was connected all the time."""
    spoiled: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        clients = all(verdict.is_clean and not verdict.told for verdict in self.verdicts.values())
        return clients and not self.wrongly_set_aside and len(set(self.heads.values())) == 1 and not self.spoiled

    @property
    def figures(self) -> dict[str, str]:
        """What happened, in words and figures."""
        bad = {name: str(one) for name, one in self.verdicts.items() if not one.is_clean or one.told}
        return {
            "changes, with a fault at one step of each": f"{self.pushes}",
            "revisions": f"{self.revisions}",
            "requests of a push to the broker, before which the faults happen": f"{self.steps}",
            "faults in the middle of a push": ", ".join(f"{name} {count} x" for name, count in self.at_steps.items()),
            "events": f"{self.events:,} in {self.took_s:.0f} s, {self.events / self.took_s:.0f} a second",
            "of them valid by the revision at their offset": f"{self.valid:,}",
            "of them not valid by it": f"{self.invalid:,}",
            "judged otherwise by the newest revision": f"{self.otherwise_now:,}",
            "set aside": f"{self.set_aside:,}",
            "set aside wrongly": f"{len(self.wrongly_set_aside)} {self.wrongly_set_aside[:5] or ''}".strip(),
            "clients, and those of them with a wrong event": f"{len(self.verdicts)}, {len(bad)} {bad or ''}".strip(),
            "revisions at the end": ", ".join(f"{name} {number}" for name, number in self.heads.items()),
            "latest delivery to a connected client": f"{self.latest_s:.1f} s",
            **({"spoiled": "; ".join(self.spoiled[:5])} if self.spoiled else {}),
        }

    def __str__(self) -> str:
        return "\n".join(f"{name}: {figure}" for name, figure in self.figures.items())

    def section(self) -> Section:
        """The table of the report."""
        title = "The catalogue changes while events flow, and gateways, broker and pushers are killed and frozen"
        return Section(title, ["", "figure"], [list(row) for row in self.figures.items()])


class Fault:
    """Hurts something while a pusher stands still before one of its requests, and lets it go on."""

    def __init__(self, one: World, load: Load) -> None:
        self._one = one
        self._load = load
        self._turn = itertools.cycle(one.gateways)

    def by_name(self) -> Mapping[str, Callable[[Pusher], Awaitable[None]]]:
        return {
            "pusher killed": self._pusher_killed,
            "pusher frozen": self._pusher_frozen,
            "gateway killed": self._gateway_killed,
            "gateway frozen": self._gateway_frozen,
            "gateway started": self._gateway_started,
            "broker killed": self._broker_killed,
            "broker frozen": self._broker_frozen,
        }

    async def _pusher_killed(self, pusher: Pusher) -> None:
        pusher.process.kill()
        await pusher.end()

    async def _pusher_frozen(self, pusher: Pusher) -> None:
        async with connected(self._one.nats, "catalogue") as nc:
            await CatalogueStore(nc).push([document("audit", f"{time.monotonic()}")], by="another")
        await self._load.written(20)
        pusher.process.thaw()

    async def _gateway_killed(self, pusher: Pusher) -> None:
        gateway = next(self._turn)
        gateway.kill()
        pusher.process.thaw()
        await pusher.end()
        await self._load.written(20)
        await asyncio.to_thread(gateway.start)

    async def _gateway_frozen(self, pusher: Pusher) -> None:
        gateway = next(self._turn)
        gateway.process.freeze()
        pusher.process.thaw()
        await pusher.end()
        await self._load.written(60)
        gateway.process.thaw()

    async def _gateway_started(self, pusher: Pusher) -> None:
        gateway = next(self._turn)
        gateway.kill()
        await self._load.written(20)
        starting = asyncio.create_task(asyncio.to_thread(gateway.start))
        await asyncio.sleep(random.random() / 2)  # somewhere in its start
        pusher.process.thaw()
        await starting

    async def _broker_killed(self, pusher: Pusher) -> None:
        self._one.nats.kill()
        pusher.process.thaw()
        await asyncio.to_thread(self._one.nats.start)

    async def _broker_frozen(self, pusher: Pusher) -> None:
        self._one.nats.freeze()
        pusher.process.thaw()
        await asyncio.sleep(FROZEN_S)  # the fault itself
        self._one.nats.thaw()


def schedule(faults: Sequence[str], steps: int, pushes: int) -> Iterator[tuple[str, int]]:
    """Yield a fault and a step for each push: every pair once before one comes again."""
    pairs = [(name, step) for name in faults for step in range(1, steps + 1)]
    random.Random(7).shuffle(pairs)
    return itertools.islice(itertools.cycle(pairs), pushes)


async def run(folder: Path, *, pushes: int, followers: int, sabotage: str = "") -> Outcome:
    """Change the catalogue so many times under load, with a fault in each, and judge everything afterwards.

    `sabotage` names a part of the gateway that is switched off (`tests/faults/sabotage.py`).
    """
    async with (
        world(folder, sabotage=sabotage, settings=SETTINGS) as one,
        connected(one.nats, "publisher") as publishing,
        connected(one.nats, "catalogue") as reading,
    ):
        store = CatalogueStore(reading)
        await store.push([Wanted().logistics, Wanted().billing], by="test")
        await store.push([Wanted(bound=20).logistics], by="test")
        load = Load(publishing)
        for number in range(followers):
            one.follow(f"f{number}", ROOT)
        await one.everybody_is_there()
        first = await load.publish_valid()
        visitors = Visitors(one, load, epoch=one.followers[0].acks[0]["cursor"].rpartition(":")[0], first=first)
        happened: dict[str, int] = {}
        began = time.monotonic()
        async with load.flowing():
            counted = await Pusher(one.nats, folder / "counted.log", {"push": [document("audit", "counted")]}).outcome()
            faults = Fault(one, load).by_name()
            for number, (name, step) in enumerate(schedule(list(faults), counted["requests"], pushes)):
                await load.written(EVENTS_A_SECOND // 10)
                if await changed(store, one, load, number, faults[name], step, folder / f"push-{number}.log"):
                    happened[name] = happened.get(name, 0) + 1
                if number % 5 == 2:
                    await visitors.come()
        took_s = time.monotonic() - began
        last = await load.publish_valid()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(follower.reach(last) for follower in one.followers))
        await visitors.come_to_each()
        return await judged(one, store, load, visitors, happened, pushes, last, took_s, counted["requests"])


async def changed(
    store: CatalogueStore,
    one: World,
    load: Load,
    number: int,
    fault: Callable[[Pusher], Awaitable[None]],
    step: int,
    log: Path,
) -> bool:
    """Change the catalogue once, with a fault before request `step`. Returns whether the push came that far."""
    change, load.bound = await next_change(store, number)
    pusher = Pusher(one.nats, log, change, "stop", str(step))
    others = [asyncio.create_task(also_push(one, number))] if number % 4 == 1 else []
    is_there = await pusher.until_frozen()
    if is_there:
        await fault(pusher)
    await pusher.end()
    await asyncio.gather(*others)
    if pusher.process.exit_code != 0:  # it was killed, or another push made its change impossible: once more
        change, load.bound = await next_change(store, number)
        await Pusher(one.nats, log.with_suffix(".again"), change).end()
    return is_there


async def next_change(store: CatalogueStore, number: int) -> tuple[Change, int]:
    """Return the change to make now, and what parcels may weigh."""
    async with asyncio.timeout(PATIENCE_S):
        head = await store.head()
        documents = {name: one.document for name, one in (await store.fragments(head.fragments)).items()}
    now = Wanted.read(documents)
    return change_of(number, now, head.revision or 0), now.bound


async def also_push(one: World, number: int) -> None:
    """Push another fragment at the same time."""
    async with connected(one.nats, "catalogue") as nc, asyncio.timeout(PATIENCE_S):
        await CatalogueStore(nc).push([document("notes", f"at the same time as {number}")], by="another")


class Visitors:
    """Clients that resume from an early cursor, get all of it, and leave."""

    def __init__(self, one: World, load: Load, *, epoch: str, first: int) -> None:
        self._one = one
        self._load = load
        self._epoch = epoch
        self._first = first
        self.gone: dict[str, tuple[Follower, int]] = {}
        """Every visitor, and the offset up to which it stayed."""

    async def come(self) -> None:
        """One more visitor comes to any gateway, from the first event or from a while ago."""
        upto = max(self._load.acknowledged)
        since = self._first if len(self.gone) % 2 else max(self._first, upto - 1_000)
        await self._visit(f"visitor {len(self.gone)}", [gateway.url for gateway in self._one.gateways], since)

    async def come_to_each(self) -> None:
        """One visitor comes to each gateway, from the first event."""
        for gateway in self._one.gateways:
            await self._visit(gateway.name, [gateway.url], self._first)

    async def _visit(self, name: str, urls: Sequence[str], since: int) -> None:
        user = f"v{len(self.gone)}"
        self._one.auth.members[user] = {ROOT: "viewer"}
        cursor = f"{self._epoch}:{since}"
        follower = Follower(name, urls, self._one.auth.token(user, ttl_s=3600), (ROOT,), since=cursor)
        task = asyncio.create_task(follower.run())
        upto = await self._load.publish_valid()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await follower.reach(upto)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self.gone[name] = follower, upto


async def judged(
    one: World,
    store: CatalogueStore,
    load: Load,
    visitors: Visitors,
    happened: Mapping[str, int],
    pushes: int,
    last: int,
    took_s: float,
    steps: int,
) -> Outcome:
    """Judge every event by the stream alone, and compare with what clients got and with the dead letters."""
    stream = await read_stream(one, last)
    markers = await store.markers()
    rules = [(marker.offset, rules_of(await documents_of(store, marker.fragments))) for marker in markers]
    valid = {offset: event for offset, (event, body) in stream.items() if is_valid(rules, offset, body)}
    spoiled = [f"acknowledged and not in the stream: {offset}" for offset in load.acknowledged.keys() - stream.keys()]
    letters = await read_dead_letters(one)
    rooms = frozenset({ROOT})
    verdicts = {
        follower.name: check(
            follower.applied, valid, rooms=rooms, after=follower.started_at or 0, upto=last, reloads=follower.reloads
        )
        for follower in one.followers
    } | {
        name: check(
            follower.applied,
            valid,
            rooms=rooms,
            after=follower.started_at or 0,
            upto=upto,
            reloads=follower.reloads,
        )
        for name, (follower, upto) in visitors.gone.items()
    }
    latest = [
        follower.applied_at[offset] - at
        for follower in one.followers
        for offset, at in load.acknowledged_at.items()
        if offset in follower.applied_at
    ]
    heads = {gateway.name: await until_revision(one, gateway, markers[-1].revision) for gateway in one.gateways}
    return Outcome(
        pushes=pushes,
        revisions=len(markers),
        steps=steps,
        at_steps=happened,
        events=len(load.acknowledged),
        took_s=took_s,
        valid=len(valid),
        invalid=len(stream) - len(valid),
        otherwise_now=sum(
            is_valid(rules[-1:], offset, body) != (offset in valid) for offset, (_, body) in stream.items()
        ),
        set_aside=len(letters),
        wrongly_set_aside=sorted(letters & valid.keys()),
        verdicts=verdicts,
        heads={**heads, "broker": (await store.head()).revision or 0},
        latest_s=max(latest),
        spoiled=spoiled,
    )


async def until_revision(one: World, gateway: ServiceProcess, wanted: int) -> int:
    """Return the revision that a gateway has, as soon as it is the wanted one, or at the end of our patience."""
    until = time.monotonic() + 10
    while (found := await one.metric(gateway, "beaconfire_gateway_catalogue_revision")) != wanted:
        if time.monotonic() > until:
            break
        await asyncio.sleep(0.1)
    return found


async def documents_of(store: CatalogueStore, digests: Mapping[str, str]) -> list[Mapping[str, Any]]:
    return [await store.document(digest) for digest in digests.values()]


Rules = Mapping[tuple[str, int], jsonschema.Draft7Validator]


def rules_of(documents: Sequence[Mapping[str, Any]]) -> Rules:
    """Return a validator for each type and version, read from the documents without any code of ours."""
    return {
        (message["name"], message.get("x-beaconfire", {}).get("version", 1)): jsonschema.Draft7Validator(
            message["payload"]
        )
        for one in documents
        for channel in one["channels"].values()
        for message in channel["messages"].values()
    }


def is_valid(rules: Sequence[tuple[int, Rules]], offset: int, body: Mapping[str, Any]) -> bool:
    """Judge an event by the last marker before it."""
    current = next(found for at, found in reversed(rules) if at < offset or at == rules[0][0])
    validator = current.get((body["type"], body["version"]))
    return validator is not None and validator.is_valid(body["payload"])


async def read_stream(one: World, last: int) -> dict[int, tuple[Event, Mapping[str, Any]]]:
    """Read every event of the load, by a means that no gateway uses."""
    found: dict[int, tuple[Event, Mapping[str, Any]]] = {}
    async with connected(one.nats, "setup") as nc:
        reading = await nc.jetstream().pull_subscribe(
            "campaign.>", stream=broker.STREAM, config=ConsumerConfig(ack_policy=AckPolicy.NONE)
        )
        while not found or max(found) < last:
            waiting = (await reading.consumer_info()).num_pending or 1
            for message in await reading.fetch(min(waiting, 500), timeout=10):
                body = json.loads(message.data)
                rooms = frozenset(str(room) for room in parse_subject(message.subject).rooms)
                found[message.metadata.sequence.stream] = Event(body["id"], rooms), body
    return found


async def read_dead_letters(one: World) -> set[int]:
    """Return the offsets of the messages that gateways set aside."""
    found: set[int] = set()
    async with connected(one.nats, "setup") as nc:
        reading = await nc.jetstream().pull_subscribe(
            "deadletter.>", stream=broker.DEADLETTERS, config=ConsumerConfig(ack_policy=AckPolicy.NONE)
        )
        while waiting := (await reading.consumer_info()).num_pending:
            for message in await reading.fetch(min(waiting, 500), timeout=10):
                found.add(int((message.headers or {})["Beaconfire-Offset"]))
    return found
