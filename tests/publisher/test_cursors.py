"""Answers have the cursor of their snapshot or of their change's event."""

import asyncio
import time
from typing import Any, TypeVar

import pytest
from aiohttp import web
from nats.aio.client import Client
from nats.js.errors import NotFoundError
from pydantic import BaseModel

from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.received import read
from beaconfire_kit.stream_setup import declare_stream
from beaconfire_kit.web import CURSOR_HEADER, OFFSET_HEADER, PENDING_HEADER, read_body
from beaconfire_publisher import campaigns
from beaconfire_publisher.app import Tuning
from tests.auth.conftest import Auth
from tests.conftest import connected
from tests.cursors import cursor_of
from tests.publisher.conftest import PATIENCE_S, Api, Heard, Publisher, publisher_settings, publishing

WRITES = 60

M = TypeVar("M", bound=BaseModel)


async def settlements(publisher: Publisher) -> tuple[dict[str, int], int]:
    """The level of each settlement as it is read, and the offset of that read's cursor."""
    answer = await publisher.viewer.get(f"{publisher.campaign}/settlements")
    levels = {one["id"]: one["level"] for one in answer.body["settlements"]}
    return levels, place(answer.headers)


PATIENT = Tuning(cursor_wait_s=PATIENCE_S)
"""Answers wait for the relay however busy the machine is."""
patiently = pytest.mark.parametrize("tuning", [PATIENT], ids=["patient"])


