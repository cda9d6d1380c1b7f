"""The parent projection: bare rooms find their root, through restarts and losses."""

import asyncio
import json
from pathlib import Path

from shared import broker
from shared.authorization import AuthorizeRequest, AuthUnavailable, GrantRequest, authorize, grant
from shared.roles import Role
from tests.auth.conftest import Table, running_auth
from tests.conftest import connected
from tests.databases import copy_database, on_both_databases
from tools.nats_server import NatsServer

pytestmark = on_both_databases


async def test_parents_are_learnt(table: Table) -> None:
    """A bare room is found in its root once a subject has shown it; only members of that root may see it."""
    offset = await broker.publish(table.nc, "campaign.c1.settlement.s1.structure.t1", b"{}", message_id="a")
    offset = await broker.publish(table.nc, "campaign.c9.settlement.s9", b"{}", message_id="b")
    rooms = ("settlement:s1", "structure:t1", "settlement:s9", "settlement:unknown")
    question = AuthorizeRequest(user_id=table.people["viewer"].id, rooms=rooms, after=offset)
    reply = await authorize(table.nc, question)
    stranger = await authorize(table.nc, question.model_copy(update={"user_id": table.people["stranger"].id}))

    assert [decision.allowed for decision in reply.rooms.values()] == [True, True, False, False]
    assert reply.rooms["structure:t1"].root == "campaign:c1"
    assert not [decision for decision in stranger.rooms.values() if decision.allowed]


async def test_parents_outlive_a_restart(stream: NatsServer, tmp_path: Path) -> None:
    """What was learnt is kept; what came while auth was away is learnt afterwards; malformed subjects do no harm."""
    async with running_auth(stream, tmp_path) as auth, connected(stream, "publisher") as nc:
        owner = await auth.sign_up("owner")
        await grant(nc, GrantRequest(root="campaign:c1", user_id=owner.id, role=Role.OWNER))
        first = await broker.publish(nc, "campaign.c1.settlement.s1", b"{}", message_id="a")
        await authorize(nc, AuthorizeRequest(user_id=owner.id, after=first))
    async with connected(stream, "publisher") as nc:
        await broker.publish(nc, "campaign.c1.wrong", b"{}", message_id="b")
        second = await broker.publish(nc, "campaign.c1.settlement.s2", b"{}", message_id="c")
        async with running_auth(stream, tmp_path):
            question = AuthorizeRequest(user_id=owner.id, rooms=("settlement:s1", "settlement:s2"), after=second)
            reply = await authorize(nc, question)

    assert [decision.allowed for decision in reply.rooms.values()] == [True, True]


async def test_nothing_new(stream: NatsServer, tmp_path: Path) -> None:
    """Events that teach nothing are counted at once, and acknowledged a little later, though nothing else comes; and
    what is not yet written when auth ends does not come again."""

    async def acknowledged() -> int:
        async with connected(stream, "operator") as operator:
            answer = json.loads((await operator.request("$JS.API.CONSUMER.LIST.EVENTS", b"", timeout=5)).data)
        return max((int(one["ack_floor"]["stream_seq"]) for one in answer["consumers"]), default=0)

    async with running_auth(stream, tmp_path) as auth, connected(stream, "publisher") as nc:
        owner = await auth.sign_up("owner")

        async def publish(number: int) -> int:
            offset = await broker.publish(nc, "campaign.c1.settlement.s1", b"{}", message_id=f"m{number}")
            await authorize(nc, AuthorizeRequest(user_id=owner.id, after=offset))
            return offset

        offset = [await publish(number) for number in range(20)][-1]
        async with asyncio.timeout(20):
            while await acknowledged() < offset:
                await asyncio.sleep(0.05)
        last = [await publish(number) for number in range(20, 40)][-1]

    assert await acknowledged() == last


async def test_malformed_subjects(table: Table) -> None:
    """Subjects that are no address teach nothing and stop nothing: NATS stores wildcards and much more."""
    for number, subject in enumerate(["campaign.c1.settlement.*", "campaign.>", "campaign.c1." + "x" * 3_000]):
        await broker.publish(table.nc, subject, b"\xff", message_id=f"odd-{number}")
    offset = await broker.publish(table.nc, "campaign.c1.settlement.s1", b"{}", message_id="good")
    question = AuthorizeRequest(
        user_id=table.people["viewer"].id, rooms=("settlement:s1", "settlement:*"), after=offset
    )
    reply = await authorize(table.nc, question)

    assert [decision.allowed for decision in reply.rooms.values()] == [True, False]


