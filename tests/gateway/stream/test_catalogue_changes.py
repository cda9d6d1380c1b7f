"""The catalogue changes under running gateways: each event keeps the verdict of the revision at its own offset."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.stream.catalogue_revisions import CatalogueRevisions
from beaconfire_gateway.stream.replay import Reader
from beaconfire_kit import broker
from beaconfire_kit.catalogue import builtin
from beaconfire_kit.catalogue.timeline import Timeline
from beaconfire_kit.catalogue_store import CatalogueStore, Head, digest_of
from beaconfire_kit.seams.nats_direct import DirectClient
from beaconfire_kit.serving import listening
from beaconfire_kit.stream_setup import declare_stream
from tests.broker_changes import call_api
from tests.client import SocketClient, open_socket
from tests.conftest import broker_settings, connected
from tests.fakes import FakeAuth
from tests.gateway.catalogues import siege
from tests.gateway.conftest import Gateway, built, running_gateway
from tests.gateway.events import BODY
from tests.gateway.processes import gateway_process
from tests.gateway.streams import cursor_now, dead_letters, push_out, restore
from tests.gateway.workers import running_workers
from tests.kit.pusher import Pusher
from tests.proxy import Proxy

ROOM = "campaign:c1"
SIEGE = "campaign.c1.siege.x1"
PATIENCE_S = 20.0


def siege_body(force: int = 1, version: int = 1) -> bytes:
    return json.dumps({**BODY, "type": "siege.begun", "version": version, "payload": {"force": force}}).encode()


@dataclass
class Realm:
    """Changes the catalogue as its user, and publishes events of a type that our own classes do not have."""

    server: NatsServer

    async def push(self, *documents: dict[str, Any]) -> int:
        """Push fragments; returns the marker's offset."""
        async with connected(self.server, "catalogue") as nc:
            return (await CatalogueStore(nc).push(documents, by="test")).offset

    async def remove(self, name: str = "sieges") -> int:
        async with connected(self.server, "catalogue") as nc:
            return (await CatalogueStore(nc).remove([name], by="test")).offset

    async def roll_back(self, revision: int) -> int:
        async with connected(self.server, "catalogue") as nc:
            return (await CatalogueStore(nc).rollback(revision, by="test")).offset

    async def besiege(self, force: int = 1, version: int = 1) -> int:
        """Publish an event of the fragment `sieges`; returns its offset."""
        async with connected(self.server, "publisher") as nc:
            return (await nc.jetstream().publish(SIEGE, siege_body(force, version))).seq

    async def mark(self, number: int, *documents: dict[str, Any]) -> int:
        """Publish a marker for fragments whose documents are not in the bucket."""
        async with connected(self.server, "catalogue") as nc:
            store = CatalogueStore(nc)
            head = await store.head()
            fragments = {one["x-beaconfire"]["fragment"]: digest_of(one) for one in documents}
            marker = {
                "revision": number,
                "previous": head.revision,
                "fragments": {**head.fragments, **fragments},
            }
            return await broker.publish(nc, broker.CATALOGUE, json.dumps(marker).encode(), message_id=f"m{number}")

    async def write(self, document: dict[str, Any]) -> None:
        """Write a document into the bucket."""
        async with connected(self.server, "catalogue") as nc:
            body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
            subject = f"$KV.CATALOGUE.fragment.{digest_of(document)}"
            await broker.publish(nc, subject, body, message_id=digest_of(document))


@pytest.fixture(name="realm")
def _realm(stream: NatsServer) -> Realm:
    return Realm(stream)


@asynccontextmanager
async def listener(gateway: Gateway, cursor: str | None = None) -> AsyncIterator[SocketClient]:
    """A client in the campaign's room."""
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), [ROOM], **({"cursor": cursor} if cursor else {}))
        yield client


async def heard_up_to(client: SocketClient, last: int) -> list[int]:
    """The offsets of the events that a client hears, up to `last`."""
    offsets: list[int] = []
    while last not in offsets:
        offsets.append((await client.next("event"))["offset"])
    return offsets


