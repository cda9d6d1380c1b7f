"""The parent projection: bare rooms find their root, through restarts and losses."""

import asyncio
import json
from pathlib import Path

import pytest
from nats.js.api import AckPolicy, ConsumerConfig

from beaconfire.nats_server import NatsServer
from beaconfire_auth.app import Tuning
from beaconfire_auth.projection import DURABLE, FILTER
from beaconfire_kit import broker
from beaconfire_kit.authorization import AuthorizeRequest, AuthUnavailable, RoomDecision
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.events.campaign import SettlementUpdated
from beaconfire_kit.roles import Role
from beaconfire_kit.stream_setup import declare_stream
from tests.asking import authorize, grant
from tests.auth.conftest import Table, auth_settings, granting, running_auth, starting_auth
from tests.auth.teaching import teach
from tests.conftest import connected
from tests.databases import copy_database, on_both_databases

pytestmark = on_both_databases


async def test_bare_room_is_found_once_a_subject_has_shown_its_root(table: Table) -> None:
    """Only members of that root may join it."""
    await teach(table.nc, "c1", "s1", "t1")
    offset = await teach(table.nc, "c9", "s9")
    rooms = ("settlement:s1", "structure:t1", "settlement:s9", "settlement:unknown")
    question = AuthorizeRequest(user_id=table.people["viewer"].id, rooms=rooms, after=offset)
    reply = await authorize(table.nc, question)
    stranger = await authorize(table.nc, question.model_copy(update={"user_id": table.people["stranger"].id}))

    assert [decision.allowed for decision in reply.rooms.values()] == [True, True, False, False]
    assert reply.rooms["structure:t1"].root == "campaign:c1"
    assert not [decision for decision in stranger.rooms.values() if decision.allowed]


async def test_learnt_parents_outlive_a_restart_and_missed_events_are_learnt_afterwards(
    stream: NatsServer, tmp_path: Path
) -> None:
    async with running_auth(stream, tmp_path) as auth, connected(stream, "publisher") as nc:
        owner = await auth.sign_up("owner")
        await grant(nc, granting(root="campaign:c1", user_id=owner.id, role=Role.OWNER))
        first = await teach(nc, "c1", "s1")
        await authorize(nc, AuthorizeRequest(user_id=owner.id, after=first))
    async with connected(stream, "publisher") as nc:
        await broker.publish(nc, "campaign.c1.wrong", b"{}", message_id="b")
        second = await teach(nc, "c1", "s2")
        async with running_auth(stream, tmp_path):
            question = AuthorizeRequest(user_id=owner.id, rooms=("settlement:s1", "settlement:s2"), after=second)
            reply = await authorize(nc, question)

    assert [decision.allowed for decision in reply.rooms.values()] == [True, True]


async def test_events_that_teach_nothing_are_acknowledged_later_and_are_not_delivered_again(
    stream: NatsServer, tmp_path: Path
) -> None:
    async def acknowledged() -> int:
        async with connected(stream, "operator") as operator:
            answer = json.loads((await operator.request("$JS.API.CONSUMER.LIST.EVENTS", b"", timeout=5)).data)
        return max((int(one["ack_floor"]["stream_seq"]) for one in answer["consumers"]), default=0)

    async with running_auth(stream, tmp_path) as auth, connected(stream, "publisher") as nc:
        owner = await auth.sign_up("owner")

        async def publish(number: int) -> int:
            offset = await teach(nc, "c1", "s1")
            await authorize(nc, AuthorizeRequest(user_id=owner.id, after=offset))
            return offset

        offset = [await publish(number) for number in range(20)][-1]
        async with asyncio.timeout(20):
            while await acknowledged() < offset:
                await asyncio.sleep(0.05)
        last = [await publish(number) for number in range(20, 40)][-1]

    assert await acknowledged() == last