async def test_one_id_in_several_roots(table: Table) -> None:
    """Ids are chosen by publishers: of several roots with a `settlement:s1`, the asking user's own is taken."""
    await grant(table.nc, GrantRequest(root="workspace:w1", user_id=table.people["stranger"].id, role=Role.OWNER))
    for subject in ("campaign.a0.settlement.s1", "campaign.c1.settlement.s1", "workspace.w1.settlement.s1"):
        offset = await broker.publish(table.nc, subject, b"{}", message_id=subject)
    roots = []
    for name in ("viewer", "stranger"):
        question = AuthorizeRequest(user_id=table.people[name].id, rooms=("settlement:s1",), after=offset)
        roots.append((await authorize(table.nc, question)).rooms["settlement:s1"].root)

    assert roots == ["campaign:c1", "workspace:w1"]


async def test_unknown_is_not_remembered(table: Table) -> None:
    """A room that was asked for before it existed is found once it does."""
    question = AuthorizeRequest(user_id=table.people["viewer"].id, rooms=("settlement:later",))
    before = await authorize(table.nc, question)
    offset = await broker.publish(table.nc, "campaign.c1.settlement.later", b"{}", message_id="later")
    after = await authorize(table.nc, question.model_copy(update={"after": offset}))

    assert (before.rooms["settlement:later"].allowed, after.rooms["settlement:later"].allowed) == (False, True)


async def test_restored_database(stream: NatsServer, tmp_path: Path) -> None:
    """With a database put back from a backup, what the stream showed since is learnt again."""
    backup, folder = tmp_path / "backup", tmp_path / "state"
    folder.mkdir()
    async with running_auth(stream, folder) as auth, connected(stream, "publisher") as nc:
        owner = await auth.sign_up("owner")
        await grant(nc, GrantRequest(root="campaign:c1", user_id=owner.id, role=Role.OWNER))
    copy_database(folder, backup, "auth")
    async with connected(stream, "publisher") as nc:
        offset = await broker.publish(nc, "campaign.c1.settlement.s1", b"{}", message_id="a")
        question = AuthorizeRequest(user_id=owner.id, rooms=("settlement:s1",), after=offset)
        async with running_auth(stream, folder):
            learnt = await authorize(nc, question)
        async with running_auth(stream, backup):
            learnt_again = await authorize(nc, question)

    assert learnt.rooms["settlement:s1"].allowed
    assert learnt_again.rooms["settlement:s1"].allowed


async def test_stream_made_anew(table: Table, stream: NatsServer) -> None:
    """A stream that was deleted and declared again, numbered from 1, is read from its start."""
    question = AuthorizeRequest(user_id=table.people["viewer"].id, rooms=("settlement:s1",))
    async with connected(stream, "setup") as setup:
        await setup.request("$JS.API.STREAM.DELETE.EVENTS", b"")
        await broker.declare_stream(setup)
    await broker.publish(table.nc, "campaign.c1.settlement.s1", b"{}", message_id="a")
    async with asyncio.timeout(20):
        while not (await authorize(table.nc, question)).rooms["settlement:s1"].allowed:
            pass


async def test_killed_broker(table: Table, stream: NatsServer) -> None:
    """After the broker was killed and came back, auth goes on learning where it was."""
    stream.kill()
    stream.start()
    offset = await broker.publish(table.nc, "campaign.c1.settlement.s1", b"{}", message_id="a")
    question = AuthorizeRequest(user_id=table.people["viewer"].id, rooms=("settlement:s1",), after=offset)
    async with asyncio.timeout(20):
        while not await _is_allowed(table, question):
            pass


async def _is_allowed(table: Table, question: AuthorizeRequest) -> bool:
    try:
        return (await authorize(table.nc, question)).rooms["settlement:s1"].allowed
    except AuthUnavailable:
        return False
