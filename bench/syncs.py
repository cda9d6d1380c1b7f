"""The disk: how often a process syncs it, and how long a sync of the database and one of the broker take."""

import asyncio
import re
import shutil
import signal
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.settings import Settings

_FAR_APART_S = 0.05


class Syncs:
    """The syncs that a process has made in a block, counted by strace.

    `count` is None if strace is not installed, or may not watch the process.
    """

    count: int | None = None


@contextmanager
def counted(pid: int, folder: Path) -> Iterator[Syncs]:
    """Count the syncs of the process and its threads within the block. The process is slower meanwhile."""
    syncs = Syncs()
    if shutil.which("strace") is None:
        yield syncs
        return
    report = folder / f"syncs-{time.monotonic_ns()}.txt"
    words = ["strace", "-f", "-c", "-U", "calls,name", "-e", "trace=fsync,fdatasync", "-o", str(report), "-p", str(pid)]
    tracer = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    is_attached = "attached" in tracer.stderr.readline()
    try:
        yield syncs
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate()
    if not is_attached:
        return
    syncs.count = sum(int(calls) for calls in re.findall(r"^\s*(\d+)\s+(?:fsync|fdatasync)$", report.read_text(), re.M))


def floor_ms(nats: NatsServer, folder: Path, times: int) -> tuple[float, float]:
    """Return the median milliseconds of a commit of one row to SQLite, and of storing one event in the broker.

    A change must wait for both, one after the other. They are measured in turn, 20 times a second.
    """
    return asyncio.run(_measure(nats, folder, times))


async def _measure(nats: NatsServer, folder: Path, times: int) -> tuple[float, float]:
    database = sqlite3.connect(folder / f"floor-{time.monotonic_ns()}.db", isolation_level=None)
    settings = Settings(nats_url=nats.url, nats_user="publisher", nats_password=SecretStr(nats.passwords["publisher"]))
    nc = await broker.connect(settings, "floor", on_closed=lambda: None)
    commits, stores = [], []
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE changes (id INTEGER PRIMARY KEY, body TEXT)")
        for number in range(times):
            began = time.perf_counter()
            database.execute("INSERT INTO changes (body) VALUES (?)", ("x" * 500,))
            committed = time.perf_counter()
            await broker.publish(nc, "campaign.floor.state", b"{}", message_id=f"floor-{time.monotonic_ns()}-{number}")
            stores.append(1e3 * (time.perf_counter() - committed))
            commits.append(1e3 * (committed - began))
            await asyncio.sleep(_FAR_APART_S)
    finally:
        await broker.close(nc)
        database.close()
    return statistics.median(commits), statistics.median(stores)