async def test_malformed_subjects_teach_nothing_and_stop_nothing(table: Table) -> None:
    """NATS stores subjects that are not an address, wildcards among them."""
    for number, subject in enumerate(["campaign.c1.settlement.*", "campaign.>", "campaign.c1." + "x" * 3_000]):
        await broker.publish(table.nc, subject, b"\xff", message_id=f"odd-{number}")
    offset = await teach(table.nc, "c1", "s1")
    question = AuthorizeRequest(
        user_id=table.people["viewer"].id, rooms=("settlement:s1", "settlement:*"), after=offset
    )
    reply = await authorize(table.nc, question)

    assert [decision.allowed for decision in reply.rooms.values()] == [True, False]


async def test_bare_name_in_several_roots_means_the_room_in_the_askers_own_root(table: Table) -> None:
    """Publishers choose ids, so several roots can have a `settlement:s1`."""
    await own(table, "campaign:b2", "stranger")
    for root in ("a0", "c1", "b2"):
        offset = await teach(table.nc, root, "s1")
    roots = [(await ask(table, name, "settlement:s1", after=offset)).root for name in ("viewer", "stranger")]

    assert roots == ["campaign:c1", "campaign:b2"]


@pytest.mark.parametrize("order", [("b2", "c1"), ("c1", "b2")], ids=["stranger first", "owner first"])
async def test_ambiguous_bare_name_is_refused_with_both_long_forms(table: Table, order: tuple[str, str]) -> None:
    """Both long forms still work. Users that the stranger has not invited are not affected."""
    await own(table, "campaign:b2", "stranger")
    await own(table, "campaign:b2", "viewer")
    for root in order:
        offset = await teach(table.nc, root, "s1")
    bare = await ask(table, "viewer", "settlement:s1", after=offset)
    long = [await ask(table, "viewer", f"campaign:{root}/settlement:s1") for root in order]
    other = await ask(table, "editor", "settlement:s1")

    assert not bare.allowed
    assert bare.ambiguous is not None
    assert sorted(bare.ambiguous) == ["campaign:b2/settlement:s1", "campaign:c1/settlement:s1"]
    assert [one.root for one in long] == [f"campaign:{root}" for root in order]
    assert other.root == "campaign:c1"


async def test_stranger_cannot_take_the_bare_room_of_a_deleted_thing(table: Table) -> None:
    await own(table, "campaign:b2", "stranger")
    await own(table, "campaign:b2", "viewer")
    await teach(table.nc, "c1", "s1")
    await teach(table.nc, "c1", "s1", operation="delete")
    offset = await teach(table.nc, "b2", "s1")

    assert not (await ask(table, "viewer", "settlement:s1", after=offset)).allowed


async def test_only_valid_events_of_existing_roots_teach_rooms(table: Table) -> None:
    """Events with a lifetime teach nothing either. A good event teaches the same room later."""
    good = _settlement("s1")
    body = Envelope(good, Metadata(source="api")).encode()
    other = Envelope(_settlement("s2"), Metadata(source="api")).encode()
    for number, bad in enumerate((b"{}", other)):
        await broker.publish(table.nc, good.full_subject(), bad, message_id=f"bad-{number}")
    await broker.publish(
        table.nc, good.full_subject(), body, message_id="ttl", headers={"nats-TTL": "1h", "Nats-TTL": "1h"}
    )
    offset = await teach(table.nc, "nowhere", "s7")
    before = await ask(table, "viewer", "settlement:s1", after=offset)
    await own(table, "campaign:nowhere", "viewer")
    unlearnt = await ask(table, "viewer", "settlement:s7")
    await teach(table.nc, "nowhere", "s7")
    offset = await teach(table.nc, "c1", "s1")
    after = [await ask(table, "viewer", f"settlement:{one}", after=offset) for one in ("s1", "s7")]

    assert (before.allowed, unlearnt.allowed) == (False, False)
    assert [one.root for one in after] == ["campaign:c1", "campaign:nowhere"]


async def test_room_that_was_asked_for_before_it_existed_is_found_once_it_does(table: Table) -> None:
    question = AuthorizeRequest(user_id=table.people["viewer"].id, rooms=("settlement:later",))
    before = await authorize(table.nc, question)
    offset = await teach(table.nc, "c1", "later")
    after = await authorize(table.nc, question.model_copy(update={"after": offset}))

    assert (before.rooms["settlement:later"].allowed, after.rooms["settlement:later"].allowed) == (False, True)


