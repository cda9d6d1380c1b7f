"""A gateway survives when the machine has no more files, or the broker allows no more subscriptions."""

import asyncio
import os
import resource
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from beaconfire import broker_config
from beaconfire.local_services import DidNotStart
from beaconfire.nats_server import NatsServer
from beaconfire_kit.envelope import Envelope, Metadata
from tests.client import open_socket
from tests.conftest import connected
from tests.fakes import FakeAuth
from tests.gateway.conftest import settlement
from tests.gateway.processes import gateway_process

ROOM = "campaign:c1"
SPARE = 5


async def test_gateway_without_free_files_refuses_new_clients_and_serves_the_others(
    tmp_path: Path, stream: NatsServer, auth: FakeAuth
) -> None:
    """F29: new clients are accepted again when others have left."""
    token = auth.token("viewer")
    async with AsyncExitStack() as stack:
        process = await stack.enter_async_context(gateway_process(tmp_path, stream, auth))
        client = await stack.enter_async_context(open_socket(process.url))
        await client.connect(token, [ROOM])
        pid = process.process.pid
        assert pid is not None
        used = len(os.listdir(f"/proc/{pid}/fd"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + SPARE, used + SPARE))
        crowd = await stack.enter_async_context(AsyncExitStack())
        entering = [asyncio.create_task(crowd.enter_async_context(open_socket(process.url))) for _ in range(4 * SPARE)]
        entered, _ = await asyncio.wait(entering, return_when=asyncio.FIRST_EXCEPTION)
        nc = await stack.enter_async_context(connected(stream, "publisher"))
        one = Envelope(settlement(), Metadata(source="api"))
        await nc.publish(one.subject, one.encode())
        heard = await client.next("event")
        for task in entering:
            task.cancel()
        await asyncio.gather(*entering, return_exceptions=True)
        await crowd.aclose()
        later = await stack.enter_async_context(open_socket(process.url))
        ack = await later.connect(token, [ROOM])

    assert any(task.exception() for task in entered)
    assert heard["event"]["id"] == one.id
    assert ack["rooms"][ROOM]["success"] is True


async def test_gateway_that_gets_too_few_subscriptions_ends_with_a_reason(
    tmp_path: Path, stream: NatsServer, auth: FakeAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F30: it does not run without hearing events."""
    render = broker_config.render

    def narrow(**options: Any) -> str:
        return "max_subscriptions: 1\n" + render(**options)

    monkeypatch.setattr("beaconfire.nats_server.render", narrow)
    stream.kill()
    stream.start()
    with pytest.raises(DidNotStart, match="ended with 1"):
        async with gateway_process(tmp_path, stream, auth):
            pass
    log = (tmp_path / "gateway.log").read_text()

    assert "closed" in log
