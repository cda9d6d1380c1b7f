"""Run redis-server as a child process. After `kill`, `start` uses the same port and data."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from beaconfire.nats_server import free_port
from beaconfire.processes import Process

START_S = 20.0


class RedisServer:
    """One server that has written each command to its disk when it answers."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        command = f"redis-server --port {self.port} --bind 127.0.0.1 --appendonly yes --appendfsync always".split()
        self.process = Process("redis", [*command, "--save", "", "--dir", str(folder)], log_path=folder / "redis.log")
        self.client = Redis(port=self.port)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.process.start()
        until = time.monotonic() + START_S
        while True:
            try:
                self.client.ping()
                return
            except RedisError:
                assert self.process.is_running, self.process.last_lines
                assert time.monotonic() < until, self.process.last_lines
                time.sleep(0.02)

    def kill(self) -> None:
        """Kill the server as a crash would."""
        self.process.kill()

    def add(self, *entries: Mapping[str, str | bytes], stream: str = "bus") -> Sequence[bytes]:
        """Add entries to a stream; their ids in it."""
        added: list[Any] = [self.client.xadd(stream, dict[Any, Any](entry)) for entry in entries]
        return added

    def pending(self, stream: str = "bus") -> int:
        """The number of entries that were handed out and not acknowledged."""
        found: Any = self.client.xpending(stream, "beaconfire")
        return int(found["pending"])

    def aside(self, stream: str = "bus") -> Sequence[Mapping[bytes, bytes]]:
        """The entries that were set aside."""
        found: Any = self.client.xrange(f"{stream}:set-aside")
        return [fields for _, fields in found]
