"""One change can be followed by its correlation id through the logs: outbox, broker, gateway."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from beaconfire.nats_server import NatsServer
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.relay import Relay
from tests.client import open_socket
from tests.conftest import connected
from tests.fakes import FakeAuth
from tests.gateway.conftest import running_gateway, settlement
from tests.kit.outboxes import ROWS, opened


@pytest.fixture(name="debugging")
def _debugging() -> Iterator[None]:
    """The level of the log is `debug`."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.DEBUG)
    yield
    root.setLevel(before)


async def follow(server: NatsServer, auth: FakeAuth, folder: Path) -> list[tuple[str, object]]:
    """Make a change that a client hears of. Returns what was logged with its correlation id, and the offsets."""
    change = Envelope(settlement(), Metadata(source="api", correlation_id="corr-1"))
    async with (
        running_gateway(server, auth) as gateway,
        connected(server, "publisher") as nc,
        opened(folder) as database,
        open_socket(gateway.url) as client,
    ):
        await client.connect(auth.token("viewer"), ["campaign:c1"])
        outbox = Outbox(database, ROWS)
        relay = Relay(outbox, service="publisher")
        with capture_logs() as lines:
            async with database.writing() as tx:
                await outbox.add(tx, [change])
            await relay.drain(nc)
            offset = (await client.next("event"))["offset"]
    caused = [one for one in lines if one.get("correlation_id") == "corr-1"]
    assert {one["offset"] for one in caused if "offset" in one} <= {offset}
    assert [one["events"] for one in caused if "events" in one] == [[change.message_id]]
    return [(one["event"], one["log_level"]) for one in caused]


@pytest.mark.usefixtures("debugging")
async def test_a_change_is_logged_when_written_stored_and_delivered(
    stream: NatsServer, auth: FakeAuth, tmp_path: Path
) -> None:
    assert sorted(await follow(stream, auth, tmp_path)) == [
        ("delivered an event", "debug"),
        ("the stream has an event", "debug"),
        ("wrote events to the outbox", "info"),
    ]


async def test_a_change_is_one_line_unless_the_level_is_debug(
    stream: NatsServer, auth: FakeAuth, tmp_path: Path
) -> None:
    assert await follow(stream, auth, tmp_path) == [("wrote events to the outbox", "info")]
