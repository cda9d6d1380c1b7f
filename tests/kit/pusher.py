"""Changes the catalogue as a process of its own, and kills or freezes itself before one of its requests to the broker.

python -m tests.kit.pusher CHANGE [kill|stop STEP]

CHANGE is JSON: {"push": [document, …], "allowRemovals": true}, {"remove": [name, …]} or {"rollback": revision}.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nats.aio.msg import Msg

from beaconfire.nats_server import NatsServer
from beaconfire.processes import Process
from beaconfire_kit import broker
from beaconfire_kit.catalogue_store import CatalogueStore, Pushed
from beaconfire_kit.seams.nats_connection import Connection
from beaconfire_kit.settings import Settings
from tests.forked import Forked

TIMEOUT_S = 40.0
PATIENCE_S = 60.0
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}

Change = Mapping[str, Any]


class Pusher:
    """The process. `fault` is `kill` or `stop`, and the number of the request before which it happens."""

    def __init__(self, server: NatsServer, log: Path, change: Change, *fault: str) -> None:
        command = [sys.executable, "-m", "tests.kit.pusher", json.dumps(change), *fault]
        environment = {**os.environ, **server.environment("catalogue")}
        self.process = Forked(Process("pusher", command, log_path=log, environment=environment))
        self.process.start()

    async def outcome(self) -> Mapping[str, int]:
        """Wait until it ends well, and return its revision, the offset of its marker, and its count of requests."""
        await self.end()
        assert self.process.exit_code == 0, self.process.last_lines
        found: dict[str, int] = json.loads(self.process.last_lines[-1])
        return found

    async def end(self) -> None:
        """Wait until it has ended, well or not."""
        assert await asyncio.to_thread(self.process.wait, PATIENCE_S)

    async def until_frozen(self) -> bool:
        """Wait until the process has stopped itself. False if it has ended before that."""
        async with asyncio.timeout(PATIENCE_S):
            while self.process.is_running:
                if Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
                    return True
                await asyncio.sleep(0.01)
        return False


class FaultyConnection(Connection):
    """Sends this process a signal before its request number `step`, counted from 1."""

    def __init__(self, what: signal.Signals | None, step: int) -> None:
        super().__init__()
        self._what = what
        self._step = step
        self.requests = 0

    async def request(self, *arguments: Any, **more: Any) -> Msg:
        self.requests += 1
        if self._what is not None and self.requests == self._step:
            os.kill(os.getpid(), self._what)
        return await super().request(*arguments, **more)


async def apply(store: CatalogueStore, change: Change) -> Pushed:
    """Change the catalogue."""
    if "push" in change:
        return await store.push(change["push"], by="pusher", allow_removals=change.get("allowRemovals", False))
    if "remove" in change:
        return await store.remove(change["remove"], by="pusher")
    return await store.rollback(change["rollback"], by="pusher")


async def main(change: str, what: str = "", step: str = "0") -> None:
    client = FaultyConnection(SIGNALS.get(what), int(step))
    async with asyncio.timeout(TIMEOUT_S):
        nc = await broker.connect(Settings(), "pusher", client=client, on_closed=lambda: None)
        pushed = await apply(CatalogueStore(nc), json.loads(change))
        await broker.close(nc)
    result = {"revision": pushed.revision, "offset": pushed.offset, "requests": client.requests}
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