@patiently
async def test_snapshot_and_the_events_after_its_cursor_have_no_gap_under_writes(publisher: Publisher) -> None:
    """Requirement A59."""
    path = f"{publisher.campaign}/settlements"
    made = [await publisher.create("settlements", name=f"S{number}") for number in range(5)]
    changed: dict[int, tuple[str, int]] = {}
    snapshots: list[tuple[dict[str, int], int]] = []
    writing = True

    async def write(writer: int) -> None:
        for number in range(WRITES // 5):
            level = writer * 15 + number + 1
            answer = await publisher.editor.patch(f"{path}/{made[writer]['id']}", {"level": level})
            changed[place(answer.headers, OFFSET_HEADER)] = (made[writer]["id"], level)

    async def read() -> None:
        while writing:
            snapshots.append(await settlements(publisher))

    reading = asyncio.create_task(read())
    await asyncio.gather(*(write(writer) for writer in range(5)))
    writing = False
    await reading
    truth, _ = await settlements(publisher)
    events = sorted((offset, *change) for offset, change in changed.items())

    for levels, cursor in snapshots:
        assert levels | {id_: level for offset, id_, level in events if offset > cursor} == truth
    assert len(snapshots) > 3
    assert len({cursor for _, cursor in snapshots}) > 1
    assert len(events) == WRITES


@patiently
async def test_answer_to_a_change_has_the_cursor_of_its_last_event(publisher: Publisher) -> None:
    path = f"{publisher.campaign}/settlements"
    created = await publisher.editor.post(path, {"name": "Emberford"})
    made = await publisher.heard.event()
    thing = f"{path}/{created.body['settlement']['id']}"
    same = await publisher.editor.patch(thing, {"name": "Emberford"})
    await publisher.editor.post(f"{thing}/structures", {"name": "Mill"})
    await publisher.heard.event()
    deleted = await publisher.editor.delete(thing)
    _, last = await publisher.heard.event(), await publisher.heard.event()

    assert place(created.headers, OFFSET_HEADER) == publisher.heard.offsets[made.id]
    assert not {OFFSET_HEADER, PENDING_HEADER} & set(same.headers)
    assert place(deleted.headers, OFFSET_HEADER) == publisher.heard.offsets[last.id]


@patiently
async def test_publisher_that_just_started_gives_a_cursor_between_snapshot_and_later_events(
    stream: NatsServer, auth: Auth, publisher: Publisher, heard: Heard, tmp_path: Any
) -> None:
    made = await publisher.create("settlements", name="Emberford")
    path = f"{publisher.campaign}/settlements/{made['id']}"
    before = max(heard.offsets.values())
    settings = publisher_settings(stream, tmp_path, f"{auth.url}/.well-known/jwks.json")
    async with publishing(settings, heard, tuning=PATIENT) as second:
        await second.says("ready")
        answer = await Api(second.http, second.url, publisher.viewer.token).get(path)

    changed = await publisher.editor.patch(path, {"level": 2})
    assert cursor_of(answer.headers[CURSOR_HEADER]).epoch == cursor_of(changed.headers[OFFSET_HEADER]).epoch
    assert before <= place(answer.headers) < place(changed.headers, OFFSET_HEADER)


@patiently
async def test_publisher_that_does_not_relay_gives_cursors_of_its_events_too(
    stream: NatsServer, auth: Auth, publisher: Publisher, heard: Heard, tmp_path: Any
) -> None:
    """F17: the events of two publishers are published once and in order."""
    made = await publisher.create("settlements", name="Emberford")
    path = f"{publisher.campaign}/settlements/{made['id']}"
    settings = publisher_settings(stream, tmp_path, f"{auth.url}/.well-known/jwks.json")
    async with publishing(settings, heard, tuning=PATIENT) as second:
        await second.says("ready")
        other = Api(second.http, second.url, publisher.editor.token)
        answers = [
            await (other if level % 2 else publisher.editor).patch(path, {"level": level}) for level in range(1, 21)
        ]
        events = [await heard.event() for _ in answers]

    assert [heard.offsets[event.id] for event in events] == sorted(heard.offsets[event.id] for event in events)
    told = [place(answer.headers, OFFSET_HEADER) for answer in answers]
    assert told == [heard.offsets[event.id] for event in events]


async def test_cursors_follow_a_recreated_stream_as_soon_as_it_is_seen(
    publisher: Publisher, stream: NatsServer
) -> None:
    before = (await publisher.viewer.get(publisher.campaign)).headers[CURSOR_HEADER]
    async with connected(stream, "setup") as setup:
        await setup.request(f"$JS.API.STREAM.DELETE.{broker.STREAM}", b"")
        epoch = await declare_stream(setup)
    async with asyncio.timeout(PATIENCE_S):
        while (after := (await publisher.viewer.get(publisher.campaign)).headers[CURSOR_HEADER]) == before:
            await asyncio.sleep(0.02)

    assert cursor_of(after).epoch == epoch


async def test_pending_answer_names_the_event_id_that_arrives_later(publisher: Publisher, stream: NatsServer) -> None:
    async with connected(stream, "setup") as setup:
        await setup.request(f"$JS.API.STREAM.DELETE.{broker.STREAM}", b"")
        answer = await publisher.editor.patch(publisher.campaign, {"name": "The Dale"})
        await declare_stream(setup)
        event = await publisher.heard.event()

    assert answer.status == 200
    assert OFFSET_HEADER not in answer.headers
    assert answer.headers[PENDING_HEADER] == event.id


@pytest.mark.parametrize("fault", ["freeze", "kill"])
async def test_dead_or_frozen_broker_delays_an_answer_by_no_more_than_the_bound(
    publisher: Publisher, stream: NatsServer, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The event is published once the broker is back."""
    began = 0.0

    async def break_broker(request: web.Request, model: type[M]) -> M:
        """Between the caller's authorization, which needs the broker, and the change."""
        nonlocal began
        await asyncio.to_thread(getattr(stream, fault))
        began = time.monotonic()
        return await read_body(request, model)

    monkeypatch.setattr(campaigns, "read_body", break_broker)
    answer = await publisher.editor.patch(publisher.campaign, {"name": "The Dale"})
    took_s = time.monotonic() - began
    await asyncio.to_thread(stream.thaw if fault == "freeze" else stream.start)
    assert (answer.status, OFFSET_HEADER in answer.headers) == (200, False), (answer, answer.headers)
    # Read from the stream, because a listener on `live.>` may be back later than the relay.
    async with connected(stream, "setup") as nc, asyncio.timeout(PATIENCE_S):
        while (last := await last_event(nc, publisher)) != answer.headers[PENDING_HEADER]:
            await asyncio.sleep(0.05)

    assert last is not None
    assert took_s < 5  # 250 ms, and what a busy machine adds


async def last_event(nc: Client, publisher: Publisher) -> str | None:
    """The id of the last event of the campaign itself that is in the stream."""
    campaign = publisher.campaign.rpartition("/")[2]
    try:
        message = await nc.jetstream().get_last_msg(broker.STREAM, f"campaign.{campaign}.campaign.{campaign}")
    except (NotFoundError, *broker.RETRYABLE):
        return None
    return read(str(message.subject), message.data or b"").id


def place(headers: Any, name: str = CURSOR_HEADER) -> int:
    """The offset in a header."""
    return cursor_of(headers[name]).offset
