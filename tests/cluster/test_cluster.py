"""A cluster of three brokers under load and faults loses, repeats or reorders no event silently."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from beaconfire.local_services import ServiceProcess
from beaconfire_kit import broker
from beaconfire_kit.catalogue_store import KV_STREAM, CatalogueStore
from beaconfire_kit.gateway_buckets import BUCKETS
from beaconfire_kit.stream_setup import declare_stream
from tests.cluster.brokers import SIZE
from tests.cluster.scenarios import SCENARIOS
from tests.cluster.world import ClusterWorld, cluster_world
from tests.conftest import connected
from tests.faults.world import ROOT
from tests.kit.fragments import document

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(150)]


LONG_ONLY = ("all three killed", "rolling restart")
"""In `make faults` alone: the first takes its time, the second has a test of its own here."""
PATIENCE_S = 50.0
HANDLED = 'beaconfire_consumer_messages_total{consumer="rules-engine",result="handled"}'


@pytest_asyncio.fixture(name="whole", scope="module", loop_scope="module")
async def _whole(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ClusterWorld]:
    """One cluster for all scenarios: each leaves it whole."""
    async with cluster_world(tmp_path_factory.mktemp("cluster")) as one:
        yield one


@asynccontextmanager
async def publisher_and_worker(
    whole: ClusterWorld, folder: Path
) -> AsyncIterator[tuple[ServiceProcess, ServiceProcess]]:
    """Both as processes, with the addresses of all three servers, and with one database."""
    database = {
        "BEACONFIRE_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/publisher.db",
        "BEACONFIRE_JWKS_URL": whole.auth.jwks_url,
    }
    both = [
        ServiceProcess(
            name,
            "beaconfire_publisher",
            {**whole.brokers.environment(name), **database},
            arguments=arguments,
            folder=folder,
        )
        for name, arguments in (("publisher", ()), ("rules-engine", ("rules-engine",)))
    ]
    try:
        for one in both:
            one.start(wait=False)
        for one in both:
            await asyncio.to_thread(one.wait_ready)
        yield both[0], both[1]
    finally:
        for one in both:
            one.kill()


async def told(whole: ClusterWorld, http: aiohttp.ClientSession, publisher: ServiceProcess) -> str:
    """Publish an event over HTTP, and try again while a service is away. Returns its id."""
    whole.auth.members["writer"] = {ROOT: "editor"}
    event = {
        "id": uuid.uuid4().hex,
        "type": "settlement_updated",
        "payload": {"campaignId": "c1", "settlementId": "s1", "operation": "update", "changedFields": ["level"]},
    }
    headers = {"Authorization": f"Bearer {whole.auth.token('writer')}"}
    while True:
        async with http.post(f"{publisher.url}/v1/events", json=event, headers=headers) as answer:
            if answer.status < 300:
                return str(event["id"])
            assert answer.status == 503, await answer.text()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in LONG_ONLY])
async def test_no_event_is_lost_repeated_or_reordered_through_cluster_faults(whole: ClusterWorld, name: str) -> None:
    await whole.be_seated()
    for _ in range(4):
        whole.newcomer()
    await whole.everybody_is_there()
    before = await whole.repaired()
    async with whole.writing():
        await SCENARIOS[name](whole, 1)
    verdicts = await whole.judged()

    assert {name: str(verdict) for name, verdict in verdicts.items() if not verdict.is_clean or verdict.told} == {}
    assert all(verdict.delivered > 0 for verdict in verdicts.values())
    if name == "routes between brokers cut":
        assert await whole.repaired() > before, "the live path lost nothing: the scenario shows nothing"
    if name == "two of three killed":
        assert {follower.connects for follower in whole.last_followers} == {1}


async def test_rolling_restart_of_brokers_loses_no_event_and_workers_go_on(whole: ClusterWorld, tmp_path: Path) -> None:
    """Gateways, a publisher with its relay and a worker move to another server."""
    follower = whole.newcomer()
    await whole.everybody_is_there()
    sent: list[str] = []
    async with AsyncExitStack() as stack:
        publisher, worker = await stack.enter_async_context(publisher_and_worker(whole, tmp_path))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        await stack.enter_async_context(whole.writing(writers=1, pause_s=0.05))
        for number in range(SIZE):
            await asyncio.to_thread(whole.brokers.servers[number].stop)
            sent += [await told(whole, http, publisher) for _ in range(5)]
            await whole.brokers.start(number)
        handled = await whole.metric(worker, HANDLED)
        sent.append(await told(whole, http, publisher))
        while await whole.metric(worker, HANDLED) == handled:
            await asyncio.sleep(0.05)
        while sent[-1] not in [event_id for _, event_id in follower.applied]:  # answers may still be on their way
            await asyncio.sleep(0.05)
    verdicts = await whole.judged()

    assert {name: str(verdict) for name, verdict in verdicts.items() if not verdict.is_clean or verdict.told} == {}
    assert [event_id for _, event_id in follower.applied if event_id in sent] == sent


async def test_declaring_streams_again_without_a_number_keeps_their_replicas(whole: ClusterWorld) -> None:
    async with connected(whole.brokers, "setup") as nc:
        assert await declare_stream(nc) == whole.epoch
        buckets = [bucket.stream for bucket in BUCKETS.values()]
        streams = (broker.STREAM, broker.DEADLETTERS, KV_STREAM, *buckets)
        configs = [await broker.config_of(nc, name) for name in streams]

    assert [config["num_replicas"] for config in configs] == [SIZE] * len(streams)


async def test_pushes_of_the_catalogue_through_killed_leaders_each_commit_once(whole: ClusterWorld) -> None:
    """The stream's leader dies while a push is under way: the push goes on, and stream and bucket agree afterwards."""
    pushed: list[int] = []
    async with connected(whole.brokers, "catalogue") as nc, asyncio.timeout(PATIENCE_S):
        store = CatalogueStore(nc)
        for number in range(3):
            leader = await whole.brokers.leader()
            pushing = asyncio.create_task(store.push([document("logistics", f"push {number}")], by="test"))
            await asyncio.to_thread(whole.brokers.servers[leader].kill)
            pushed.append((await pushing).revision)
            await whole.brokers.start(leader)
        revisions = [marker.revision for marker in await store.markers()]
        head, committed = await store.head(), await store.committed()
        title = (await store.load(head)).fragments["logistics"].title

    assert [revision for revision in revisions if revision in pushed] == pushed
    assert (head.revision, title) == (pushed[-1], "push 2")
    assert committed is not None
    assert (committed.revision, committed.offset) == (head.revision, head.marker)
