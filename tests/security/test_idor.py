"""T8: other users' things and missing things are answered alike, by every part, whichever name is used."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_kit.authorization import AuthorizeRequest
from beaconfire_kit.roles import Role
from tests.asking import authorize, grant
from tests.auth.conftest import granting
from tests.client import open_socket
from tests.conftest import connected
from tests.people import Person
from tests.security.whole import Whole, running_whole


@dataclass(frozen=True)
class Things:
    """A user's campaign with one of each in it, and a workspace. Or ids that do not exist."""

    person: Person
    campaign: str = "nocampaign"
    settlement: str = "nosettlement"
    structure: str = "nostructure"
    location: str = "nolocation"
    workspace: str = "noworkspace"

    def rooms(self) -> list[str]:
        """Every room of them, in every way it can be named."""
        below = [f"settlement:{self.settlement}", f"structure:{self.structure}", f"location:{self.location}"]
        roots = [f"campaign:{self.campaign}", f"workspace:{self.workspace}", f"user:{self.person.id}"]
        long = [f"campaign:{self.campaign}/{pair}" for pair in below]
        return [*roots, *below, *long, f"workspace:{self.workspace}/team:t1"]

    def ids(self) -> list[str]:
        return [self.campaign, self.settlement, self.structure, self.location, self.workspace, self.person.id]


@dataclass(frozen=True)
class Two:
    """Two users with their own things, and the ids of a user that does not exist."""

    whole: Whole
    alice: Things
    bob: Things
    none: Things
    server: NatsServer


@pytest.fixture(name="two")
async def _two(stream: NatsServer, tmp_path: Path) -> AsyncIterator[Two]:
    async with running_whole(stream, tmp_path) as whole, connected(stream, "publisher") as nc:
        made = []
        for name in ("alice", "bob"):
            person = await whole.sign_up(name)
            campaign = await whole.campaign(person)
            path = f"/v1/campaigns/{campaign}"
            settlement = await whole.thing(person, f"{path}/settlements", {"name": "A place"})
            structure = await whole.thing(person, f"{path}/settlements/{settlement}/structures", {"name": "A house"})
            location = await whole.thing(person, f"{path}/entities", {"type": "location", "name": "A wood"})
            await grant(nc, granting(root=f"workspace:w-{name}", user_id=person.id, role=Role.OWNER))
            made.append(Things(person, campaign, settlement, structure, location, f"w-{name}"))
        none = Things(Person("nobody", "nobody@auth.example", "", ""))
        await whole.api(made[1].person.token).get(f"/v1/campaigns/{made[1].campaign}")
        yield Two(whole, made[0], made[1], none, stream)


def alike(answer: Any, things: Things) -> str:
    """Return an answer without the requested ids. The rest must not reveal whether they exist."""
    text = json.dumps(answer, sort_keys=True)
    for number, one in enumerate(things.ids()):
        text = text.replace(one, f"<{number}>")
    return text


async def test_room_of_another_user_is_refused_like_a_missing_one(two: Two) -> None:
    """T8: at the socket, in both directions."""
    for mine, theirs in ((two.alice, two.bob), (two.bob, two.alice)):
        async with open_socket(two.whole.gateways[0].url) as client:
            await client.connect(mine.person.token)
            own = await _join(client, mine)
            foreign = await _join(client, theirs)
            missing = await _join(client, two.none)

        assert {room: answer["success"] for room, answer in own.items()} == dict.fromkeys(mine.rooms(), True)
        assert {answer["error"]["code"] for answer in foreign.values()} == {"forbidden"}
        assert alike(foreign, theirs) == alike(missing, two.none)


async def _join(client: Any, things: Things) -> dict[str, Any]:
    while True:
        rooms: dict[str, Any] = (await client.ask("subscribe", rooms=things.rooms()))["rooms"]
        # Bare rooms of one's own are known once auth has read the stream so far.
        if all(answer["success"] for answer in rooms.values()) or not any(
            answer["success"] for answer in rooms.values()
        ):
            return rooms


async def test_authorize_decides_about_another_users_room_as_about_a_missing_one(two: Two) -> None:
    """T8: also for a user that does not exist."""
    async with connected(two.server, "gateway") as nc:
        for mine, theirs in ((two.alice, two.bob), (two.bob, two.alice), (two.none, two.bob)):
            answers = []
            for things in (theirs, two.none):
                question = AuthorizeRequest(user_id=mine.person.id, rooms=tuple(things.rooms()))
                rooms = (await authorize(nc, question)).rooms
                own = f"user:{mine.person.id}"
                answers.append(alike({name: one.model_dump() for name, one in rooms.items() if name != own}, things))
            if mine is not two.none:
                assert answers[0] == answers[1]
            assert '"allowed": true' not in answers[0]


