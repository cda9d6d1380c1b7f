"""The power fails while a relay publishes a backlog: `python -m tests.faults.power_loss`, as root.

The broker's store is on an ext4 file system in a file. At a random moment the broker is frozen and that file is copied.
The copy has what had reached the disk, and nothing that was only in memory. A new broker starts on the copy. Every
event that the relay took as stored must be there, with its offset, and those of a root in the order of their rows. Of a
batch, all events are there or none.

With `sync_interval: 2m`, the broker's default, acknowledged events are lost. That run shows that the simulation works.
"""

import argparse
import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from nats.aio.client import Client
from rich.console import Console
from sqlalchemy import MetaData, insert

from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker, logs, outbox_table, relay
from beaconfire_kit.database import Database
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.relay import Relay
from beaconfire_kit.stream_setup import declare_stream
from tests.conftest import connected

TABLES = MetaData()
ROWS = outbox_table.table(TABLES)
EVENTS = 20_000
ROOTS = 20
WITHIN_S = 1.0
DISK_MIB = 512


@dataclass(frozen=True, slots=True)
class Found:
    """What was acknowledged before the power failed, and what was missing or elsewhere afterwards."""

    acknowledged: int
    lost: int
    moved: int
    """With another offset, or behind a later event of its root."""
    torn: int
    """Batches of which only a part is left."""

    def __add__(self, other: "Found") -> "Found":
        mine, others = astuple(self), astuple(other)
        return Found(*(one + another for one, another in zip(mine, others, strict=True)))

    @property
    def is_kept(self) -> bool:
        """Whether nothing was damaged."""
        return self.lost == self.moved == self.torn == 0


class LazyNatsServer(NatsServer):
    """A broker that syncs its disk every two minutes, as it does by default."""

    def _write_config(self) -> None:
        super()._write_config()
        config = self.folder / "nats-server.conf"
        config.write_text(config.read_text().replace("sync_interval: always", "sync_interval: 2m"))


@contextmanager
def mounted(image: Path, where: Path) -> Iterator[Path]:
    """Mount the file system in a file."""
    where.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(where)], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True)


async def lose_power(folder: Path, kind: type[NatsServer], *, in_batches: bool) -> Found:
    """Publish a backlog, take the power away, and look at what is left."""
    image, copy = folder / "disk", folder / "disk-after"
    with image.open("wb") as file:
        file.truncate(DISK_MIB * 2**20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    with mounted(image, folder / "before") as disk:
        nats = kind(disk / "nats")
        nats.start()
        try:
            stored = await _publish(nats, folder, copy, in_batches=in_batches)
        finally:
            nats.thaw()
            nats.kill()
    with mounted(copy, folder / "after") as disk:
        again = kind(disk / "nats")
        again.start()
        try:
            left = await _left(again)
        finally:
            again.kill()
    moved = sum(id_ in left and left[id_] != offset for id_, offset in stored.items())
    for root in range(ROOTS):
        found = [int(id_) for id_ in sorted(left, key=left.__getitem__) if int(id_) % ROOTS == root]
        moved += sum(before > after for before, after in pairwise(found))
    torn = int(in_batches and len(left) % relay.BATCH > 0)
    return Found(len(stored), len(stored.keys() - left.keys()), moved, torn)


async def _publish(nats: NatsServer, folder: Path, copy: Path, *, in_batches: bool) -> dict[str, int]:
    """Publish until the power fails. Returns the acknowledged events, with their offsets."""
    database = Database(f"sqlite+aiosqlite:///{folder / 'outbox.db'}")
    async with connected(nats, "setup") as setup:
        await declare_stream(setup)
    async with connected(nats, "publisher") as nc:
        box = Outbox(database, ROWS)
        state = await broker.stream_state(nc)
        box.position.seen(state.epoch, state.last, known=0)
        async with database.writing() as tx:
            await tx.run_sync(TABLES.create_all)
            now = datetime.now(UTC)
            await tx.execute(
                insert(ROWS),
                [
                    {"event_id": str(n), "subject": f"campaign.c{n % ROOTS}.state", "body": b"{}", "created_at": now}
                    for n in range(EVENTS)
                ],
            )
        at_a_time = relay.BATCH if in_batches else relay.ATOMIC_FROM - 1
        sending = asyncio.create_task(Relay(box, service="publisher", batch=at_a_time, max_unmarked=EVENTS).drain(nc))
        while not box._cursors:
            await asyncio.sleep(0.01)
        await asyncio.sleep(random.uniform(0, WITHIN_S))  # any moment is as good as another
        nats.freeze()
        stored = {id_: cursor.offset for id_, cursor in box._cursors.items() if cursor is not None}
        shutil.copyfile(nats.folder.parent.parent / "disk", copy)
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending
        nats.thaw()
    await database.close()
    return stored


async def _left(nats: NatsServer) -> dict[str, int]:
    """Return the events of the stream, with their offsets."""
    async with connected(nats, "setup") as setup:
        return await _read(setup)


async def _read(nc: Client) -> dict[str, int]:
    js = nc.jetstream()
    try:
        state = (await js.stream_info(broker.STREAM)).state
    except Exception:  # no such stream
        return {}
    found = {}
    for offset in range(max(1, state.first_seq), state.last_seq + 1):
        with suppress(Exception):
            message = await js.get_msg(broker.STREAM, offset)
            if (id_ := (message.headers or {}).get("Nats-Msg-Id", "")).isdigit():
                found[id_] = offset
    return found


async def main() -> int:
    """Return 1 if an acknowledged event was lost with `sync_interval: always`, or none with the default."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.power_loss")
    parser.add_argument("--rounds", type=int, default=5, help="how often the power fails for each kind (5)")
    rounds = parser.parse_args().rounds
    if os.geteuid() != 0:
        sys.stderr.write("Mounting a file system needs root.\n")
        return 2
    console, is_as_promised = Console(), True
    for name, kind, in_batches in (
        ("always, event by event", NatsServer, False),
        ("always, in atomic batches", NatsServer, True),
        ("2m, in atomic batches", LazyNatsServer, True),
    ):
        total = Found(0, 0, 0, 0)
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                total += await lose_power(Path(folder), kind, in_batches=in_batches)
        counts = f"{total.acknowledged:,} acknowledged, {total.lost:,} lost, {total.moved:,} moved, {total.torn} torn"
        console.print(f"sync_interval {name}: {counts}", highlight=False, soft_wrap=True)
        is_as_promised &= total.is_kept if kind is NatsServer else total.lost > 0
    return 0 if is_as_promised else 1


if __name__ == "__main__":
    logs.configure("power_loss", level="error", format="console")
    sys.exit(asyncio.run(main()))
