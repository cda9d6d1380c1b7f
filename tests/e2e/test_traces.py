"""A change is followed through a collector: from the request to the socket, over all services as processes."""

import asyncio
import json
import secrets
import socket
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
from nats.aio.client import Client
from opentelemetry.propagate import extract
from opentelemetry.trace import get_current_span

from beaconfire.local_services import Plan, Services
from beaconfire_kit import broker
from tests.client import open_socket
from tests.collector import NO_PARENT, CollectedSpan, Collector, collecting
from tests.conftest import connected
from tests.e2e.conftest import Line
from tests.forked import all_running
from tests.people import Person

SERVICES = ("auth", "publisher", "gateway", "rules-engine")


@pytest.fixture(name="listener", scope="module")
def _listener() -> Iterator[socket.socket]:
    """Where the collector will answer. What connects before it is there waits."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture(name="traced", scope="module")
def _traced(listener: socket.socket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """One set that sends its traces there."""
    environment = {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{listener.getsockname()[1]}",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    plan = Plan(tmp_path_factory.mktemp("traced"), environment=dict.fromkeys(SERVICES, environment))
    with all_running(plan) as services:
        yield services


@pytest.fixture(name="line")
async def _line(traced: Services) -> AsyncIterator[Line]:
    async with aiohttp.ClientSession() as http:
        yield Line(traced, http)


@pytest.fixture(name="collector")
async def _collector(listener: socket.socket) -> AsyncIterator[Collector]:
    async with collecting(listener.dup()) as collector:
        yield collector


@pytest.fixture(name="owner")
async def _owner(line: Line) -> Person:
    return await line.sign_up("owner")


def below(spans: list[CollectedSpan], parent: CollectedSpan) -> list[CollectedSpan]:
    return [one for one in spans if one.parent == parent.id]


def named(spans: list[CollectedSpan], start: str) -> CollectedSpan:
    """The only span whose name begins with this."""
    (found,) = [one for one in spans if one.name.startswith(start)]
    return found


def traceparent(flags: str = "01") -> tuple[str, str, str]:
    """What a page sends that has begun a trace: its header, the trace's id, and the id of the page's own span."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    return f"00-{trace}-{span}-{flags}", trace, span


async def stored(nc: Client, offset: int) -> tuple[dict[str, str], dict[str, str]]:
    """The headers and the metadata of a message of the stream."""
    message = await nc.jetstream().get_msg(broker.STREAM, offset)
    return dict(message.headers or {}), json.loads(message.data or b"")["metadata"]


async def test_change_is_one_trace_from_the_request_over_the_broker_to_the_socket(
    line: Line, owner: Person, collector: Collector
) -> None:
    """With the change that a worker makes because of it, in a transaction of its own."""
    campaign = await line.campaign(owner)
    header, trace, page = traceparent()
    async with open_socket(line.services.gateways[0].url) as client:
        await client.connect(
            owner.token, [f"campaign:{campaign}"], types={f"campaign:{campaign}": ["settlement_updated"]}
        )
        path = f"/v1/campaigns/{campaign}/settlements"
        await line.publisher("POST", path, {"name": "A"}, token=owner.token, traceparent=header, tracestate="shop=1")
        event = await client.next("event")
    spans = await collector.until(trace, POST=1, transaction=2, create=2, publish=2, deliver=2, handle=1)
    async with connected(line.services.nats, "publisher") as nc:
        headers, metadata = await stored(nc, event["offset"])
    request = named(spans, "POST ")
    (transaction,) = below(spans, request)
    (create,) = below(spans, transaction)
    publish, deliver, handle = (named(below(spans, create), name) for name in ("publish", "deliver", "handle"))
    (its_transaction,) = below(spans, handle)
    (consequence,) = below(spans, its_transaction)

    assert request.parent == page
    assert (transaction.name, transaction.attributes["db.system.name"]) == ("transaction", "sqlite")
    assert [(one.service, one.kind) for one in (request, transaction, create, publish, deliver, handle)] == [
        ("beaconfire-publisher", "SERVER"),
        ("beaconfire-publisher", "CLIENT"),
        ("beaconfire-publisher", "PRODUCER"),
        ("beaconfire-publisher", "CLIENT"),
        ("beaconfire-gateway", "CONSUMER"),
        ("beaconfire-rules-engine", "CONSUMER"),
    ]
    assert metadata == event["event"]["metadata"]
    assert get_current_span(extract(event["event"]["metadata"])).get_span_context().trace_id == int(trace, 16)
    assert metadata["traceparent"] == f"00-{trace}-{create.id}-01"
    assert [headers[name] for name in ("traceparent", "tracestate")] == [metadata["traceparent"], "shop=1"]
    assert request.name == "POST /v1/campaigns/{campaign_id}/settlements"
    assert request.attributes["url.path"] == path
    assert request.attributes["http.response.status_code"] == 201
    assert request.attributes["beaconfire.correlation_id"] == metadata["correlationId"]
    assert deliver.name == "deliver campaign.>"
    assert (
        deliver.attributes.items()
        >= {
            "messaging.system": "nats",
            "messaging.operation.type": "process",
            "messaging.destination.name": f"campaign.{campaign}.settlement.{event['event']['payload']['settlementId']}",
            "messaging.message.id": event["event"]["id"],
            "messaging.message.conversation_id": metadata["correlationId"],
            "beaconfire.event.type": "settlement_updated",
            "beaconfire.offset": event["offset"],
            "beaconfire.sessions": 1,
        }.items()
    )
    assert request.started_ns < create.started_ns < publish.started_ns < deliver.started_ns < deliver.ended_ns
    assert (consequence.service, consequence.name) == ("beaconfire-rules-engine", "create campaign.>")
    assert sorted(one.name for one in below(spans, consequence)) == ["deliver campaign.>", "publish campaign.>"]
    assert not any(one.has_failed for one in spans)