async def readiness(url: str) -> str:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/readyz") as answer:
        return await answer.text()


async def until_not_ready(url: str, why: str) -> None:
    """Wait until a gateway is not ready for this reason."""
    async with asyncio.timeout(PATIENCE_S):
        while why not in await readiness(url):
            await asyncio.sleep(0.02)


async def until_ready(url: str) -> None:
    async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession() as http:
        while True:
            async with http.get(f"{url}/readyz") as answer:
                if answer.status == 200:
                    return
            await asyncio.sleep(0.02)


async def test_event_right_behind_its_types_marker_reaches_clients_of_all_gateways(
    stream: NatsServer, auth: FakeAuth, realm: Realm
) -> None:
    async with (
        running_gateway(stream, auth) as one,
        running_gateway(stream, auth) as two,
        listener(one) as first,
        listener(two) as second,
    ):
        await realm.push(siege())
        offset = await realm.besiege()
        heard = [await heard_up_to(client, offset) for client in (first, second)]
        figures = [await gateway.metrics() for gateway in (one, two)]

    assert heard == [[offset], [offset]]
    assert all("beaconfire_gateway_catalogue_revision 2.0" in text for text in figures)


async def test_event_keeps_the_verdict_of_its_own_offset_wherever_it_is_read(
    stream: NatsServer, auth: FakeAuth, realm: Realm
) -> None:
    """Live, unheard, restored, resumed from memory and from the stream, and in a gateway that starts later."""
    async with (
        running_gateway(stream, auth) as busy,
        running_gateway(stream, auth) as idle,
        running_gateway(stream, auth, ring_bytes=1_048_576) as forgetful,
        listener(busy) as live,
    ):
        cursor = await cursor_now(busy)
        unknown = await realm.besiege()
        await realm.push(siege(at_most=10))
        small = await realm.besiege(force=5)
        too_large = await realm.besiege(force=15)
        await realm.push(siege(at_most=20))
        large = await realm.besiege(force=15)
        await realm.remove()
        removed = await realm.besiege(force=5)
        await realm.roll_back(2)
        again = await realm.besiege(force=5)
        larger = await realm.besiege(force=15)
        ends = await push_out(busy)
        valid = [small, large, again, *ends]
        heard = [await heard_up_to(live, ends[-1])]
        async with running_gateway(stream, auth) as late:
            for gateway in (busy, idle, forgetful, late):
                async with listener(gateway, cursor) as client:
                    heard.append(await heard_up_to(client, ends[-1]))
                async with open_socket(gateway.url) as client:
                    await client.connect(auth.token("viewer"))
                    heard.append((await restore(client, cursor, ROOM))[0])
        letters = await dead_letters(busy, 4)

    assert heard == [valid] * 9
    assert {int(letter.headers["Beaconfire-Offset"]): letter.subject for letter in letters} == {
        unknown: "deadletter.unknown_type",
        too_large: "deadletter.invalid",
        removed: "deadletter.unknown_type",
        larger: "deadletter.invalid",
    }


async def test_gateway_holds_at_a_marker_whose_revision_it_cannot_read_and_goes_on_by_itself(
    stream: NatsServer, auth: FakeAuth, realm: Realm
) -> None:
    document = siege()
    async with (
        running_gateway(stream, auth, ring_bytes=1_048_576) as gateway,
        running_gateway(stream, auth) as other,
        listener(gateway) as client,
    ):
        cursor = await cursor_now(gateway)
        before = (await push_out(gateway))[-1]
        await heard_up_to(client, before)
        await realm.mark(2, document)
        offset = await realm.besiege()
        for url in (gateway.url, other.url):
            await until_not_ready(url, "cannot read the catalogue")
        async with listener(gateway, cursor) as resumed:  # from the stream, which has the event behind the marker
            resumed_to = (await heard_up_to(resumed, before))[-1]
            starting = asyncio.create_task(_start(stream, auth))
            await realm.write(document)
            heard = [await heard_up_to(one, offset) for one in (client, resumed)]
        started_at = await starting
        for url in (gateway.url, other.url):
            await until_ready(url)

    assert (resumed_to, heard) == (before, [[offset], [offset]])
    assert started_at
    assert await _letters(stream) == 0


