"""beaconfire_publisher.app: starting without its neighbours, readiness, and ending in order."""

import asyncio
import os
import signal
from pathlib import Path

from beaconfire.local_services import ServiceProcess
from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from tests.conftest import connected
from tests.fakes import FakeAuth
from tests.publisher.conftest import Heard, Publisher, publisher_settings, publishing

NO_STREAM = "the stream EVENTS is not there, or does not answer"


async def test_starts_without_broker(stream: NatsServer, fake_auth: FakeAuth, heard: Heard, tmp_path: Path) -> None:
    """Without a broker the publisher is alive, says what it waits for, answers 503, and becomes ready by itself."""
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


async def test_starts_without_stream(nats_server: NatsServer, tmp_path: Path) -> None:
    """Without a stream the publisher says so, and becomes ready once somebody has declared it."""
    async with publishing(publisher_settings(nats_server, tmp_path, "http://127.0.0.1:1/"), Heard()) as publisher:
        await publisher.says(NO_STREAM)
        async with connected(nats_server, "setup") as nc:
            await broker.declare_stream(nc)

        await publisher.says("ready")


async def test_loses_broker(misled: Publisher, stream: NatsServer) -> None:
    """A publisher that has lost the broker says so at once, answers 503 within its patience, and recovers."""
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


async def test_stops_at_once(stream: NatsServer, tmp_path: Path) -> None:
    """A publisher that is stopped while it still starts ends without waiting for anything."""
    async with asyncio.timeout(10):
        async with publishing(publisher_settings(stream, tmp_path, "http://127.0.0.1:1/"), Heard()):
            pass


async def test_terminated(stream: NatsServer, tmp_path: Path) -> None:
    """SIGTERM ends the process with exit code 0."""
    service = process(stream, tmp_path)
    await asyncio.to_thread(service.start)

    await asyncio.to_thread(service.stop)

    assert service.process.exit_code == 0


async def test_broker_closes_for_good(stream: NatsServer, tmp_path: Path) -> None:
    """A broker that throws the publisher's user out ends the process with exit code 1, for a supervisor to see."""
    service = process(stream, tmp_path)
    await asyncio.to_thread(service.start)
    config = stream.folder / "nats-server.conf"
    config.write_text(config.read_text().replace(stream.passwords["publisher"], "another"))
    assert stream.process.pid is not None

    os.kill(stream.process.pid, signal.SIGHUP)
    ended = await asyncio.to_thread(service.process.wait, 20)

    assert ended
    assert service.process.exit_code == 1


async def test_unusable_database(stream: NatsServer, tmp_path: Path) -> None:
    """A database that cannot be opened stops the start with exit code 2 and a sentence with the variable's name."""
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
