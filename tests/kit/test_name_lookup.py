"""A name server that does not answer occupies one thread, however often its name is tried."""

import asyncio
import socket
from collections.abc import Iterator
from threading import Event

import pytest

from beaconfire_kit.name_lookup import NameLookup, NameNotFound
from beaconfire_kit.seams.nats_connection import Connection

HOST = "broker.example"
ATTEMPTS = 10


class Resolver:
    """Answers for no name until `answering` is set."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answering = Event()
        self.problem: OSError | None = None

    def resolve(self, host: str, _port: int) -> None:
        self.asked.append(host)
        self.answering.wait()
        if self.problem is not None:
            raise self.problem


@pytest.fixture(name="resolver")
def _resolver() -> Iterator[Resolver]:
    resolver = Resolver()
    yield resolver
    resolver.answering.set()


async def test_name_is_looked_up_once_while_no_name_server_answers(resolver: Resolver) -> None:
    lookup = NameLookup(resolver.resolve)
    for _ in range(ATTEMPTS):
        with pytest.raises(NameNotFound, match=f"no name server answers for {HOST}"):
            await lookup.check(HOST, 4222, timeout_s=0.01)
    asked = list(resolver.asked)
    waiting = asyncio.ensure_future(lookup.check(HOST, 4222, timeout_s=30))
    resolver.answering.set()
    await waiting
    await lookup.check(HOST, 4222, timeout_s=30)

    assert asked == [HOST]
    assert resolver.asked == [HOST, HOST]


async def test_name_that_does_not_exist_is_told_and_looked_up_again(resolver: Resolver) -> None:
    resolver.problem = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    resolver.answering.set()
    lookup = NameLookup(resolver.resolve)
    for _ in range(2):
        with pytest.raises(socket.gaierror, match="not known"):
            await lookup.check(HOST, 4222, timeout_s=30)

    assert resolver.asked == [HOST, HOST]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_address_needs_no_name_server(resolver: Resolver, address: str) -> None:
    await NameLookup(resolver.resolve).check(address, 4222, timeout_s=30)

    assert resolver.asked == []


async def test_connection_whose_brokers_name_is_not_found_keeps_one_lookup(resolver: Resolver) -> None:
    """It keeps trying, and connects nowhere."""
    failed: asyncio.Queue[Exception] = asyncio.Queue()
    nc = Connection()
    nc.names = NameLookup(resolver.resolve)
    connecting = asyncio.ensure_future(
        nc.connect(
            f"nats://{HOST}:4222",
            connect_timeout=0.01,  # type: ignore[arg-type]
            reconnect_time_wait=0.01,  # type: ignore[arg-type]
            max_reconnect_attempts=-1,
            error_cb=failed.put,
        )
    )
    problems = [await failed.get() for _ in range(ATTEMPTS)]
    connecting.cancel()
    await asyncio.gather(connecting, return_exceptions=True)

    assert {type(one) for one in problems} == {NameNotFound}
    assert resolver.asked == [HOST]
