"""A worker as a process: starting, stopping, and its permissions at the broker."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from nats.aio.client import Client

from beaconfire.nats_server import NatsServer
from beaconfire_kit.broker import STREAM
from beaconfire_kit.seams.nats_connection import PublishDenied
from beaconfire_kit.stream_setup import declare_stream
from beaconfire_publisher.rules_engine import NAME as RULES_ENGINE
from beaconfire_publisher.worker import JOBS
from tests.conftest import connected
from tests.publisher.conftest import Heard, publisher_settings, publishing
from tests.publisher.workers import cause, changed, listening_to, worker_process, working

JOB = pytest.mark.parametrize("job", JOBS)


@JOB
async def test_worker_started_before_its_broker_says_what_it_waits_for_and_becomes_ready(
    job: str, nats_server: NatsServer, tmp_path: Path
) -> None:
    nats_server.kill()
    process = worker_process(nats_server, tmp_path, job)
    try:
        process.start(wait=False)
        async with asyncio.timeout(30):
            while await asyncio.to_thread(process.why_not_ready) != "starting: waiting for the broker":
                await asyncio.sleep(0.05)
        nats_server.start()
        async with connected(nats_server, "setup") as setup:
            await declare_stream(setup)
        await asyncio.to_thread(process.wait_ready)
    finally:
        process.kill()


@JOB
@pytest.mark.parametrize("broker_is", ["there", "gone", "frozen"])
async def test_worker_stops_in_order_even_if_its_broker_does_not_answer(
    job: str, broker_is: str, stream: NatsServer, tmp_path: Path
) -> None:
    process = worker_process(stream, tmp_path, job)
    await asyncio.to_thread(process.start)
    if broker_is == "gone":
        stream.kill()
    elif broker_is == "frozen":
        stream.freeze()

    await asyncio.to_thread(process.stop, 30)

    assert process.process.exit_code == 0
    assert "Traceback" not in process.process.log_path.read_text()


@JOB
async def test_unusable_database_ends_the_workers_start_with_its_name_and_no_stack_trace(
    job: str, stream: NatsServer, tmp_path: Path
) -> None:
    (tmp_path / "publisher.db").write_text("this is no database, whatever its name says" * 100)
    process = worker_process(stream, tmp_path, job)

    process.start(wait=False)
    assert await asyncio.to_thread(process.process.wait, 30)

    assert process.process.exit_code == 2
    assert "publisher.db" in "\n".join(process.process.last_lines)
    assert "Traceback" not in process.process.log_path.read_text()


async def test_message_that_a_slow_worker_loses_to_another_is_handled_once_and_in_order(
    stream: NatsServer, tmp_path: Path
) -> None:
    settings = publisher_settings(stream, tmp_path, "http://127.0.0.1:9/asked-by-nobody")
    async with (
        publishing(settings, Heard()),
        listening_to(stream, RULES_ENGINE) as told,
        working(stream, tmp_path, RULES_ENGINE, ack_wait_s=0.5) as one,
        working(stream, tmp_path, RULES_ENGINE, ack_wait_s=0.5) as other,
        connected(stream, "publisher") as nc,
        connected(stream, RULES_ENGINE) as own,
    ):
        await one.says("ready")
        await other.says("ready")
        path = tmp_path / "publisher.db"
        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as database:
            # In a thread: the holder of the lock may be in this process, and need its loop to release it.
            await asyncio.to_thread(database.execute, "BEGIN IMMEDIATE")
            await cause(nc, changed("s1"), "first")
            await cause(nc, changed("s2"), "second")
            await _redelivered(own)
            database.execute("ROLLBACK")
        await told.until(2)
        await cause(nc, changed("s1"), "last")
        events = await told.until(3)

    assert [event.metadata.correlation_id for event in events] == ["first", "second", "last"]


@JOB
async def test_worker_may_only_read_its_own_consumer_and_publishes_nothing(job: str, stream: NatsServer) -> None:
    [other] = set(JOBS) - {job}
    async with connected(stream, job) as nc, connected(stream, "setup") as setup:
        for call in (f"$JS.API.STREAM.INFO.{STREAM}", f"$JS.API.CONSUMER.INFO.{STREAM}.{job}"):
            assert await nc.request(call, b"", timeout=20)
        before = json.loads((await setup.request(f"$JS.API.STREAM.INFO.{STREAM}", b"")).data)["state"]["last_seq"]
        for subject in (
            "campaign.c1.state",
            "campaign.c1.world_time",
            "campaign.c1.member.u1",
            "user.u1.access",
            "tick",
        ):
            await nc.publish(subject, b"{}")
        for call in (
            f"$JS.API.CONSUMER.INFO.{STREAM}.{other}",
            f"$JS.API.CONSUMER.CREATE.{STREAM}.{other}",
            f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{other}",
            f"$JS.API.CONSUMER.DELETE.{STREAM}.{job}",
            f"$JS.API.STREAM.DELETE.{STREAM}",
            f"$JS.API.STREAM.PURGE.{STREAM}",
            "auth.authorize",
            "auth.grant",
        ):
            assert not await _asked(nc, call), call
        after = json.loads((await setup.request(f"$JS.API.STREAM.INFO.{STREAM}", b"")).data)["state"]["last_seq"]

    assert after == before


async def _redelivered(nc: Client) -> None:
    """Wait until the rules engine's first message was given out twice."""
    async with asyncio.timeout(30):
        while (await nc.jetstream().consumer_info(STREAM, RULES_ENGINE)).num_redelivered == 0:
            await asyncio.sleep(0.01)


async def _asked(nc: Client, call: str) -> bool:
    """Return whether the broker permitted the question."""
    try:
        await nc.request(call, b"", timeout=5)
    except PublishDenied:
        return False
    return True
