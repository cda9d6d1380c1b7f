"""The publisher starts without its neighbours, says why it is not ready, and stops in order."""

import asyncio
import os
import signal
from pathlib import Path

from beaconfire.local_services import ServiceProcess
from beaconfire.nats_server import NatsServer
from beaconfire_kit.stream_setup import declare_stream
from tests.conftest import connected
from tests.fakes import FakeAuth
from tests.publisher.conftest import Heard, Publisher, publisher_settings, publishing

NO_STREAM = "the stream EVENTS is not there, or does not answer"


async def test_publisher_without_a_broker_answers_503_and_becomes_ready_once_it_is_there(
    stream: NatsServer, fake_auth: FakeAuth, heard: Heard, tmp_path: Path
) -> None:
    stream.kill()
    async with publishing(publisher_settings(stream, tmp_path, fake_auth.jwks_url), heard) as publisher:
        token = f"Bearer {fake_auth.token('editor')}"
        alive = await publisher.nobody.get("/healthz")
        ready = await publisher.nobody.get("/readyz")
        call = await publisher.nobody.call("GET", "/v1/campaigns/c1", Authorization=token)
        stream.start()
        await publisher.says("ready")
        # Auth comes back on a connection of its own, a moment later perhaps.
        while (later := await publisher.nobody.call("GET", "/v1/campaigns/c1", Authorization=token)).status == 503:
            pass

    assert alive.status == 200
    assert (ready.status, ready.body["status"]) == (503, "starting: waiting for the broker")
    assert call.error == (503, "unavailable")
    assert later.error == (404, "not_found")


async def test_publisher_is_not_ready_until_the_stream_is_declared(nats_server: NatsServer, tmp_path: Path) -> None:
    async with publishing(publisher_settings(nats_server, tmp_path, "http://127.0.0.1:1/"), Heard()) as publisher:
        await publisher.says(NO_STREAM)
        async with connected(nats_server, "setup") as nc:
            await declare_stream(nc)

        await publisher.says("ready")


async def test_publisher_reports_a_lost_broker_answers_503_in_time_and_recovers(
    misled: Publisher, stream: NatsServer
) -> None:
    stream.kill()
    await misled.says("the broker is not reachable")
    async with asyncio.timeout(4):
        call = await misled.editor.get("/v1/campaigns/c1")
    stream.start()
    await misled.says("ready")
    while (later := await misled.editor.get("/v1/campaigns/c1")).status == 503:
        pass  # auth comes back on a connection of its own, a moment later perhaps

    assert call.error == (503, "unavailable")
    assert later.error == (404, "not_found")


async def test_publisher_that_is_stopped_while_it_starts_ends_at_once(stream: NatsServer, tmp_path: Path) -> None:
    async with asyncio.timeout(10):
        async with publishing(publisher_settings(stream, tmp_path, "http://127.0.0.1:1/"), Heard()):
            pass


async def test_publisher_exits_with_0_at_sigterm(stream: NatsServer, tmp_path: Path) -> None:
    service = process(stream, tmp_path)
    await asyncio.to_thread(service.start)

    await asyncio.to_thread(service.stop)

    assert service.process.exit_code == 0


async def test_publisher_whose_password_the_broker_refuses_waits_until_it_is_accepted_again(
    stream: NatsServer, tmp_path: Path
) -> None:
    service = process(stream, tmp_path)
    await asyncio.to_thread(service.start)
    config = stream.folder / "nats-server.conf"
    right = config.read_text()
    assert stream.process.pid is not None
    try:
        config.write_text(right.replace(stream.passwords["publisher"], "another"))
        os.kill(stream.process.pid, signal.SIGHUP)
        async with asyncio.timeout(20):
            while (why_not := await asyncio.to_thread(service.why_not_ready)) is None:
                await asyncio.sleep(0.05)
        config.write_text(right)
        os.kill(stream.process.pid, signal.SIGHUP)
        await asyncio.to_thread(service.wait_ready)
    finally:
        await asyncio.to_thread(service.stop)

    assert why_not == "the broker is not reachable"
    assert service.process.exit_code == 0


async def test_unusable_database_ends_the_start_with_code_2_and_the_variables_name(
    stream: NatsServer, tmp_path: Path
) -> None:
    (tmp_path / "publisher.db").write_text("no database at all, " * 100)
    service = process(stream, tmp_path)
    service.start(wait=False)

    ended = await asyncio.to_thread(service.process.wait, 20)

    assert ended
    assert service.process.exit_code == 2
    assert "BEACONFIRE_DATABASE_URL: cannot open the database" in "\n".join(service.process.last_lines)
    assert "Traceback" not in service.process.log_path.read_text()


def process(server: NatsServer, folder: Path) -> ServiceProcess:
    """The publisher as a process, without an auth."""
    environment = {
        **server.environment("publisher"),
        "BEACONFIRE_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/publisher.db",
        "BEACONFIRE_JWKS_URL": "http://127.0.0.1:1/",
    }
    return ServiceProcess("publisher", "beaconfire_publisher", environment, folder=folder)