async def test_projection_learns_again_after_the_database_was_restored_from_a_backup(
    stream: NatsServer, tmp_path: Path
) -> None:
    backup, folder = tmp_path / "backup", tmp_path / "state"
    folder.mkdir()
    async with running_auth(stream, folder) as auth, connected(stream, "publisher") as nc:
        owner = await auth.sign_up("owner")
        await grant(nc, granting(root="campaign:c1", user_id=owner.id, role=Role.OWNER))
    copy_database(folder, backup, "auth")
    async with connected(stream, "publisher") as nc:
        offset = await teach(nc, "c1", "s1")
        question = AuthorizeRequest(user_id=owner.id, rooms=("settlement:s1",), after=offset)
        async with running_auth(stream, folder):
            learnt = await authorize(nc, question)
        async with running_auth(stream, backup):
            learnt_again = await authorize(nc, question)

    assert learnt.rooms["settlement:s1"].allowed
    assert learnt_again.rooms["settlement:s1"].allowed


async def test_auth_is_not_ready_while_its_projection_is_stuck_at_a_message(stream: NatsServer, tmp_path: Path) -> None:
    """`/readyz` names the consumer and the message."""
    tuning = Tuning(projection_stuck_s=1.5)
    async with connected(stream, "publisher") as nc:
        offset = await teach(nc, "c1", "s1")
    async with connected(stream, "auth") as own:
        js = own.jetstream()
        config = ConsumerConfig(
            name=DURABLE, durable_name=DURABLE, filter_subjects=FILTER, ack_policy=AckPolicy.EXPLICIT, ack_wait=300
        )
        await js.add_consumer(broker.STREAM, config)
        held = (await (await js.pull_subscribe_bind(DURABLE, stream=broker.STREAM)).fetch(1))[0]
        async with starting_auth(auth_settings(stream, tmp_path), tuning=tuning) as auth, asyncio.timeout(30):
            while "no progress" not in (why := await auth.why_not_ready()):
                pass
            await held.ack()
            await auth.until_ready()

    assert DURABLE in why
    assert f"message {offset}" in why


async def test_projection_reads_a_recreated_stream_from_its_start(table: Table, stream: NatsServer) -> None:
    question = AuthorizeRequest(user_id=table.people["viewer"].id, rooms=("settlement:s1",))
    async with connected(stream, "setup") as setup:
        await setup.request("$JS.API.STREAM.DELETE.EVENTS", b"")
        await declare_stream(setup)
    await teach(table.nc, "c1", "s1")
    async with asyncio.timeout(20):
        while not (await authorize(table.nc, question)).rooms["settlement:s1"].allowed:
            pass


async def test_projection_goes_on_after_the_broker_was_killed(table: Table, stream: NatsServer) -> None:
    stream.kill()
    stream.start()
    offset = await teach(table.nc, "c1", "s1")
    question = AuthorizeRequest(user_id=table.people["viewer"].id, rooms=("settlement:s1",), after=offset)
    async with asyncio.timeout(20):
        while not await _is_allowed(table, question):
            pass


async def _is_allowed(table: Table, question: AuthorizeRequest) -> bool:
    try:
        return (await authorize(table.nc, question, timeout_s=2)).rooms["settlement:s1"].allowed
    except AuthUnavailable:
        return False


async def own(table: Table, root: str, name: str) -> None:
    """Make a user an owner."""
    await grant(table.nc, granting(root=root, user_id=table.people[name].id, role=Role.OWNER))


async def ask(table: Table, name: str, room: str, *, after: int | None = None) -> RoomDecision:
    question = AuthorizeRequest(user_id=table.people[name].id, rooms=(room,), after=after)
    return (await authorize(table.nc, question)).rooms[room]


def _settlement(settlement_id: str) -> SettlementUpdated:
    return SettlementUpdated(
        campaign_id="c1", settlement_id=settlement_id, operation="update", changed_fields=("level",)
    )
