"""Auth's kinds of roots are those of the catalogue, from the moment a push has committed."""

import asyncio
import json
from pathlib import Path

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_auth.projection import DURABLE, FILTER
from beaconfire_kit import broker, errors
from beaconfire_kit.authorization import AuthorizeRequest, RoomDecision
from beaconfire_kit.catalogue_store import CatalogueStore
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.roles import Role
from tests.asking import authorize, grant
from tests.auth.conftest import Table, granting, running_auth
from tests.auth.roots import move, push
from tests.auth.teaching import teach
from tests.broker_changes import call_api
from tests.conftest import connected
from tests.kit.fragments import note

PATIENCE_S = 20.0
OLD_FILTER = ["campaign.>", "workspace.>"]
"""Of the version before root kinds came from the catalogue."""


async def ask(table: Table, name: str, *rooms: str, after: int | None = None) -> dict[str, RoomDecision]:
    question = AuthorizeRequest(user_id=table.people[name].id, rooms=rooms, after=after)
    return dict((await authorize(table.nc, question)).rooms)


async def test_root_that_was_pushed_a_moment_ago_gets_members_rooms_and_parents(
    table: Table, stream: NatsServer
) -> None:
    """Nothing was restarted, and auth was told nothing."""
    owner = table.people["owner"].id
    with pytest.raises(BeaconfireError, match="'depot' is not a kind of root in the catalogue"):
        await grant(table.nc, granting(root="depot:d1", user_id=owner, role=Role.OWNER))

    await push(stream)
    await grant(table.nc, granting(root="depot:d1", user_id=owner, role=Role.OWNER))
    offset = await move(table.nc, "depot", "d1", "n1")
    rooms = ("depot:d1", "depot:d1/note:n1", "note:n1", "depot:d1/depot:d1")
    owners = await ask(table, "owner", *rooms, after=offset)
    strangers = await ask(table, "stranger", *rooms)

    assert {name: (one.root, one.role) for name, one in owners.items()} == dict.fromkeys(
        rooms, ("depot:d1", Role.OWNER)
    )
    assert not [name for name, one in strangers.items() if one.allowed]


async def test_event_right_behind_its_types_push_is_learnt_though_unknown_ones_came_before(
    table: Table, stream: NatsServer
) -> None:
    """The catalogue was read for an unknown type a moment before the push: that read does not count."""
    await push(stream)
    await grant(table.nc, granting(root="depot:d1", user_id=table.people["owner"].id, role=Role.OWNER))
    for number in range(3):
        new = f"parcel.noted_{number}"
        for other in range(3):
            await ask(table, "owner", after=await move(table.nc, "depot", "d1", f"x{number}{other}", "parcel.lost"))
        async with connected(stream, "catalogue") as nc:
            await CatalogueStore(nc).push([note(f"notes-{number}", new, root="depot")], by="test")
        offset = await move(table.nc, "depot", "d1", f"n{number}", new)
        found = await ask(table, "owner", f"note:n{number}", after=offset)

        assert found[f"note:n{number}"].root == "depot:d1"


async def test_kind_of_root_is_not_refused_as_unknown_while_the_catalogue_cannot_be_read(
    table: Table, stream: NatsServer
) -> None:
    owner = table.people["owner"].id
    await call_api(stream, "STREAM.DELETE.KV_CATALOGUE")

    with pytest.raises(BeaconfireError, match="the catalogue cannot be read now") as refused:
        await grant(table.nc, granting(root="depot:d1", user_id=owner, role=Role.OWNER))

    assert refused.value.code is errors.UNAVAILABLE


async def test_room_of_a_kind_that_no_catalogue_has_is_refused_with_the_reason(table: Table) -> None:
    rooms = await ask(table, "owner", "depot:d1/note:n1", "campaign:c1/workspace:w1", "depot:d1", "tick:t/note:n")

    assert not [name for name, one in rooms.items() if one.allowed]
    assert rooms["depot:d1/note:n1"].impossible == "depot:d1/note:n1: depot is not a kind of root in the catalogue"
    assert "workspace:w1 is a root of its own" in str(rooms["campaign:c1/workspace:w1"].impossible)
    assert "tick is reserved" in str(rooms["tick:t/note:n"].impossible)
    assert rooms["depot:d1"].impossible is None


