"""Changes a running broker: its users' permissions, and its stream."""

import asyncio
import json
import os
import signal
from typing import Any

from nats.aio.client import Client

from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.seams.nats_connection import PublishDenied
from beaconfire_kit.stream_setup import declare_stream
from tests.conftest import connected

PATIENCE_S = 20.0


def deny(server: NatsServer, subject: str) -> None:
    """Take the permission for a subject away from the publisher."""
    change_permissions(server, 'deny: ["*.*.member.*"', f'deny: ["{subject}", "*.*.member.*"')


def change_permissions(server: NatsServer, before: str, after: str) -> None:
    """Replace a part of the broker's configuration and have it reloaded."""
    config = server.folder / "nats-server.conf"
    text = config.read_text()
    assert before in text
    config.write_text(text.replace(before, after))
    assert server.process.pid is not None
    os.kill(server.process.pid, signal.SIGHUP)


async def until_denied(nc: Client, subject: str, *, denied: bool = True) -> None:
    """Wait until the broker applies the new permission for a subject."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await nc.request(subject, b"probe", timeout=2)
                is_denied = False
            except PublishDenied:
                is_denied = True
            if is_denied is denied:
                return


async def change_stream(setup: Client, change: dict[str, Any]) -> None:
    """Change fields of the stream's configuration."""
    config = broker.stream_config(replicas=1, epoch="e1") | change
    answer = await setup.request(f"$JS.API.STREAM.UPDATE.{broker.STREAM}", json.dumps(config).encode(), timeout=5)
    assert "error" not in json.loads(answer.data)


async def call_api(server: NatsServer, call: str, body: Any = None) -> None:
    """Call JetStream's API and check that it succeeds."""
    async with connected(server, "setup") as setup:
        answer = await setup.request(f"$JS.API.{call}", json.dumps(body or {}).encode())
    assert "error" not in json.loads(answer.data)


async def declare(server: NatsServer) -> str:
    """Declare the stream as setup does; returns its epoch."""
    async with connected(server, "setup") as setup:
        return await declare_stream(setup)
