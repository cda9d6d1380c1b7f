"""Pushes a fragment as a process of its own, and kills or freezes itself before one of its requests to the broker.

python -m tests.kit.pusher NAME TITLE [kill|stop STEP]
"""

import asyncio
import json
import os
import signal
import sys
from typing import Any

from nats.aio.msg import Msg

from beaconfire_kit import broker
from beaconfire_kit.catalogue_store import CatalogueStore
from beaconfire_kit.seams.nats_connection import Connection
from beaconfire_kit.settings import Settings
from tests.kit.fragments import document

TIMEOUT_S = 40.0
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


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


async def main(name: str, title: str, what: str = "", step: str = "0") -> None:
    client = FaultyConnection(SIGNALS.get(what), int(step))
    async with asyncio.timeout(TIMEOUT_S):
        nc = await broker.connect(Settings(), "pusher", client=client, on_closed=lambda: None)
        pushed = await CatalogueStore(nc).push([document(name, title)], by="pusher")
        await broker.close(nc)
    result = {"revision": pushed.revision, "offset": pushed.offset, "requests": client.requests}
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