async def test_root_named_inside_another_root_lets_nobody_in(table: Table, stream: NatsServer) -> None:
    """T8: members of a campaign publish an event that names a depot. The depot stays closed to them."""
    await push(stream)
    await grant(table.nc, granting(root="depot:d1", user_id=table.people["stranger"].id, role=Role.OWNER))
    body = {"campaignId": "c1", "entityType": "depot", "entityId": "d1", "operation": "update", "changedFields": ["x"]}
    event = {"id": "e1", "type": "entity_updated", "version": 1, "payload": body}
    metadata = {"timestamp": "2026-11-21T10:00:00Z", "source": "api"}
    encoded = json.dumps({**event, "metadata": metadata}).encode()
    offset = await broker.publish(table.nc, "campaign.c1.depot.d1", encoded, message_id="e1")

    owners = await ask(table, "owner", "depot:d1", "campaign:c1/depot:d1", after=offset)
    strangers = await ask(table, "stranger", "depot:d1")

    assert not [name for name, one in owners.items() if one.allowed]
    assert strangers["depot:d1"].root == "depot:d1"


async def test_members_stay_in_a_root_whose_kind_was_removed(table: Table, stream: NatsServer) -> None:
    await push(stream)
    await grant(table.nc, granting(root="depot:d1", user_id=table.people["owner"].id, role=Role.OWNER))
    async with connected(stream, "catalogue") as nc:
        await CatalogueStore(nc).remove(["logistics"], by="test")
    async with asyncio.timeout(PATIENCE_S):
        while "not a kind of root" not in await _why_refused(table, "depot:d2"):
            pass

    rooms = await ask(table, "owner", "depot:d1", "depot:d1/note:n1")

    assert [one.allowed for one in rooms.values()] == [True, True]


async def _why_refused(table: Table, root: str) -> str:
    try:
        await grant(table.nc, granting(root=root, user_id=table.people["viewer"].id, role=Role.VIEWER))
    except BeaconfireError as error:
        return error.message
    return ""


async def test_service_token_names_kinds_of_the_catalogue_only(table: Table, stream: NatsServer) -> None:
    async def issue(*publish: str) -> tuple[int, str]:
        answer = await table.auth.operate("POST", "service-tokens", {"service": "depots", "publish": publish})
        return answer.status, str(answer.body)

    unknown, reserved = await issue("campaign.>", "depot.>"), await issue("catalogue.>")
    await push(stream)
    known = await issue("depot.>", "depot.*.member.*")

    assert unknown[0] == reserved[0] == 400
    assert "depot.>: 'depot' is not a kind of root in the catalogue" in unknown[1]
    assert "reserved" in reserved[1]
    assert known[0] == 201


async def test_memberships_are_filtered_by_kinds_of_the_catalogue(table: Table, stream: NatsServer) -> None:
    async def listed(kind: str) -> tuple[int, str]:
        answer = await table.auth.call("GET", f"/auth/memberships?kind={kind}", token=table.people["owner"].token)
        return answer.status, str(answer.body)

    unknown, user = await listed("depot"), await listed("user")
    await push(stream)
    known = await listed("depot")

    assert (unknown[0], user[0], known[0]) == (400, 400, 200)
    assert "which has campaign, user, workspace" in unknown[1]


async def test_consumer_of_the_version_before_is_moved_over_and_loses_nothing(
    stream: NatsServer, tmp_path: Path
) -> None:
    """It learns events that were acknowledged, that were in hand, and that were not read yet."""
    async with running_auth(stream, tmp_path) as auth, connected(stream, "publisher") as nc:
        owner = await auth.sign_up("owner")
        await grant(nc, granting(root="campaign:c1", user_id=owner.id, role=Role.OWNER))
        first = await teach(nc, "c1", "s0")
        await authorize(nc, AuthorizeRequest(user_id=owner.id, after=first))
    async with connected(stream, "publisher") as nc, connected(stream, "auth") as own:
        js = own.jetstream()
        now = (await js.consumer_info(broker.STREAM, DURABLE)).config
        await js.add_consumer(broker.STREAM, now.evolve(name=DURABLE, filter_subjects=OLD_FILTER))
        for number in range(1, 4):
            await teach(nc, "c1", f"s{number}")
        reader = await js.pull_subscribe_bind(DURABLE, stream=broker.STREAM)
        in_hand = await reader.fetch(2, timeout=10)
        before = await js.consumer_info(broker.STREAM, DURABLE)
        for message in in_hand:
            await message.nak()
        await own.flush()
        await push(stream)

        async with running_auth(stream, tmp_path):
            await grant(nc, granting(root="depot:d1", user_id=owner.id, role=Role.OWNER))
            moved = await move(nc, "depot", "d1", "n1")
            rooms = (*(f"settlement:s{number}" for number in range(4)), "note:n1")
            reply = await authorize(nc, AuthorizeRequest(user_id=owner.id, rooms=rooms, after=moved))
            after = await js.consumer_info(broker.STREAM, DURABLE)

    assert before.config.filter_subjects == OLD_FILTER
    assert (after.config.filter_subjects, after.created) == (FILTER, before.created)
    assert after.delivered.stream_seq >= moved
    assert {name: one.allowed for name, one in reply.rooms.items()} == dict.fromkeys(rooms, True)
