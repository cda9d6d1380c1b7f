"""FastStream still has the private names that `beaconfire_kit/seams/faststream_broker.py` leans on."""

from faststream.nats import NatsBroker

from beaconfire.nats_server import NatsServer
from beaconfire_kit.consumer import faststream_options
from beaconfire_kit.seams.faststream_broker import FastStreamBroker
from beaconfire_kit.seams.nats_connection import Connection
from tests.conftest import broker_settings
from tests.kit.seams.signatures import parameters, source


def test_faststream_still_connects_in_one_place() -> None:
    """`connect` calls `_connect`, which has no parameters and takes its options from `_connection_kwargs`."""
    assert parameters(NatsBroker._connect) == ["self"]
    assert "self._connection_kwargs" in source(NatsBroker._connect)
    assert "self.config.connect(" in source(NatsBroker._connect)


async def test_faststream_reads_from_a_connection_of_ours(stream: NatsServer) -> None:
    """FastStream's subscribers read from a `Connection`, which is also the broker's `nc`."""
    faststream = FastStreamBroker(**faststream_options(broker_settings(stream, "auth"), "test"))
    before = faststream.nc
    connection = await faststream.connect()
    try:
        assert before is None
        assert type(connection) is Connection
        assert faststream.nc is connection
    finally:
        await faststream.stop()
