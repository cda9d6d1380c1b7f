"""The stream is wiped, emptied, recreated or restored from a backup, with clients connected and away.

No client misses events without a `resync`.
"""

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from structlog.testing import capture_logs

from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from tests.broker_changes import call_api, declare
from tests.client import SocketClient, open_socket
from tests.conftest import connected
from tests.cursors import cursor_of
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway, settlement
from tests.gateway.events import fence
from tests.proxy import Proxy

ROOM = "campaign:c1"
BEFORE = 5
"""The number of events that every client has had before the loss."""


@dataclass
class Town:
    """A gateway whose way to the broker can be cut, a client that is connected and one that is away."""

    gateway: Gateway
    route: Proxy
    client: SocketClient
    away: str
    """The cursor of the client that is away, at the last event before the loss."""

    @property
    def server(self) -> NatsServer:
        return self.gateway.server

    async def assert_told(self, reason: str, *, epoch: str | None = None) -> None:
        """Connected clients get a `resync` and continue live. Clients that were away get it when they come back."""
        said = await self.client.next("resync")
        *_, event = await fence(self.gateway, self.client)

        assert (said["rooms"], said["reason"]) == ([ROOM], reason)
        assert epoch is None or cursor_of(said["cursor"]).epoch == epoch
        assert event["event"]["payload"]["settlementId"] == "fence"
        await self.assert_told_later(reason)

    async def assert_told_later(self, *reasons: str) -> None:
        async with open_socket(self.gateway.url) as back:
            await back.connect(self.gateway.auth.token("viewer"), [ROOM], cursor=self.away)
            said = await back.next("resync")
            await fence(self.gateway, back)

        assert (said["rooms"], said["reason"] in reasons) == ([ROOM], True), said


@pytest.fixture(name="town")
async def _town(stream: NatsServer, auth: FakeAuth) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        route = await stack.enter_async_context(Proxy(stream.port).running())
        gateway = await stack.enter_async_context(
            running_gateway(stream, auth, nats_url=f"nats://127.0.0.1:{route.port}")
        )
        client = await stack.enter_async_context(open_socket(gateway.url))
        ack = await client.connect(auth.token("viewer"), [ROOM])
        await write(gateway, BEFORE)
        last = (await client.events(BEFORE))[-1]["offset"]
        yield Town(gateway, route, client, str(replace(cursor_of(ack["cursor"]), offset=last)))


async def write(gateway: Gateway, count: int) -> int:
    """Publish some events. Returns the last one's offset."""
    return [await gateway.publish(settlement(f"s{number}")) for number in range(count)][-1]


def copy_of(server: NatsServer) -> Path:
    """A backup: the broker's folder, taken while it is stopped."""
    server.stop()
    backup = server.folder / "backup"
    shutil.copytree(server.folder / "jetstream", backup)
    server.start()
    return backup


def put_back(server: NatsServer, backup: Path | None) -> None:
    """Stop the broker, put the backup in the place of what it has (None: nothing), start it."""
    server.stop()
    shutil.rmtree(server.folder / "jetstream")
    if backup is not None:
        shutil.copytree(backup, server.folder / "jetstream")
    server.start()


async def test_recreated_stream_is_a_new_epoch_and_every_client_gets_resync(town: Town) -> None:
    """Fault F6 of docs/topics/delivery.md."""
    await call_api(town.server, "STREAM.DELETE.EVENTS")
    epoch = await declare(town.server)

    await town.assert_told("epoch_changed", epoch=epoch)


async def test_stream_recreated_and_filled_under_load_is_found_by_the_first_repeated_offset(town: Town) -> None:
    """F6: without a silence and without a reconnection."""
    await call_api(town.server, "STREAM.DELETE.EVENTS")
    epoch = await declare(town.server)
    filling = asyncio.create_task(_fill(town.gateway))
    try:
        said = await town.client.next("resync")
    finally:
        filling.cancel()

    assert (said["reason"], cursor_of(said["cursor"]).epoch) == ("epoch_changed", epoch)


async def _fill(gateway: Gateway) -> None:
    while True:
        await write(gateway, 50)


async def test_broker_restarted_without_its_disk_causes_resync_for_every_client(town: Town) -> None:
    """Fault F6 of docs/topics/delivery.md."""
    await asyncio.to_thread(put_back, town.server, None)
    epoch = await declare(town.server)

    await town.assert_told("epoch_changed", epoch=epoch)


async def test_purge_of_events_that_clients_had_or_the_ring_has_causes_no_resync(town: Town) -> None:
    """Fault F7 of docs/topics/delivery.md."""
    async with open_socket(town.gateway.url) as back:
        await call_api(town.server, "STREAM.PURGE.EVENTS")
        away = cursor_of(town.away)
        two_before = replace(away, offset=away.offset - 2)
        await back.connect(town.gateway.auth.token("viewer"), [ROOM], cursor=str(two_before))
        heard = [event["offset"] for event in await back.events(2)]
        await fence(town.gateway, town.client)

    assert heard[-1] == away.offset
    assert "resync" not in [frame["type"] for frame in (*town.client.frames, *back.frames)]


