"""Backups are restored as docs/howto says: every client is told to load its state again, and it is the right state."""

import asyncio
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from beaconfire.doctor import renew_epoch
from beaconfire.local_services import Services
from tests.client import SocketClient, answering, open_socket
from tests.conftest import broker_settings
from tests.e2e.conftest import Line
from tests.e2e.examined import database, looked_at, problems

DATABASES = ("auth", "publisher")
pytestmark = pytest.mark.timeout(240)


def file_of(services: Services, name: str) -> Path:
    return Path(database(services, name).partition("///")[2])


def back_up(services: Services, to: Path) -> None:
    """The databases first, and the stream after them."""
    to.mkdir()
    for name in DATABASES:
        with sqlite3.connect(file_of(services, name)) as connection:
            connection.execute(f"VACUUM INTO '{to / name}.db'")
        connection.close()
    services.nats.stop()
    shutil.copytree(services.nats.folder / "jetstream", to / "jetstream")
    services.nats.start()


def restore(services: Services, backup: Path, what: str) -> None:
    """Restore the stream or the databases."""
    users = [services.auth, services.publisher, *services.workers]
    if what == "databases":
        for one in users:
            one.stop()
        for name in DATABASES:
            file = file_of(services, name)
            for old in (file, Path(f"{file}-wal"), Path(f"{file}-shm")):
                old.unlink(missing_ok=True)
            shutil.copy(backup / f"{name}.db", file)
        for one in users:
            one.start(wait=False)
        for one in users:
            one.wait_ready()
    if what == "stream":
        services.nats.stop()
        shutil.rmtree(services.nats.folder / "jetstream")
        shutil.copytree(backup / "jetstream", services.nats.folder / "jetstream")
        services.nats.start()


async def resync_of(client: SocketClient) -> str:
    """The reason of the next `resync` for a new epoch; others, of the moment before it, are passed over."""
    while (reason := (await client.next("resync"))["reason"]) != "epoch_changed":
        pass
    return str(reason)


async def test_restored_backups_make_every_client_reload_and_lose_only_what_the_page_says(
    own_line: Line, tmp_path: Path
) -> None:
    """Of the stream alone, and of the databases alone. `beaconfire doctor --new-epoch` calls `renew_epoch`, too."""
    services, backup = own_line.services, tmp_path / "backup"
    owner = await own_line.sign_up("owner")
    campaign = await own_line.campaign(owner)
    settlement = await own_line.settlement(owner, campaign)
    path, room = f"/v1/campaigns/{campaign}/settlements/{settlement}", f"campaign:{campaign}"

    async def change(level: int) -> None:
        await own_line.publisher("PATCH", path, {"level": level}, token=owner.token)

    async def level() -> Any:
        return (await own_line.publisher("GET", path, token=owner.token))["settlement"]["level"]

    found: dict[str, Any] = {}
    async with open_socket(services.gateways[0].url) as client:
        await client.connect(owner.token, [room])
        await change(2)
        await heard(client)
        async with answering(client):
            await asyncio.to_thread(back_up, services, backup)
        for number, what in enumerate(("stream", "databases"), start=3):
            await change(number)
            await heard(client)
            async with open_socket(services.gateways[1].url) as leaving:
                cursor = (await leaving.connect(owner.token, [room]))["cursor"]
            async with answering(client):
                await asyncio.to_thread(restore, services, backup, what)
                await renew_epoch(broker_settings(services.nats, "setup"))
            reasons = [await resync_of(client)]
            async with open_socket(services.gateways[1].url) as returning:
                await returning.connect(owner.token, [room], cursor=cursor)
                reasons.append(await resync_of(returning))
            found[what] = (await level(), reasons)
            client.forget()
            await change(90 + number)
            await heard(client)
            await caught_up(services)

    assert found == {"stream": (3, ["epoch_changed"] * 2), "databases": (2, ["epoch_changed"] * 2)}


async def heard(client: SocketClient) -> dict[str, Any]:
    """The next event about a level."""
    while True:
        frame = await client.next("event")
        if "level" in frame["event"]["payload"].get("changedFields", ()):
            return frame


async def caught_up(services: Services) -> None:
    """Wait until doctor finds nothing wrong: the workers stand where they should, and no event waits."""
    async with asyncio.timeout(60):
        while problems(await looked_at(services)):
            await asyncio.sleep(0.5)