async def _start(stream: NatsServer, auth: FakeAuth) -> bool:
    async with running_gateway(stream, auth):
        return True


async def _letters(server: NatsServer) -> int:
    async with connected(server, "setup") as nc:
        info = await broker.call_api(nc, f"STREAM.INFO.{broker.DEADLETTERS}", {})
    assert info is not None
    return int(info["state"]["messages"])


@pytest.mark.parametrize("step", range(1, 11))
async def test_gateways_that_start_while_a_push_stands_still_judge_as_the_others(
    stream: NatsServer, auth: FakeAuth, realm: Realm, tmp_path: Path, step: int
) -> None:
    """The pusher is frozen before each of its requests: between its documents and its marker, and behind that."""
    async with running_gateway(stream, auth) as old, listener(old) as client:
        cursor = await cursor_now(old)
        pusher = Pusher(stream, tmp_path / "pusher.log", {"push": [siege()]}, "stop", str(step))
        await pusher.until_frozen()
        meanwhile = await realm.besiege()
        async with running_gateway(stream, auth) as new:
            pusher.process.thaw()
            marker = (await pusher.outcome())["offset"]
            last = await realm.besiege()
            async with listener(new, cursor) as other:
                heard = [await heard_up_to(one, last) for one in (client, other)]

    assert heard == [[meanwhile, last] if meanwhile > marker else [last]] * 2


async def test_gateway_that_was_frozen_over_pushes_judges_each_event_by_its_own_revision(
    stream: NatsServer, auth: FakeAuth, realm: Realm, tmp_path: Path
) -> None:
    async with gateway_process(tmp_path, stream, auth) as process, open_socket(process.url) as client:
        await client.connect(auth.token("viewer"), [ROOM])
        await asyncio.to_thread(process.process.freeze)
        await realm.besiege()
        await realm.push(siege(at_most=10))
        small = await realm.besiege(force=5)
        await realm.besiege(force=15)
        await realm.push(siege(at_most=20))
        large = await realm.besiege(force=15)
        process.process.thaw()
        heard = await heard_up_to(client, large)

    assert heard == [small, large]


async def test_gateway_that_was_cut_off_over_pushes_reads_the_markers_with_the_hole(
    stream: NatsServer, auth: FakeAuth, realm: Realm
) -> None:
    async with (
        Proxy(stream.port).running() as route,
        running_gateway(stream, auth, nats_url=f"nats://127.0.0.1:{route.port}") as gateway,
        listener(gateway) as client,
    ):
        with route.cut_off():
            await realm.besiege()
            await realm.push(siege(at_most=10))
            small = await realm.besiege(force=5)
            await realm.push(siege(at_most=20))
            large = await realm.besiege(force=15)
            await realm.remove()
            await realm.besiege()
        heard = await heard_up_to(client, large)
        letters = await dead_letters(gateway, 2)

    assert heard == [small, large]
    assert {letter.subject for letter in letters} == {"deadletter.unknown_type"}


async def test_committed_revision_counts_from_the_first_offset_once_its_marker_has_aged_out(
    stream: NatsServer, auth: FakeAuth, realm: Realm
) -> None:
    async with running_gateway(stream, auth) as old, listener(old) as client:
        marker = await realm.push(siege(at_most=20))
        cursor = await cursor_now(old)
        await call_api(stream, f"STREAM.PURGE.{broker.STREAM}", {"seq": marker + 1})
        first = await realm.besiege()
        async with running_gateway(stream, auth) as new, listener(new, cursor) as other:
            heard = [await heard_up_to(client, first), await heard_up_to(other, first)]
            await realm.besiege(force=30)
            await realm.push(siege())
            last = await realm.besiege(force=30)
            heard += [await heard_up_to(client, last), await heard_up_to(other, last)]

    assert heard == [[first], [first], [last], [last]]