async def test_events_purged_before_the_gateway_heard_them_cause_resync(town: Town) -> None:
    """Fault F7 of docs/topics/delivery.md."""
    with capture_logs() as lines:
        with town.route.cut_off():
            await write(town.gateway, 3)
            await call_api(town.server, "STREAM.PURGE.EVENTS")
            await write(town.gateway, 2)

        await town.assert_told("not_resumable")
    causes = [line["cause"] for line in lines if line["event"] == "resync"]

    assert causes == ["hole_lost", "events_removed"]


async def test_stream_restored_to_an_earlier_end_causes_resync_without_an_operator(town: Town) -> None:
    backup = await asyncio.to_thread(copy_of, town.server)
    await write(town.gateway, 20)
    await town.client.events(20)
    town.away = str(replace(cursor_of(town.away), offset=town.client.frames[-1]["offset"] + 1_000))
    await asyncio.to_thread(put_back, town.server, backup)

    assert (await town.client.next("resync"))["reason"] == "epoch_changed"
    await fence(town.gateway, town.client)
    await town.assert_told_later("ahead")


async def test_restored_stream_that_has_grown_again_is_found_by_its_last_message(town: Town) -> None:
    backup = await asyncio.to_thread(copy_of, town.server)
    await write(town.gateway, 3)
    await town.client.events(3)
    with town.route.cut_off():
        await asyncio.to_thread(put_back, town.server, backup)
        await write(town.gateway, 20)

    assert (await town.client.next("resync"))["reason"] == "epoch_changed"
    await fence(town.gateway, town.client)


async def test_new_epoch_after_a_restore_makes_clients_with_newer_cursors_reload(town: Town, auth: FakeAuth) -> None:
    """This is "Restore the stream from a backup" in docs/howto/operate.md.

    Without `doctor --new-epoch`, a client that was away could miss events silently.
    """
    backup = await asyncio.to_thread(copy_of, town.server)
    await write(town.gateway, 3)
    town.away = str(replace(cursor_of(town.away), offset=(await town.client.events(3))[-1]["offset"]))
    await asyncio.to_thread(put_back, town.server, backup)
    await town.client.next("resync")
    await write(town.gateway, 20)
    await town.client.events(20)

    epoch = await doctor_new_epoch(town.server)

    await town.assert_told("epoch_changed", epoch=epoch)
    async with running_gateway(town.server, auth) as later:
        town.gateway = later
        await town.assert_told_later("epoch_changed")


async def test_backup_and_restore_over_the_wire_cause_resync_without_a_reconnection(town: Town) -> None:
    async with connected(town.server, "setup") as setup:
        config, state, chunks = await _back_up(setup)
        await write(town.gateway, 3)
        await town.client.events(3)
        await call_api(town.server, "STREAM.DELETE.EVENTS")
        await _restore(setup, config, state, chunks)
    await town.client.next("resync")  # the stream ends below what was heard
    epoch = await doctor_new_epoch(town.server)

    await town.assert_told("epoch_changed", epoch=epoch)


async def doctor_new_epoch(server: NatsServer) -> str:
    """Run the operator's command, and answer its question. Returns the epoch that it prints."""
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("beaconfire"),
        "doctor",
        "--new-epoch",
        env={**os.environ, **server.environment("setup"), "COLUMNS": "200"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = (await process.communicate(b"y\n"))[0].decode()
    told = re.search(r"The epoch was (\w+) and is now (\w+)\. Running gateways ask their clients to reload", said)
    assert (process.returncode, told is not None) == (0, True), said
    assert told is not None
    assert told[1] != told[2]
    return told[2]


async def _back_up(setup: Client) -> tuple[Any, Any, list[bytes]]:
    """A snapshot of JetStream: its configuration, its state and its bytes."""
    inbox = setup.new_inbox()
    arriving = await setup.subscribe(inbox)
    request = json.dumps({"deliver_subject": inbox, "chunk_size": 1_024}).encode()
    answer = json.loads((await setup.request(f"$JS.API.STREAM.SNAPSHOT.{broker.STREAM}", request, timeout=5)).data)
    chunks = []
    while (chunk := await arriving.next_msg(timeout=5)).data:
        chunks.append(chunk.data)
        if chunk.reply:
            await setup.publish(chunk.reply, b"")
    await arriving.unsubscribe()
    return answer["config"], answer["state"], chunks


async def _restore(setup: Client, config: Any, state: Any, chunks: list[bytes]) -> None:
    request = json.dumps({"config": config, "state": state}).encode()
    answer = json.loads((await setup.request(f"$JS.API.STREAM.RESTORE.{broker.STREAM}", request, timeout=5)).data)
    for chunk in (*chunks, b""):
        done = await setup.request(answer["deliver_subject"], chunk, timeout=5)
    assert "error" not in json.loads(done.data), done.data
