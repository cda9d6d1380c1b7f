"""What one client may ask for: refused with the time to come back, never at the cost of others."""

import asyncio

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.limits import PATIENCE, Rate
from tests.client import Closed, open_socket
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway
from tests.gateway.test_delivery import fence
from tools.nats_server import NatsServer


def test_a_minutes_worth_at_once() -> None:
    """A burst of a minute's worth passes, then one at a time; what is refused says when to come back."""
    rate = Rate(60)
    burst = [rate.take(1, 1000.0) for _ in range(60)]
    refused = rate.take(1, 1000.0)

    assert set(burst) == {0.0}
    assert refused == pytest.approx(1.0)
    assert rate.take(1, 1000.0 + refused) == 0.0
    assert rate.take(1, 1000.0 + refused) > 0


def test_more_than_a_minutes_worth() -> None:
    """More at once than a minute allows passes only a full bucket: it is never refused for good."""
    rate = Rate(10)

    assert rate.take(50, 5.0) == 0.0
    assert rate.take(1, 5.0) == pytest.approx(6.0)


@given(st.integers(1, 200), st.lists(st.tuples(st.floats(0, 5), st.integers(1, 5)), max_size=100))
def test_never_more_than_allowed(per_minute: int, steps: list[tuple[float, int]]) -> None:
    """Over any stretch of time no more is granted than a burst and what flows in; who waits as told is let in."""
    rate, now, granted = Rate(per_minute), 100.0, 0
    for pause, count in steps:
        now += pause
        wait = rate.take(count, now)
        if wait:
            now += wait + 1e-6
            assert rate.take(count, now) == 0.0
        granted += min(count, per_minute)

    assert granted <= per_minute + (now - 100.0) * per_minute / 60 + 1


async def test_messages_a_minute(stream: NatsServer, auth: FakeAuth) -> None:
    """Messages over the rate are answered with `too_many` and the time to come back; events go on, and an operator may
    let the client start afresh."""
    async with running_gateway(stream, auth, messages_per_minute=5) as gateway, open_socket(gateway.url) as client:
        ack = await client.connect(auth.token("viewer"), ["campaign:c1"])
        answers = [await client.ask("ping") for _ in range(5)]
        events = await fence(gateway, client)
        async with aiohttp.ClientSession() as http:
            reset = await http.post(f"{gateway.ops_url}/api/v1/ws/clients/{ack['sessionId']}/reset-limits")
            nobody = await http.post(f"{gateway.ops_url}/api/v1/ws/clients/nobody/reset-limits")
        afresh = await client.ask("ping")

    assert [answer["type"] for answer in answers] == ["reply"] * 4 + ["error"]
    assert answers[4]["code"] == "too_many"
    assert 0 < answers[4]["retryAfterMs"] <= 12_001
    assert len(events) == 1
    assert (reset.status, nobody.status, afresh["type"]) == (204, 404, "reply")


async def test_who_does_not_listen_is_closed(stream: NatsServer, auth: FakeAuth) -> None:
    """A client that goes on sending over the rate is closed with 4429."""
    async with running_gateway(stream, auth, messages_per_minute=5) as gateway, open_socket(gateway.url) as client:
        await client.connect(auth.token("viewer"))
        for _ in range(5 + PATIENCE):
            await client.send("ping")
        end = await client.closed()

    assert end.code == 4429


async def test_rooms_a_minute(stream: NatsServer, auth: FakeAuth) -> None:
    """Asking for rooms faster than allowed is refused as a whole, with the time to come back (A15)."""
    async with running_gateway(stream, auth, rooms_per_minute=10) as gateway, open_socket(gateway.url) as client:
        await client.connect(auth.token("viewer"))
        rooms = [f"campaign:c1/settlement:s{number}" for number in range(8)]
        first = await client.ask("subscribe", rooms=rooms)
        second = await client.ask("subscribe", rooms=rooms)

    assert first["success"] is True
    assert (second["success"], second["error"]["code"]) == (False, "too_many")
    assert second["error"]["retryAfterMs"] > 0


async def test_connections_of_a_user(stream: NatsServer, auth: FakeAuth) -> None:
    """A user has so many connections and no more; one that replaces another of its own does not count (A52)."""
    async with (
        running_gateway(stream, auth, max_sessions_per_user=2) as gateway,
        open_socket(gateway.url) as one,
        open_socket(gateway.url) as two,
        open_socket(gateway.url) as three,
        open_socket(gateway.url) as other,
        open_socket(gateway.url) as replacing,
    ):
        first = await one.connect(auth.token("viewer"))
        await two.connect(auth.token("viewer"))
        with pytest.raises(Closed) as refused:
            await three.connect(auth.token("viewer"), replaces="nonsense")
        await other.connect(auth.token("owner"))
        replaced = await replacing.connect(auth.token("viewer"), replaces=first["sessionId"])

    assert refused.value.code == 4429
    assert replaced["type"] == "connection.ack"


async def test_stats(gateway: Gateway) -> None:
    """Operators see clients, users, rooms and what limits refused; nobody sees them on the public port."""
    async with open_socket(gateway.url) as one, open_socket(gateway.url) as two, aiohttp.ClientSession() as http:
        await one.connect(gateway.auth.token("viewer"), ["campaign:c1", "campaign:c1/settlement:s1"])
        await two.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        async with asyncio.timeout(10), http.get(f"{gateway.ops_url}/api/v1/ws/stats") as answer:
            stats = await answer.json()
        public = await http.get(f"{gateway.url}/api/v1/ws/stats")

    assert (stats["clients"], stats["users"], stats["rooms"]) == (2, 1, 2)
    assert stats["clientsPerRoom"] == {"campaign:c1": 2, "campaign:c1/settlement:s1": 1}
    assert isinstance(stats["refusedByLimit"], dict)
    assert public.status == 404
