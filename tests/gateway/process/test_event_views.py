"""Operators with the token see events of the stream, with their payloads, and nobody else does."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.events.campaign import WorldTimeChanged
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway, settlement
from tests.gateway.workers import AUTHORIZED, OPERATOR_TOKEN


@pytest.fixture(name="watched")
async def _watched(stream: NatsServer, auth: FakeAuth) -> AsyncIterator[Gateway]:
    async with running_gateway(stream, auth, operator_token=OPERATOR_TOKEN) as gateway:
        yield gateway


async def event_at(gateway: Gateway, offset: object, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
    url = f"{gateway.ops_url}/api/v1/ws/events/{offset}"
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as answer:
        return answer.status, await answer.json()


class Tail:
    """The lines of a tail."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def next(self) -> dict[str, Any]:
        """The next line that is no sign of life."""
        while not (line := (await self._answer.content.readline()).strip()):
            pass
        return dict(json.loads(line))


@asynccontextmanager
async def tail(gateway: Gateway, *query: tuple[str, object]) -> AsyncIterator[Tail]:
    """A tail that has begun."""
    url = f"{gateway.ops_url}/api/v1/ws/tail?{urlencode(query)}"
    async with aiohttp.ClientSession() as http, http.get(url, headers=AUTHORIZED) as answer:
        assert answer.status == 200
        assert await answer.content.readline() == b"\n"
        yield Tail(answer)


async def test_an_event_shows_rooms_audience_payload_and_whether_it_is_valid(watched: Gateway) -> None:
    offset = await watched.publish(settlement(), audience=("owner",), correlation_id="c-1")
    wrong = await broker.publish(watched.publisher, "campaign.c1.settlement.s1", b'{"type":"no_such"}', message_id="w")

    status, event = await event_at(watched, offset, AUTHORIZED)
    _, invalid = await event_at(watched, wrong, AUTHORIZED)
    missing = await event_at(watched, 10**9, AUTHORIZED)
    nonsense = await event_at(watched, "x", AUTHORIZED)
    _, anchor = await event_at(watched, 1, AUTHORIZED)

    assert (status, event["isEvent"], event["isValid"], event["type"]) == (200, True, True, "settlement_updated")
    assert event["rooms"] == ["campaign:c1", "campaign:c1/settlement:s1"]
    assert event["audience"] == ["owner"]
    assert event["event"]["metadata"]["correlationId"] == "c-1"
    assert (invalid["isValid"], invalid["reason"]) == (False, "unknown_type")
    assert (missing[0], missing[1]["error"]["code"]) == (404, "not_found")
    assert (nonsense[0], nonsense[1]["error"]["code"]) == (400, "bad_request")
    assert (anchor["isEvent"], anchor["subject"]) == (False, "anchor")


async def test_a_tail_shows_events_as_they_come_by_room_type_and_cause(watched: Gateway) -> None:
    clock = WorldTimeChanged(
        campaign_id="c2",
        previous_time=datetime(2026, 1, 1, 0, tzinfo=UTC),
        new_time=datetime(2026, 1, 1, 1, tzinfo=UTC),
        elapsed_seconds=3600,
    )
    async with (
        tail(watched, ("room", "settlement:s2")) as by_room,
        tail(watched, ("type", "world_time_changed")) as by_type,
        tail(watched, ("user", "u7")) as by_cause,
    ):
        first = await watched.publish(settlement("s1"))
        second = await watched.publish(settlement("s2"))
        third = await watched.publish(clock)
        fourth = await watched.publish(settlement("s3"), user_id="u7")
        shown = [(await one.next())["offset"] for one in (by_room, by_type, by_cause)]
    async with tail(watched, ("after", first - 1)) as again:
        repeated = [(await again.next())["offset"] for _ in range(4)]

    assert shown == [second, third, fourth]
    assert repeated == [first, second, third, fourth]


async def test_payloads_need_the_operator_token(watched: Gateway, gateway: Gateway) -> None:
    async def statuses(at: Gateway, headers: dict[str, str]) -> list[int]:
        async with aiohttp.ClientSession(headers=headers) as http:
            return [(await http.get(f"{at.ops_url}/api/v1/ws/{path}")).status for path in ("events/1", "tail")]

    assert await statuses(watched, {}) == [401, 401]
    assert await statuses(watched, {"Authorization": "Bearer wrong"}) == [401, 401]
    assert await statuses(gateway, AUTHORIZED) == [403, 403]
    async with aiohttp.ClientSession(headers=AUTHORIZED) as http:
        assert (await http.get(f"{watched.url}/api/v1/ws/events/1")).status == 404


async def test_a_ninth_tail_is_refused(watched: Gateway) -> None:
    async with aiohttp.ClientSession(headers=AUTHORIZED) as http:
        open_tails = [await http.get(f"{watched.ops_url}/api/v1/ws/tail") for _ in range(8)]
        refused = await http.get(f"{watched.ops_url}/api/v1/ws/tail")

    assert [one.status for one in open_tails] == [200] * 8
    assert refused.status == 429
