"""The broker takes over new permissions at a reload, and connections stay."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from nats.aio.client import Client

from beaconfire.broker_users import Publisher, password_variable, users
from beaconfire.nats_server import BrokerDidNotReload, NatsServer, binary, free_port
from beaconfire.processes import Process
from beaconfire_kit import broker
from beaconfire_kit.broker import MayNotPublish
from beaconfire_kit.stream_setup import add_stream_subjects
from tests.conftest import At, connected
from tests.security.raw_nats import RawNats, Refused, raw_nats
from tests.tools.terminal import run

DEPOT = "depot.d1.parcel.p1"
WEATHER = Publisher("weather", ("depot.*.weather",))


@dataclass
class Watched:
    """A connection, and how often it was lost."""

    nc: Client
    lost: list[str] = field(default_factory=list)


@asynccontextmanager
async def watched(server: NatsServer, *names: str) -> AsyncIterator[dict[str, Watched]]:
    """Connections of these users that count disconnects."""
    found: dict[str, Watched] = {}
    async with AsyncExitStack() as stack:
        for name in names:
            lost: list[str] = []
            nc = await stack.enter_async_context(connected(server, name, on_disconnected=partial(lost.append, name)))
            found[name] = Watched(nc, lost)
        yield found
        for one in found.values():
            await one.nc.flush()
            assert one.nc.is_connected


async def until_refused(nats: RawNats) -> None:
    while True:
        await nats.flush()


async def test_new_root_is_publishable_after_a_reload_and_no_connection_is_lost(stream: NatsServer) -> None:
    """The publisher, a gateway and auth keep their connections, and the gateway hears the first event of the root."""
    async with watched(stream, "publisher", "gateway", "auth") as users:
        heard = await users["gateway"].nc.subscribe("live.>")
        await users["gateway"].nc.flush()
        with pytest.raises(MayNotPublish):
            await broker.publish(users["publisher"].nc, DEPOT, b"{}", message_id="before")

        await asyncio.to_thread(stream.permit, roots=["depot"])
        async with connected(stream, "setup") as setup:
            added = await add_stream_subjects(setup, ["depot.>"])
        offset = await broker.publish(users["publisher"].nc, DEPOT, b"{}", message_id="after")

        message = await heard.next_msg(timeout=10)
        while message.subject != f"live.{DEPOT}":
            message = await heard.next_msg(timeout=10)
        assert added == ["depot.>"]
        assert message.headers is not None
        assert int(message.headers["Nats-Sequence"]) == offset
    assert [one.lost for one in users.values()] == [[], [], []]


async def test_further_publisher_connects_after_a_reload_and_is_put_out_by_another(stream: NatsServer) -> None:
    async with watched(stream, "gateway") as others:
        with pytest.raises(KeyError):
            stream.passwords["weather"]

        await asyncio.to_thread(stream.permit, roots=["depot"], publishers=[WEATHER])
        async with raw_nats(stream, "weather") as nats:
            allowed = await nats.publish("depot.d1.weather")
            denied = await nats.publish(DEPOT)
            await asyncio.to_thread(stream.permit, roots=["depot"])
            with pytest.raises(Refused):
                await until_refused(nats)
        with pytest.raises(Refused, match=r"Authorization Violation|closed"):
            async with raw_nats(stream, "weather"):
                pass

    assert (allowed, "Permissions Violation" in denied) == ("", True)
    assert others["gateway"].lost == []


async def test_broken_configuration_leaves_the_old_one_in_force(stream: NatsServer, tmp_path: Path) -> None:
    more = tmp_path / "more.conf"
    stream._more_users = more
    more.write_text("{ user: }")

    with pytest.raises(BrokerDidNotReload, match="goes on with its old configuration"):
        await asyncio.to_thread(stream.permit, roots=["depot"])

    async with connected(stream, "publisher") as nc:
        with pytest.raises(MayNotPublish):
            await broker.publish(nc, DEPOT, b"{}", message_id="one")


@pytest.mark.parametrize("how", ["signal", "command"])
async def test_deployed_broker_takes_over_a_rendered_configuration_and_a_new_password(tmp_path: Path, how: str) -> None:
    """As docs/howto/deploy.md says it, with `beaconfire broker config` and either form of the reload signal."""
    port = free_port()
    passwords = {user.name: f"x-{user.name}" for user in users()}
    publishers = tmp_path / "publishers.yaml"
    publishers.write_text("publishers:\n  weather: {publish: [campaign.*.weather]}\n")
    conf = tmp_path / "nats.conf"

    def render(*more: str) -> None:
        said = run(tmp_path, "broker", "config", "--passwords", "passwords.conf", "--out", str(conf), *more)
        assert said.process.exit_code == 0, said.text
        text = conf.read_text().replace("port: 4222", f"port: {port}").replace("/data", str(tmp_path / "store"))
        conf.write_text(text.replace('http: "127.0.0.1:8222"\n', ""))

    (tmp_path / "passwords.conf").write_text("")
    await asyncio.to_thread(render)
    environment = {password_variable(name): password for name, password in passwords.items()}
    process = Process("nats", [binary(), "-c", str(conf)], log_path=tmp_path / "log", environment=environment)
    process.start()
    try:
        at = At(f"nats://127.0.0.1:{port}", passwords | {"weather": "x-weather"})
        lost: list[bool] = []
        async with connected(at, "gateway", on_disconnected=lambda: lost.append(True)) as gateway:
            (tmp_path / "passwords.conf").write_text('BEACONFIRE_WEATHER_PASSWORD: "x-weather"\n')
            await asyncio.to_thread(render, "--publishers", str(publishers))
            assert process.pid is not None
            if how == "signal":
                os.kill(process.pid, signal.SIGHUP)
            else:
                subprocess.run([binary(), "--signal", f"reload={process.pid}"], check=True, capture_output=True)
            async with connected(at, "weather") as weather:
                await weather.publish("campaign.c1.weather", b"{}")
                await weather.flush()
            await gateway.flush()
    finally:
        process.stop()

    assert lost == []
