"""nats-py still has the private names that `beaconfire_kit/seams/nats_connection.py` leans on.

test_broker.py tests the connection itself.
"""

import asyncio
import re

import pytest
from nats.aio.client import PING_PROTO, Client
from nats.aio.transport import TcpTransport

from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.seams.nats_connection import Connection, server_info
from tests.architecture.sources import ROOT, SOURCES, modules, third_party
from tests.conftest import broker_settings
from tests.kit.seams.signatures import parameters, source


def test_nats_py_still_has_the_methods_that_are_replaced() -> None:
    """Each has the parameters of before, and is called where it was called."""
    assert parameters(Client._process_headers) == parameters(Connection._process_headers)
    assert parameters(Client._process_err) == parameters(Connection._process_err)
    assert parameters(Client._attempt_reconnect) == parameters(Connection._attempt_reconnect)
    assert parameters(Client._connect_to_server) == parameters(Connection._connect_to_server)
    assert parameters(Client._process_op_err) == ["self", "e"]
    assert parameters(Client._send_ping) == parameters(Connection._send_ping)
    assert "self._process_headers(headers)" in source(Client._process_msg)
    assert "self._attempt_reconnect()" in source(Client._process_op_err)
    assert "self._connect_to_server(s)" in source(Client._select_next_server)
    assert "self._send_ping(" in source(Client.flush)
    assert "self._process_err(" in source(Client._process_connect_init) + source(Client()._ps.parse)


def test_nats_py_still_has_the_buffer_and_the_requests() -> None:
    """A client keeps pending bytes, PINGs without a PONG, and requests without an answer under the names of before."""
    client = Client()

    assert (client._pending, client._pending_data_size, client._pongs) == ([], 0, [])
    assert client._resp_map == {}
    assert client._resp_sub_prefix is None
    assert isinstance(client._max_payload, int)
    assert parameters(Client._flush_pending)[0] == "self"
    assert PING_PROTO == b"PING\r\n"


async def test_nats_py_still_has_its_socket_and_the_servers_info(stream: NatsServer) -> None:
    """A connected client has a writer that can be aborted, and knows what the server said about itself."""
    nc = await broker.connect(broker_settings(stream, "auth"), "test", on_closed=lambda: pytest.fail("closed"))
    try:
        transport, info = nc._transport, server_info(nc)
        assert isinstance(transport, TcpTransport)
        writer = transport._io_writer
    finally:
        await broker.close(nc)

    assert isinstance(writer, asyncio.StreamWriter)
    assert info["version"]
    assert info["max_payload"] > 0


def test_every_connection_is_ours() -> None:
    """No code of ours creates a connection of nats-py's or FastStream's own."""
    others = re.compile(r"\bnats\.connect\(|(?<![A-Za-z])Client\(\)|(?<![A-Za-z])NatsBroker\(\*|\bNATS\(\)")
    users = [path for path in modules(*SOURCES) if third_party(path) & {"nats", "faststream"}]
    found = [path for path in users if others.search((ROOT / path).read_text())]

    assert found == []