async def test_marker_that_was_removed_before_a_gateway_heard_it_is_found_in_the_bucket(
    stream: NatsServer, auth: FakeAuth, realm: Realm
) -> None:
    async with (
        Proxy(stream.port).running() as route,
        running_gateway(stream, auth, nats_url=f"nats://127.0.0.1:{route.port}") as gateway,
        listener(gateway) as client,
    ):
        with route.cut_off():
            marker = await realm.push(siege())
            await call_api(stream, f"STREAM.PURGE.{broker.STREAM}", {"seq": marker + 1})
            offset = await realm.besiege()
        await client.next("resync")
        heard = await heard_up_to(client, offset)

    assert heard == [offset]


async def test_recreated_stream_is_judged_by_the_committed_revision_from_its_first_offset(
    stream: NatsServer, auth: FakeAuth, realm: Realm
) -> None:
    async with running_gateway(stream, auth) as gateway, listener(gateway) as client:
        await realm.push(siege())
        await realm.besiege()
        await call_api(stream, f"STREAM.DELETE.{broker.STREAM}")
        async with connected(stream, "setup") as nc:
            await declare_stream(nc)
        await client.next("resync")
        heard = await heard_up_to(client, await realm.besiege())
        async with running_gateway(stream, auth) as new, listener(new) as other:
            last = await realm.besiege()
            heard_later = [await heard_up_to(client, last), await heard_up_to(other, last)]

    assert len(heard) == 1
    assert heard_later == [[last], [last]]


async def test_renewed_epoch_keeps_the_revisions_of_a_stream_that_stays(
    stream: NatsServer, auth: FakeAuth, realm: Realm
) -> None:
    async with running_gateway(stream, auth) as gateway, listener(gateway) as client:
        await realm.push(siege())
        async with connected(stream, "setup") as nc:
            await broker.renew_epoch(nc)
        await client.next("resync")
        offset = await realm.besiege()
        async with running_gateway(stream, auth) as new, listener(new) as other:
            last = await realm.besiege()
            heard = [await heard_up_to(client, last), await heard_up_to(other, last)]

    assert heard == [[offset, last], [last]]


async def test_gateway_whose_bucket_is_lost_goes_on_and_one_that_starts_waits_for_a_restore(
    stream: NatsServer, auth: FakeAuth, realm: Realm
) -> None:
    async with running_gateway(stream, auth) as gateway, listener(gateway) as client:
        await realm.push(siege())
        await call_api(stream, "STREAM.DELETE.KV_CATALOGUE")
        offset = await realm.besiege()
        heard = await heard_up_to(client, offset)
        async with _not_ready(stream, auth) as url:
            await until_not_ready(url, "beaconfire setup")
            async with connected(stream, "setup") as nc:
                await CatalogueStore(nc).prepare()
            await until_not_ready(url, "beaconfire catalogue restore")
            async with connected(stream, "catalogue") as nc:
                await CatalogueStore(nc).restore([*builtin.documents().values(), siege()], by="test")
            await until_ready(url)

    assert heard == [offset]


async def test_gateway_without_a_catalogue_is_not_ready_until_setup_has_pushed_one(
    nats_server: NatsServer, auth_of_an_empty_broker: FakeAuth
) -> None:
    async with connected(nats_server, "setup") as nc:
        await declare_stream(nc, builtin=False)
    async with _not_ready(nats_server, auth_of_an_empty_broker) as url:
        await until_not_ready(url, "beaconfire setup")
        async with connected(nats_server, "setup") as nc:
            await declare_stream(nc)

        await until_ready(url)


@pytest.fixture(name="auth_of_an_empty_broker")
async def _auth_of_an_empty_broker(nats_server: NatsServer) -> AsyncIterator[FakeAuth]:
    auth = FakeAuth()
    async with auth.running(nats_server):
        yield auth


@asynccontextmanager
async def _not_ready(server: NatsServer, auth: FakeAuth) -> AsyncIterator[str]:
    """A gateway that need not become ready. Yields its address."""
    app, settings = built(server, auth)
    async with listening(app, settings, name="gateway") as at:
        yield at.url


