"""Dead letters are replayed after a fix, or dropped: on the real broker, and heard by clients of a real gateway."""

import asyncio
import json
from typing import Any

from nats.aio.client import Client
from structlog.testing import capture_logs

from beaconfire.deadletters import read
from beaconfire.dropping import drop, drop_all
from beaconfire.nats_server import NatsServer
from beaconfire.replaying import Handled, replay
from beaconfire_kit import broker
from beaconfire_kit.catalogue_store import CatalogueStore
from tests.broker_changes import PATIENCE_S, call_api, change_permissions, until_denied
from tests.client import open_socket
from tests.conftest import broker_settings, connected
from tests.gateway.catalogues import siege
from tests.gateway.conftest import Gateway, _auth, _gateway  # noqa: F401
from tests.gateway.events import BODY, fence, raw_publish
from tests.gateway.streams import dead_letters

DELETE = f"$JS.API.STREAM.MSG.DELETE.{broker.DEADLETTERS}"
SIEGE = "campaign.c1.siege.x1"
BODY_OF_SIEGE = json.dumps({**BODY, "type": "siege.begun", "version": 1, "payload": {"force": 1}}).encode()


async def replayed(server: NatsServer, numbers: list[int] | None = None, **options: Any) -> Handled:
    return await replay(broker_settings(server, "operator"), broker_settings(server, "publisher"), numbers, **options)


async def declare_siege(server: NatsServer) -> None:
    """The fix: the type becomes part of the catalogue."""
    async with connected(server, "catalogue") as nc:
        await CatalogueStore(nc).push([siege()], by="test")


async def left(server: NatsServer) -> int:
    """The number of dead letters."""
    return await read(broker_settings(server, "operator"), lambda _: None, last=1, reason=None, follow=False)


async def test_letters_are_replayed_after_a_fix_and_the_others_say_what_still_fails(gateway: Gateway) -> None:
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        await raw_publish(gateway, SIEGE, BODY_OF_SIEGE)
        await raw_publish(gateway, SIEGE, b"garbage")
        await raw_publish(gateway, "ephemeral.campaign.c1.siege.x1", b"garbage")
        [before] = await fence(gateway, client)
        await dead_letters(gateway, 3)
        early = await replayed(gateway.server)
        await declare_siege(gateway.server)

        late = await replayed(gateway.server)

        event = await client.next("event")
    assert sorted(one.result for one in early.outcomes) == ["not_replayable", "still_invalid", "still_invalid"]
    by_result = {one.result: one for one in late.outcomes}
    assert by_result.keys() == {"not_replayable", "replayed", "still_invalid"}
    assert (event["event"]["type"], event["event"]["id"]) == ("siege.begun", BODY["id"])
    assert event["offset"] == by_result["replayed"].offset
    assert event["offset"] > before["offset"]
    assert by_result["still_invalid"].why.startswith("not_json: ")
    assert await left(gateway.server) == 2


async def test_letter_is_stored_once_even_if_it_is_still_there_after_the_duplicate_window(gateway: Gateway) -> None:
    await raw_publish(gateway, SIEGE, BODY_OF_SIEGE)
    await dead_letters(gateway, 1)
    await declare_siege(gateway.server)
    change_permissions(gateway.server, f', "{DELETE}"', "")  # as in a broker's configuration of an earlier version
    async with connected(gateway.server, "operator") as nc:
        await until_denied(nc, DELETE)
    await shorten_duplicate_window(gateway.server)
    [first] = (await replayed(gateway.server)).outcomes
    async with connected(gateway.server, "setup") as nc:  # the window ends
        await until_stored_twice(nc)

    [second] = (await replayed(gateway.server)).outcomes

    assert (first.result, second.result) == ("replayed", "already_replayed")
    assert second.offset == first.offset
    assert await left(gateway.server) == 1


async def test_two_operators_who_replay_at_the_same_time_store_an_event_once(gateway: Gateway) -> None:
    await raw_publish(gateway, SIEGE, BODY_OF_SIEGE)
    [letter] = await dead_letters(gateway, 1)
    await declare_siege(gateway.server)

    both = await asyncio.gather(replayed(gateway.server), replayed(gateway.server, [letter.metadata.sequence.stream]))
    gone = await replayed(gateway.server, [letter.metadata.sequence.stream])

    assert len({one.offset for replays in both for one in replays.outcomes if one.offset}) == 1
    assert [one.why for one in gone.outcomes] == ["there is no such dead letter any more"]
    assert await left(gateway.server) == 0


async def test_letters_are_dropped_with_a_reason_and_each_deletion_is_logged_without_the_body(
    gateway: Gateway,
) -> None:
    await raw_publish(gateway, SIEGE, b"garbage-1")
    await raw_publish(gateway, SIEGE, b"garbage-2")
    await raw_publish(gateway, SIEGE, BODY_OF_SIEGE)
    first, *_ = [letter.metadata.sequence.stream for letter in await dead_letters(gateway, 3)]
    settings, why, by = broker_settings(gateway.server, "operator"), "a test publisher", "ann@desk"

    with capture_logs() as lines:
        by_number = await drop(settings, [first, 99], why=why, by=by)
        by_reason = await drop(settings, None, reason="not_json", why=why, by=by)
        remaining = await left(gateway.server)
        rest = await drop_all(settings, None, reason=None, why=why, by=by)

    assert [(one.number, one.result) for one in by_number.outcomes] == [(first, "dropped"), (99, "gone")]
    assert [one.result for one in by_reason.outcomes] == ["dropped"]
    assert (remaining, [one.result for one in rest], await left(gateway.server)) == (1, ["dropped"], 0)
    logged = [line for line in lines if line["event"] == "an operator dropped a dead letter"]
    assert [(line["subject"], line["why"], line["by"]) for line in logged] == [(SIEGE, why, by)] * 3
    assert "garbage" not in str(logged)


async def test_letter_that_the_broker_does_not_delete_is_reported(gateway: Gateway) -> None:
    await raw_publish(gateway, SIEGE, b"garbage")
    await dead_letters(gateway, 1)
    change_permissions(gateway.server, f', "{DELETE}"', "")
    async with connected(gateway.server, "operator") as nc:
        await until_denied(nc, DELETE)

    [outcome] = await drop_all(broker_settings(gateway.server, "operator"), None, why="x", by="y", reason=None)

    assert (outcome.result, outcome.is_done) == ("refused", False)
    assert "may not delete dead letters" in outcome.why
    assert await left(gateway.server) == 1


async def shorten_duplicate_window(server: NatsServer) -> None:
    async with connected(server, "setup") as nc:
        config = await broker.config_of(nc, broker.STREAM)
    await call_api(server, f"STREAM.UPDATE.{broker.STREAM}", config | {"duplicate_window": broker.NS // 10})


async def until_stored_twice(nc: Client) -> None:
    """Publish a message under one id until the broker has forgotten the id, and so every id before it."""
    js, anchor = nc.jetstream(), {"Nats-Msg-Id": "again"}
    first = await js.publish("anchor", b"", headers=anchor)
    async with asyncio.timeout(PATIENCE_S):
        while (await js.publish("anchor", b"", headers=anchor)).seq == first.seq:
            await asyncio.sleep(0.02)
