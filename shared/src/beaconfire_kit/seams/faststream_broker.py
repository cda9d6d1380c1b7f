"""FastStream on a `Connection` of ours, which no message can end.

This leans on private names of FastStream's `NatsBroker`: `_connect`, which is replaced, and `_connection_kwargs`.
tests/kit/seams/test_faststream_broker.py fails when a release changes them.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from faststream.nats import NatsBroker
from nats.aio.client import Client

from beaconfire_kit.seams.nats_connection import Connection


class FastStreamBroker(NatsBroker):
    """FastStream's broker. `nc` is the connection that it has opened, or None before it opens one.

    FastStream's own `connection` raises an exception before it has connected, and again after `stop`.

    `error_cb` is called as nats-py calls it. FastStream would wrap it in a callback that raises an exception if the
    broker refuses the password. That ends the attempts to reconnect, so a changed password would end the connection.
    """

    def __init__(self, *args: Any, error_cb: Callable[[Exception], Awaitable[None]], **options: Any) -> None:
        super().__init__(*args, **options)
        self._error_cb = error_cb
        self.nc: Connection | None = None

    async def _connect(self) -> Client:
        self.nc = connection = Connection()
        await connection.connect(**self._connection_kwargs | {"error_cb": self._error_cb})
        self.config.connect(connection)
        return connection