async def test_events_older_than_the_first_catalogue_are_judged_by_it(
    nats_server: NatsServer, auth_of_an_empty_broker: FakeAuth
) -> None:
    """An upgraded deployment has a stream full of events and no catalogue yet."""
    realm = Realm(nats_server)
    auth_of_an_empty_broker.members = {"viewer": {ROOM: "viewer"}}
    async with connected(nats_server, "setup") as nc:
        epoch = await declare_stream(nc, builtin=False)
        old = await realm.besiege()
        await CatalogueStore(nc).push([*builtin.documents().values(), siege()], by="setup")
    async with (
        running_gateway(nats_server, auth_of_an_empty_broker) as gateway,
        listener(gateway, f"{epoch}:1") as client,
    ):
        heard = await heard_up_to(client, old)

    assert heard == [old]


async def test_type_is_subscribed_to_right_after_its_push_and_refused_after_its_removal(
    stream: NatsServer, auth: FakeAuth, realm: Realm
) -> None:
    async with (
        running_gateway(stream, auth) as gateway,
        open_socket(gateway.url) as client,
        open_socket(gateway.url) as late,
    ):
        await client.connect(auth.token("viewer"))
        await late.connect(auth.token("viewer"))
        before = await client.ask("subscribe", rooms=[ROOM], types=["siege.begun"])
        await realm.push(siege())
        after = await client.ask("subscribe", rooms=[ROOM], types=["siege.begun"])
        heard = [await heard_up_to(client, await realm.besiege())]
        await realm.remove()
        removed = await late.ask("subscribe", rooms=[ROOM], types=["siege.begun"])
        await realm.push(siege())
        heard.append(await heard_up_to(client, await realm.besiege()))

    assert before["error"]["code"] == "unknown_type"
    assert after["rooms"] == {ROOM: {"success": True}}
    assert removed["error"]["code"] == "unknown_type"
    assert [len(offsets) for offsets in heard] == [1, 1]


async def test_all_who_ask_for_the_newest_revision_share_a_read_that_begins_after_they_asked(
    stream: NatsServer, realm: Realm
) -> None:
    reads = 0

    class Counted(CatalogueStore):
        async def head(self) -> Head:
            nonlocal reads
            reads += 1
            return await super().head()

    client = DirectClient()
    await broker.connect(broker_settings(stream, "gateway"), "test", client=client, on_closed=lambda: None)
    revisions = CatalogueRevisions(client, Reader(client), Timeline(), lambda _task: None, Counted(client))
    async with asyncio.timeout(PATIENCE_S):
        before = await asyncio.gather(*(revisions.newest() for _ in range(100)))
        await realm.push(siege())
        after = await asyncio.gather(*(revisions.newest() for _ in range(100)))
    await broker.close(client)

    assert {catalogue.revision for catalogue in before} == {1}
    assert {catalogue.revision for catalogue in after} == {2}
    assert reads <= 4


async def test_revisions_that_begin_anew_replace_a_later_one_that_is_known(stream: NatsServer, realm: Realm) -> None:
    """The broker's storage was wiped, and set up again: what a session asks for is looked up in revision 1."""
    await realm.push(siege())
    client = DirectClient()
    await broker.connect(broker_settings(stream, "gateway"), "test", client=client, on_closed=lambda: None)
    revisions = CatalogueRevisions(client, Reader(client), Timeline(), lambda _task: None)
    async with asyncio.timeout(PATIENCE_S):
        before = await revisions.newest()
        for name in ("EVENTS", "KV_CATALOGUE"):
            await call_api(stream, f"STREAM.DELETE.{name}")
        async with connected(stream, "setup") as nc:
            epoch = await declare_stream(nc)
        end = await Reader(client).find_end()
        assert end is not None
        starts = await revisions.read(epoch, end)
        assert starts is not None
        revisions.begin(starts)
        after = await revisions.newest()
    await broker.close(client)

    assert (before.revision, "siege.begun" in before.types) == (2, True)
    assert (after.revision, "siege.begun" in after.types) == (1, False)