def calls(things: Things) -> list[tuple[str, str, Any]]:
    """Every call about a user's things."""
    campaign = f"/v1/campaigns/{things.campaign}"
    settlement = f"{campaign}/settlements/{things.settlement}"
    structure = f"{settlement}/structures/{things.structure}"
    location = f"{campaign}/entities/location/{things.location}"
    change = {"name": "Mine now"}
    return [
        ("GET", campaign, None),
        ("PATCH", campaign, change),
        ("DELETE", campaign, None),
        ("POST", f"{campaign}/world-time", {"advanceSeconds": 60}),
        ("GET", f"{campaign}/settlements", None),
        ("POST", f"{campaign}/settlements", change),
        ("GET", settlement, None),
        ("PATCH", settlement, change),
        ("DELETE", settlement, None),
        ("GET", f"{settlement}/structures", None),
        ("POST", f"{settlement}/structures", change),
        ("GET", structure, None),
        ("PATCH", structure, change),
        ("DELETE", structure, None),
        ("GET", f"{campaign}/entities?type=location", None),
        ("POST", f"{campaign}/entities", {"type": "location", **change}),
        ("GET", location, None),
        ("PATCH", location, change),
        ("DELETE", location, None),
    ]


async def test_every_publisher_call_answers_alike_for_foreign_and_missing_campaigns(two: Two) -> None:
    """T8: and changes nothing."""
    for mine, theirs in ((two.alice, two.bob), (two.bob, two.alice)):
        api, owner = two.whole.api(mine.person.token), two.whole.api(theirs.person.token)
        before = [(await owner.call(*call)).body for call in calls(theirs) if call[0] == "GET"]
        for foreign, missing in zip(calls(theirs), calls(two.none), strict=True):
            one, other = await api.call(*foreign), await api.call(*missing)
            assert one.error == (403, "forbidden"), foreign
            assert (one.status, alike(one.body, theirs)) == (other.status, alike(other.body, two.none)), foreign
        listed = (await api.get("/v1/campaigns")).body["campaigns"]

        assert [campaign["id"] for campaign in listed] == [mine.campaign]
        assert [(await owner.call(*call)).body for call in calls(theirs) if call[0] == "GET"] == before


async def test_things_of_another_campaign_are_not_found_below_ones_own(two: Two) -> None:
    """T8: the answer is that of things that do not exist."""
    api = two.whole.api(two.alice.person.token)
    mixed = Things(two.bob.person, two.alice.campaign, two.bob.settlement, two.bob.structure, two.bob.location)
    missing = Things(two.bob.person, two.alice.campaign)
    for foreign, none in zip(calls(mixed)[6:], calls(missing)[6:], strict=True):
        if foreign[1].endswith(("/entities", "/entities?type=location")):
            continue
        one, other = await api.call(*foreign), await api.call(*none)
        assert one.error == (404, "not_found"), foreign
        assert (one.status, alike(one.body, mixed)) == (other.status, alike(other.body, missing)), foreign
    still = await two.whole.api(two.bob.person.token).get(
        f"/v1/campaigns/{two.bob.campaign}/settlements/{two.bob.settlement}"
    )

    assert still.body["settlement"]["name"] == "A place"


async def test_every_membership_call_answers_alike_for_foreign_and_missing_roots(two: Two) -> None:
    """T8: and changes nothing."""
    auth = two.whole.auth
    for kind in ("campaign", "workspace"):
        for mine, theirs in ((two.alice, two.bob), (two.bob, two.alice)):
            answers = []
            for things in (theirs, two.none):
                root = f"/auth/roots/{kind}:{getattr(things, kind)}/members"
                told = []
                for method, path, body in (
                    ("GET", root, None),
                    ("POST", root, {"email": mine.person.email, "role": "owner"}),
                    ("POST", root, {"email": "nobody@auth.example", "role": "owner"}),
                    ("PUT", f"{root}/{theirs.person.id}", {"role": "viewer"}),
                    ("PUT", f"{root}/{mine.person.id}", {"role": "owner"}),
                    ("DELETE", f"{root}/{theirs.person.id}", None),
                    ("DELETE", f"{root}/{mine.person.id}", None),
                ):
                    answer = await auth.call(method, path, body, token=mine.person.token)
                    told.append((answer.status, alike(answer.body, things)))
                answers.append(told)
            members = f"/auth/roots/{kind}:{getattr(theirs, kind)}/members"
            still = (await auth.call("GET", members, token=theirs.person.token)).body["members"]

            assert answers[0] == answers[1]
            assert {status for status, _ in answers[0]} == {403}
            assert [(one["userId"], one["role"]) for one in still] == [(theirs.person.id, "owner")]
