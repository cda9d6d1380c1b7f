"""A gateway on a machine whose clock is wrong."""

import asyncio
from datetime import datetime, timedelta, tzinfo

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.stream import replay
from tests.fakes import FakeAuth
from tests.gateway.conftest import running_gateway


class _Ahead(datetime):
    """A clock that is ten minutes ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + timedelta(minutes=10)


async def test_gateway_whose_clock_is_ahead_becomes_ready(
    stream: NatsServer, auth: FakeAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest history is asked for by the broker's clock."""
    monkeypatch.setattr(replay, "datetime", _Ahead)
    async with asyncio.timeout(20):
        async with running_gateway(stream, auth) as gateway:
            assert gateway.url