async def test_type_is_not_refused_as_unknown_while_the_newest_revision_cannot_be_read(
    stream: NatsServer, auth: FakeAuth
) -> None:
    async with running_gateway(stream, auth) as gateway, open_socket(gateway.url) as client:
        await client.connect(auth.token("viewer"), [ROOM])
        await call_api(stream, "STREAM.DELETE.KV_CATALOGUE")
        asked = [await client.send("subscribe", rooms=[ROOM], types=["siege.begun"]) for _ in range(3)]
        answers = [await client.next("reply") for _ in asked]

    assert [answer["error"]["code"] for answer in answers] == ["unavailable"] * 3


@pytest.mark.parametrize(
    "body",
    [
        b"garbage",
        b"[" * 50_000,
        b'{"revision":2,"previous":1,"fragments":{"sieges":["x"]}}',
        b'{"revision":2,"previous":1,"fragments":[[1,"x"]]}',
        b'{"revision":2,"previous":"1","fragments":{}}',
    ],
    ids=["garbage", "deep", "a-digest-that-is-a-list", "a-name-that-is-a-number", "a-previous-that-is-a-text"],
)
async def test_message_among_the_markers_that_is_none_is_passed_over(
    stream: NatsServer, realm: Realm, auth: FakeAuth, body: bytes
) -> None:
    """A gateway that runs and one that starts go on, and a push after it counts as ever."""
    async with running_gateway(stream, auth) as gateway, listener(gateway) as client:
        async with connected(stream, "catalogue") as nc:
            await broker.publish(nc, broker.CATALOGUE, body, message_id="none")
        await realm.push(siege())
        last = await realm.besiege()

        assert await heard_up_to(client, last) == [last]
        async with running_gateway(stream, auth) as later, listener(later) as other:
            last = await realm.besiege()
            assert await heard_up_to(other, last) == [last]


async def test_ephemeral_event_of_a_type_pushed_a_moment_ago_is_delivered(
    stream: NatsServer, auth: FakeAuth, realm: Realm
) -> None:
    async with running_gateway(stream, auth) as gateway, listener(gateway) as client:
        await gateway.publisher.publish(f"ephemeral.{SIEGE}", siege_body())  # of a type that nobody knows
        [letter] = await dead_letters(gateway, 1)
        await realm.push(siege(ephemeral=True))
        await gateway.publisher.publish(f"ephemeral.{SIEGE}", siege_body())
        event = await client.next("event")

    assert letter.subject == "deadletter.unknown_type"
    assert event["event"]["type"] == "siege.begun"


async def test_two_versions_of_a_type_are_judged_by_their_own_schemas(
    stream: NatsServer, auth: FakeAuth, realm: Realm
) -> None:
    async with running_gateway(stream, auth) as gateway, listener(gateway) as client:
        both = siege(at_most=10)
        both["channels"] |= {"v2": next(iter(siege(at_most=99, version=2)["channels"].values()))}
        await realm.push(both)
        await realm.besiege(force=50)
        await realm.besiege(force=50, version=3)
        offset = await realm.besiege(force=50, version=2)
        heard = await heard_up_to(client, offset)
        letters = await dead_letters(gateway, 2)

    assert heard == [offset]
    assert [letter.subject for letter in letters] == ["deadletter.invalid", "deadletter.unknown_version"]


async def test_every_worker_takes_up_a_revision(
    stream: NatsServer, auth: FakeAuth, realm: Realm, tmp_path: Path
) -> None:
    async with running_workers(stream, auth, tmp_path) as workers:
        firsts = await workers.client_at_each()
        await realm.push(siege())
        offset = await realm.besiege()
        heard = [await heard_up_to(client, offset) for client in firsts.values()]
        revisions = await workers.samples("beaconfire_gateway_catalogue_revision")

    assert heard == [[offset], [offset]]
    assert revisions == {"1": 2.0, "2": 2.0}
