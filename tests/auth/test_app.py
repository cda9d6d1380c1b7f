"""Auth starts without its neighbours, says why it is not ready, and stops."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from faststream.nats import NatsBroker

from beaconfire.nats_server import NatsServer, free_port
from beaconfire.processes import Process
from beaconfire_auth.app import Tuning
from beaconfire_kit import broker, outbox
from beaconfire_kit.authorization import AuthorizeRequest
from beaconfire_kit.consumer import faststream_options
from beaconfire_kit.stream_setup import declare_stream
from tests.asking import authorize
from tests.auth.conftest import Auth, auth_settings, running_auth, starting_auth, table
from tests.conftest import connected
from tests.databases import database_url, execute


async def test_auth_signs_people_in_without_a_broker_and_becomes_ready_once_it_is_there(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    nats_server.kill()
    async with starting_auth(auth_settings(nats_server, tmp_path)) as auth:
        alive = await auth.call("GET", "/healthz")
        waiting = await auth.call("GET", "/readyz")
        owner = await auth.sign_up("owner")
        nats_server.start()
        async with connected(nats_server, "setup") as setup:
            await declare_stream(setup)
        await auth.until_ready()
        async with connected(nats_server, "gateway") as nc:
            reply = await authorize(nc, AuthorizeRequest(user_id=owner.id, rooms=(f"user:{owner.id}",)))

    assert alive.status == 200
    assert (waiting.status, waiting.body["status"]) == (503, "starting: waiting for the broker")
    assert reply.rooms[f"user:{owner.id}"].allowed


async def test_auth_is_not_ready_until_the_stream_is_declared(nats_server: NatsServer, tmp_path: Path) -> None:
    async with starting_auth(auth_settings(nats_server, tmp_path)) as auth:
        async with asyncio.timeout(20):
            while "stream EVENTS" not in await auth.why_not_ready():
                pass
        async with connected(nats_server, "setup") as setup:
            await declare_stream(setup)
        await auth.until_ready()


async def test_auth_is_not_ready_while_the_broker_is_lost(auth: Auth, stream: NatsServer) -> None:
    stream.kill()
    why_not = await auth.why_not_ready()
    stream.start()
    await auth.until_ready()

    assert why_not == "the broker is not reachable"


async def test_auth_is_not_ready_while_the_database_does_not_answer(auth: Auth, tmp_path: Path) -> None:
    # On a thread: auth, on this loop, may hold the write lock.
    await asyncio.to_thread(execute, tmp_path, "auth", "DROP TABLE counters")

    assert await auth.why_not_ready() == "the database does not answer"


async def test_stopping_auth_sends_events_that_the_relay_has_not_sent_yet(
    stream: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = Tuning(relay_poll_s=3_600)
    async with running_auth(stream, tmp_path, tuning=tuning) as auth, table(auth, stream) as made:
        stranger = made.people["stranger"].id
        monkeypatch.setattr(outbox.Outbox, "wake", lambda _outbox: None)
        await made.add("stranger", "viewer")
    async with connected(stream, "setup") as setup:
        question = json.dumps({"last_by_subj": f"campaign.c1.member.{stranger}"}).encode()
        stored = json.loads((await setup.request("$JS.API.STREAM.MSG.GET.EVENTS", question)).data)

    assert "message" in stored


async def test_faststreams_connection_never_gives_up_and_has_its_own_inbox(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    settings = auth_settings(nats_server, tmp_path)
    wanted = broker.options(settings, "auth-rpc")
    async with NatsBroker(**faststream_options(settings, "auth-rpc")) as rpc:
        nc = await rpc.connect()
        got = {name: nc.options[name] for name in wanted if name not in ("servers", "inbox_prefix")}
        inbox = nc.new_inbox()

    assert got == {name: wanted[name] for name in got}
    assert set(got) >= {"max_reconnect_attempts", "reconnect_time_wait", "ping_interval", "max_outstanding_pings"}
    assert inbox.startswith("_INBOX_auth.")


@asynccontextmanager
async def auth_process(server: NatsServer, folder: Path, **environment: str) -> AsyncIterator[tuple[Process, str]]:
    """`python -m beaconfire_auth` as in production, and where it listens; yields at once."""
    port = free_port()
    process = Process(
        "auth",
        [sys.executable, "-m", "beaconfire_auth"],
        log_path=folder / "auth.log",
        environment={
            **server.environment("auth"),
            "BEACONFIRE_ENVIRONMENT": "development",
            "BEACONFIRE_PORT": str(port),
            "BEACONFIRE_DATABASE_URL": database_url(folder, "auth"),
            **environment,
        },
    )
    process.start()
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()


async def until_ready(process: Process, url: str) -> None:
    async with aiohttp.ClientSession() as http, asyncio.timeout(30):
        while True:
            assert process.is_running, process.last_lines
            try:
                async with http.get(f"{url}/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                continue


async def test_auth_process_serves_stops_at_sigterm_and_logs_no_names(stream: NatsServer, tmp_path: Path) -> None:
    async with auth_process(stream, tmp_path) as (process, url):
        await until_ready(process, url)
        async with aiohttp.ClientSession() as http:
            body = {"email": "owner@auth.example", "password": "correct horse", "name": "Somebody"}
            async with http.post(f"{url}/auth/sign-up", json=body) as answer:
                session = await answer.json()
            async with http.post(f"{url}/auth/sign-in", json={"email": body["email"], "password": "wrong"}) as answer:
                await answer.read()
        process.terminate()
        ended = await asyncio.to_thread(process.wait, 20)
    log = (tmp_path / "auth.log").read_text()

    assert (ended, process.exit_code) == (True, 0), log
    assert session["user"]["id"] in log
    for secret in ("owner@", "Somebody", "correct horse", session["accessToken"], session["refreshToken"]):
        assert secret not in log


async def test_auth_exits_with_1_when_its_broker_connection_is_closed_for_good(
    stream: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the broker closes it because of a limit."""
    write_config = stream._write_config

    def write_a_limit() -> None:
        write_config()
        with (stream.folder / "nats-server.conf").open("a") as config:
            config.write("max_subscriptions: 1\n")

    async with auth_process(stream, tmp_path) as (process, url):
        await until_ready(process, url)
        stream.kill()
        monkeypatch.setattr(stream, "_write_config", write_a_limit)
        stream.start()
        ended = await asyncio.to_thread(process.wait, 30)

    assert (ended, process.exit_code) == (True, 1)
    assert any("closed for good" in line for line in process.last_lines)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BEACONFIRE_ACCESS_TOKEN_TTL_S", "86400"),
        ("BEACONFIRE_DATABASE_URL", "nonsense"),
        ("BEACONFIRE_DATABASE_URL", "sqlite+aiosqlite:////dev/null/auth.db"),
        ("BEACONFIRE_KEYS_SECRET", "one,,two"),
    ],
)
async def test_wrong_setting_ends_the_start_with_code_2_and_no_stack_trace(
    nats_server: NatsServer, tmp_path: Path, name: str, value: str
) -> None:
    async with auth_process(nats_server, tmp_path, **{name: value}) as (process, _):
        ended = await asyncio.to_thread(process.wait, 20)

    assert (ended, process.exit_code) == (True, 2), process.last_lines
    assert not any("Traceback" in line for line in process.last_lines)
