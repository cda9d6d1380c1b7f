"""T11: a broker user that may not push cannot change which catalogue counts."""

import asyncio
import json

import pytest
from nats.aio.client import Client

from beaconfire.broker_users import USERS
from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.broker import STREAM
from beaconfire_kit.catalogue_follower import CatalogueFollower
from beaconfire_kit.catalogue_store import CatalogueStore
from tests.conftest import connected
from tests.kit.fragments import note
from tests.security.raw_nats import raw_nats

PATIENCE_S = 20.0
PUSHING = ("catalogue", "$KV.CATALOGUE.committed", "$KV.CATALOGUE.rev.7", "$KV.CATALOGUE.fragment.x")
CHANGING = ("UPDATE", "DELETE", "PURGE", "MSG.DELETE", "RESTORE", "SNAPSHOT", "LEADER.STEPDOWN")


@pytest.mark.parametrize("user", [user.name for user in USERS if user.name not in ("setup", "catalogue")])
async def test_only_setup_and_catalogue_write_markers_and_revisions(stream: NatsServer, user: str) -> None:
    async with raw_nats(stream, user) as nats:
        answers = [await nats.publish(subject, b"{}") for subject in PUSHING]
        changes = [await nats.publish(f"$JS.API.STREAM.{call}.KV_CATALOGUE", b"{}") for call in CHANGING]

    assert [answer for answer in (*answers, *changes) if "Permissions Violation" not in answer] == []


async def test_the_user_that_pushes_can_change_no_stream_and_publish_no_event(stream: NatsServer) -> None:
    subjects = ["campaign.c1.settlement.s1", "campaign.c1.member.u1", "tick", "anchor", "live.catalogue"]
    subjects += [f"$JS.API.STREAM.{call}.{name}" for call in CHANGING for name in (STREAM, "KV_CATALOGUE")]
    subjects += [f"$JS.API.CONSUMER.CREATE.{STREAM}.x", "$JS.API.CONSUMER.CREATE.KV_CATALOGUE.x"]
    async with raw_nats(stream, "catalogue") as nats:
        answers = {subject: await nats.publish(subject) for subject in subjects}

    assert [subject for subject, answer in answers.items() if "Permissions Violation" not in answer] == []


async def test_a_marker_that_is_delivered_by_a_consumer_changes_nothing(stream: NatsServer) -> None:
    """A publisher stores a message that looks like a marker, and has it delivered to where pushes are heard."""
    async with connected(stream, "catalogue") as nc:
        store = CatalogueStore(nc)
        await store.push([note("one", "note.one")], by="test")
        old = await store.head()
        await store.push([note("two", "note.two")], by="test")
    async with (
        connected(stream, "publisher") as rogue,
        connected(stream, "auth") as own,
        connected(stream, "gateway") as gateway,
    ):
        follower = CatalogueFollower()
        following = asyncio.create_task(follower.run(own))
        heard = await gateway.subscribe("live.catalogue")
        await gateway.flush()
        before = await _until(follower, "note.two")
        forged = {"revision": 10_000, "previous": None, "fragments": dict(old.fragments)}
        await broker.publish(rogue, "campaign.c1.forged", json.dumps(forged).encode(), message_id="forged")
        await _deliver_to(rogue, "live.catalogue", "campaign.c1.forged")
        message = await heard.next_msg(timeout=10)
        seen = await follower.refresh()
        async with connected(stream, "catalogue") as nc:
            await CatalogueStore(nc).push([note("three", "note.three")], by="test")
        after = await _until(follower, "note.three")
        following.cancel()

    assert json.loads(message.data)["revision"] == 10_000
    assert seen is not None
    assert (seen.revision, after) == (before, before + 1)


async def _until(follower: CatalogueFollower, type_: str) -> int:
    async with asyncio.timeout(PATIENCE_S):
        while follower.current is None or type_ not in follower.current.types:
            await asyncio.sleep(0.01)
    return follower.current.revision


async def _deliver_to(nc: Client, subject: str, filter_subject: str) -> None:
    """Create a push consumer that delivers a stored message to a subject of the user's choice."""
    config = {
        "name": "outbox-publisher",
        "deliver_subject": subject,
        "filter_subjects": [filter_subject],
        "ack_policy": "none",
        "deliver_policy": "all",
        "inactive_threshold": 5_000_000_000,
    }
    body = json.dumps({"stream_name": STREAM, "config": config}).encode()
    answer = json.loads((await nc.request(f"$JS.API.CONSUMER.CREATE.{STREAM}.outbox-publisher", body, timeout=5)).data)
    assert "error" not in answer, answer
