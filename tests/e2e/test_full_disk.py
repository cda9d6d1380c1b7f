"""The disk of the broker is full: changes are kept, doctor and alerts name the cause, and the documented cure works.

The broker's data lies on a small file system, which the test mounts. That needs root, or sudo without a password.
"""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from beaconfire import outboxes
from beaconfire.local_services import Plan, Services
from beaconfire.nats_server import free_port
from tests.client import SocketClient, answering, open_socket
from tests.deploy.alert_rules import rules
from tests.e2e.conftest import Line
from tests.e2e.examined import database, looked_at, problems
from tests.e2e.staged import Watched, watched
from tests.forked import all_forked

SIZE = "32m"
DISK = "disk of the broker's store"
CUT_OFF, DEGRADED = "BeaconfireGatewayIsCutOff", "beaconfire_gateway_degraded"
WAIT, OLDEST = "BeaconfireEventsWait", "beaconfire_outbox_oldest_event_age_seconds"
LEVELS = range(3, 100)
CHANGES = ("settlement_updated", "member_changed")
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(name="services")
def _services(tmp_path: Path) -> Iterator[Services]:
    """A set whose broker has a small disk of its own."""
    services = all_forked(Services(Plan(tmp_path / "services", gateways=1, monitoring_port=free_port())))
    with small_disk(store_of(services)):
        try:
            services.start()
            yield services
        finally:
            services.kill()


@pytest.fixture(name="line")
async def _line(services: Services) -> AsyncIterator[Line]:
    async with aiohttp.ClientSession() as http:
        yield Line(services, http)


def store_of(services: Services) -> Path:
    return services.nats.folder / "jetstream"


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True)
    options = f"size={SIZE},mode=700,uid={os.geteuid()},gid={os.getegid()}"
    as_root("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder))
    try:
        yield
    finally:
        as_root("umount", str(folder))


def as_root(*command: str) -> None:
    done = subprocess.run([*(["sudo", "-n"] if os.geteuid() else []), *command], capture_output=True, text=True)
    assert done.returncode == 0, f"`{' '.join(command)}` needs root, or sudo without a password: {done.stderr}"


def fill(folder: Path) -> Path:
    """Write a file that takes all free pages. Returns it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024 * 1024))
        except OSError:
            return filler


async def change_until_refused(campaign: Watched) -> int:
    """Make changes until the broker cannot store one. Returns how many were made.

    The last page of the stream's file still has room for a few events. After its first failed write, nats-server stores
    none.
    """
    log = campaign.line.services.nats.log_path
    for made, level in enumerate(LEVELS, 1):
        await campaign.change(level)
        if "no space left on device" in log.read_text():
            return made
    raise AssertionError("the broker stores events although its disk is full")


async def hear(client: SocketClient, count: int, *, after: int) -> list[tuple[int, str]]:
    """Wait until the client has this many changes above an offset. Returns their offsets and ids, as they came."""
    while True:
        events = [frame for frame in client.frames if frame["type"] == "event" and frame["offset"] > after]
        changes = [(one["offset"], one["event"]["id"]) for one in events if one["event"]["type"] in CHANGES]
        if len(changes) >= count:
            return changes
        await client.next("event")


async def test_full_disk_of_the_broker_loses_nothing_and_is_cured_by_room_and_a_restart(line: Line) -> None:
    """Changes are accepted, and their events wait. nats-server does not try again, so it needs the restart."""
    services, gateway = line.services, line.services.gateways[0]
    invited = await line.sign_up("invited")
    async with watched(line) as campaign:
        client, rooms = campaign.client, [f"campaign:{campaign.campaign}"]
        await campaign.change(2)
        before = await campaign.hears()
        async with answering(client):
            filler = await asyncio.to_thread(fill, store_of(services))
            made = await change_until_refused(campaign)
            await campaign.change(LEVELS.stop)
            await line.add_member(campaign.owner, campaign.campaign, invited, "viewer")
            await until_positive(gateway.ops_url, DEGRADED)
            await until_positive(services.publisher.ops_url, OLDEST)
            found = await looked_at(services)
            waits = await asyncio.gather(
                *(outboxes.look_at(name, database(services, name)) for name in ("auth", "publisher"))
            )

            filler.unlink()
            await asyncio.to_thread(services.nats.stop)
            await asyncio.to_thread(services.nats.start)
            await until_cured(services)
        await client.next("degraded")
        await client.next("live")
        heard = await hear(client, made + 2, after=before["offset"])
        async with open_socket(gateway.url) as returning:
            epoch = client.ack["cursor"].partition(":")[0]
            await returning.connect(campaign.owner.token, rooms, cursor=f"{epoch}:{before['offset']}")
            resumed = await hear(returning, made + 2, after=before["offset"])
        async with open_socket(gateway.url) as member:
            joined = await member.connect(invited.token, rooms)

    assert "restart nats-server once there is room" in found["stores"].advice
    assert found[DISK].verdict == "wrong"
    assert "0 bytes of 32 MiB are free" in found[DISK].found
    assert "until you have freed space and restarted nats-server" in found[DISK].advice
    assert [one.waiting_roots for one in waits] == [1, 1]
    expressions = {rule["alert"]: rule["expr"] for rule in rules()}
    assert (DEGRADED in expressions[CUT_OFF], OLDEST in expressions[WAIT]) == (True, True)
    assert [len(heard), len(set(heard))] == [made + 2, made + 2]
    assert resumed == heard == sorted(heard)
    assert joined["rooms"][rooms[0]]["success"]


async def until_cured(services: Services) -> None:
    """Ask doctor until nothing is wrong but the disk's size: 32 MiB are too few even if they are free."""
    async with asyncio.timeout(60):
        while problems(await looked_at(services)).keys() - {DISK}:
            await asyncio.sleep(0.2)


async def until_positive(ops_url: str, name: str) -> None:
    """Read a metric until it is above zero."""
    async with asyncio.timeout(60), aiohttp.ClientSession() as http:
        while True:
            async with http.get(f"{ops_url}/metrics") as answer:
                lines = (await answer.text()).splitlines()
            if max(float(one.rsplit(maxsplit=1)[1]) for one in lines if one.startswith(name)) > 0:
                return
            await asyncio.sleep(0.05)