async def test_change_that_is_not_sampled_leaves_no_trace_in_events_and_headers(
    line: Line, owner: Person, collector: Collector
) -> None:
    campaign = await line.campaign(owner)
    header, trace, _ = traceparent("00")
    next_header, next_trace, _ = traceparent()
    async with open_socket(line.services.gateways[0].url) as client:
        await client.connect(
            owner.token, [f"campaign:{campaign}"], types={f"campaign:{campaign}": ["settlement_updated"]}
        )
        for one in (header, next_header):
            path = f"/v1/campaigns/{campaign}/settlements"
            await line.publisher("POST", path, {"name": "A"}, token=owner.token, traceparent=one)
        unsampled, sampled = [(await client.next("event"))["event"] for _ in range(2)]
    await collector.until(next_trace, POST=1, deliver=1)

    assert "traceparent" not in unsampled["metadata"]
    assert next_trace in sampled["metadata"]["traceparent"]
    assert collector.of(trace) == []


@pytest.mark.parametrize(
    "header",
    [
        "00-" + "0" * 32 + "-" + "1" * 16 + "-01",
        "ff-" + "1" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "1" * 16 + "-01-more",
        "00-" + "X" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 8_000,
    ],
    ids=["no trace", "version ff", "too long", "no hex digits", "8 kB"],
)
async def test_malformed_traceparent_begins_another_trace(
    line: Line, owner: Person, collector: Collector, header: str
) -> None:
    correlation = secrets.token_hex(8)
    more = {"traceparent": header, "tracestate": "=" * 600, "X_Correlation_Id": correlation}
    await line.publisher("POST", "/v1/campaigns", {"name": "A"}, token=owner.token, **more)

    def mine() -> list[CollectedSpan]:
        return [one for one in collector.spans if one.attributes.get("beaconfire.correlation_id") == correlation]

    await collector.until_true(lambda: bool(mine()))
    (request,) = mine()

    assert request.parent == NO_PARENT
    assert request.trace != "1" * 32


async def test_each_event_of_a_batch_keeps_its_own_context(line: Line, owner: Person, collector: Collector) -> None:
    campaign = await line.campaign(owner)
    header, trace, _ = traceparent()
    events = [
        {
            "type": "entity_updated",
            "payload": {"campaignId": campaign, "entityType": "npc", "entityId": f"n{number}", "changedFields": []},
        }
        for number in range(40)
    ]
    await line.publisher("POST", "/v1/events", events, token=owner.token, traceparent=header)
    spans = await collector.until(trace, create=40, publish=40, deliver=40)
    by_name = {name: [one for one in spans if one.name.startswith(name)] for name in ("create", "publish", "deliver")}
    created = {one.id for one in by_name["create"]}

    assert len(created) == 40
    assert {one.parent for one in by_name["publish"]} == {one.parent for one in by_name["deliver"]} == created
    assert any(one.attributes.get("messaging.batch.message_count") == 40 for one in by_name["publish"])
    assert sorted(one.attributes["messaging.message.id"] for one in by_name["create"]) == sorted(
        one.attributes["messaging.message.id"] for one in by_name["deliver"]
    )


async def test_invalid_event_of_another_publisher_marks_the_span_of_its_delivery(
    line: Line, owner: Person, collector: Collector
) -> None:
    """A service in another language puts its own context into the metadata. The gateway continues it."""
    header, trace, span = traceparent()
    metadata = {"timestamp": "2026-11-21T10:00:00Z", "source": "api", "traceparent": header}
    body = {"id": "x1", "type": "settlement_updated", "version": 1, "payload": {"level": 1}, "metadata": metadata}
    campaign, message_id = await line.campaign(owner), secrets.token_hex(8)
    async with open_socket(line.services.gateways[0].url) as client, connected(line.services.nats, "publisher") as nc:
        await client.connect(owner.token, [f"campaign:{campaign}"])
        subject = f"campaign.{campaign}.settlement.s1"
        await broker.publish(nc, subject, json.dumps(body).encode(), message_id=message_id)
        spans = await collector.until(trace, deliver=1)
    deliver = named(spans, "deliver")

    assert (deliver.parent, deliver.has_failed) == (span, True)
    assert deliver.attributes["error.type"] == "invalid"


async def test_refused_request_is_no_failure_and_shows_its_status(
    line: Line, owner: Person, collector: Collector
) -> None:
    header, trace, _ = traceparent()
    url = f"{line.services.publisher_url}/v1/campaigns/none/settlements?access_token=secret"
    async with aiohttp.ClientSession() as http:
        headers = {"Authorization": f"Bearer {owner.token}", "traceparent": header}
        async with http.post(url, json={"name": "A"}, headers=headers) as answer:
            assert answer.status == 403
    (request,) = await collector.until(trace, POST=1)

    assert (request.attributes["http.response.status_code"], request.has_failed) == (403, False)
    assert "secret" not in str(request)


async def test_service_stops_in_time_while_the_collector_is_away(line: Line, traced: Services) -> None:
    """What could not be sent is dropped. Last in this module: it stops a gateway."""
    gateway = traced.gateways[0]
    await asyncio.to_thread(gateway.stop, 20)

    assert gateway.process.exit_code == 0
