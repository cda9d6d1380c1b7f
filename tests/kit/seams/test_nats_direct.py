"""nats-py still numbers subscriptions as `beaconfire_kit/seams/nats_direct.py` expects."""

import pytest
from nats.aio.client import Client

from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.seams.nats_direct import DirectClient
from tests.conftest import broker_settings
from tests.kit.seams.signatures import source


def test_nats_py_still_numbers_subscriptions_before_it_waits() -> None:
    """`subscribe` takes the next number before its first await."""
    before_the_first_await = source(Client.subscribe).partition("await ")[0]

    assert "self._sid += 1 sid = self._sid" in before_the_first_await
    assert Client()._sid == 0


async def test_direct_subscription_calls_a_plain_function(stream: NatsServer) -> None:
    """A message goes to the function with its raw headers. An exception there is not fatal, and requests still work."""
    heard: list[tuple[bytes, bytes, bytes | None]] = []

    def hear(subject: bytes, _reply: bytes, body: bytes, headers: bytes | None) -> None:
        heard.append((subject, body, headers))
        raise RuntimeError("a bug of ours")

    client = DirectClient()
    await broker.connect(
        broker_settings(stream, "gateway"), "test-direct", client=client, on_closed=lambda: pytest.fail("closed")
    )
    await client.subscribe_direct("ephemeral.>", hear)
    for number in range(3):
        await client.publish("ephemeral.x", b"%d" % number, headers={"A": "b"})
    info = await client.request("$JS.API.STREAM.INFO.EVENTS", b"")
    await broker.close(client)

    assert [body for _, body, _ in heard] == [b"0", b"1", b"2"]
    assert heard[0][0] == b"ephemeral.x"
    assert heard[0][2] == b"NATS/1.0\r\nA: b\r\n\r\n"
    assert b'"EVENTS"' in info.data
