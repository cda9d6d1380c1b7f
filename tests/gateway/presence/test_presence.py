"""Who is here, through gateways on a real broker: what clients are told, and who is not."""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.roles import Role
from beaconfire_kit.tokens import ServiceClaims, sign_service
from tests.client import open_socket
from tests.conftest import connected
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway, settlement
from tests.gateway.events import member, publish_as_auth, signed_out
from tests.gateway.presence.watchers import ROOM, watching
from tests.gateway.transports.ways import CONNECT_ERROR, WAYS, Refused, Visitor, Way
from tests.polling import polling


async def test_clients_of_two_gateways_see_each_other_come_and_go(pair: tuple[Gateway, Gateway]) -> None:
    """With the status and the devices of each."""
    first, second = pair
    token = first.auth.token("editor")
    async with watching(first) as (client, seen), open_socket(second.url) as laptop:
        await laptop.connect(token, [ROOM])
        await seen.until(client, {"viewer": ("online", 1), "editor": ("online", 1)})
        async with open_socket(first.url) as phone:
            await phone.connect(token, [ROOM])
            await phone.ask("presence", status="busy")
            await seen.until(client, {"viewer": ("online", 1), "editor": ("busy", 2)})
            await phone.ask("unsubscribe", rooms=[ROOM])
            await seen.until(client, {"viewer": ("online", 1), "editor": ("online", 1)})
        await laptop.ask("unsubscribe", rooms=[ROOM])
        await seen.until(client, {"viewer": ("online", 1)})


async def test_client_that_comes_later_is_told_everybody_in_its_ack(pair: tuple[Gateway, Gateway]) -> None:
    first, second = pair
    async with watching(first) as (client, seen), watching(second, "editor") as (other, seen_by_other):
        await seen.until(client, {"viewer": ("online", 1), "editor": ("online", 1)})
        await seen_by_other.until(other, {"viewer": ("online", 1), "editor": ("online", 1)})
        async with watching(second, "owner") as (_, seen_by_third):
            assert {"viewer", "editor"} <= seen_by_third.users.keys()


async def test_user_who_connects_again_elsewhere_is_never_told_as_gone(pair: tuple[Gateway, Gateway]) -> None:
    """A reconnect within the grace period does not flicker."""
    first, second = pair
    token = first.auth.token("editor")
    async with watching(first) as (client, seen):
        async with open_socket(second.url) as before:
            await before.connect(token, [ROOM])
            await seen.until(client, {"viewer": ("online", 1), "editor": ("online", 1)})
        async with open_socket(first.url) as after:
            await after.connect(token, [ROOM])
            await after.ask("presence", status="away")
            await seen.until(client, {"viewer": ("online", 1), "editor": ("away", 1)})

    assert not any(frame.get("left") for frame in client.frames)


async def test_removed_member_is_gone_at_once_and_is_told_nothing_more(pair: tuple[Gateway, Gateway]) -> None:
    first, second = pair
    async with watching(first) as (client, seen), watching(second, "editor") as (removed, _):
        await seen.until(client, {"viewer": ("online", 1), "editor": ("online", 1)})
        await publish_as_auth(first, member("editor", None))
        await removed.next("room.left")
        await seen.until(client, {"viewer": ("online", 1)})
        told = len(removed.frames)
        async with open_socket(first.url) as third:
            await third.connect(first.auth.token("owner"), [ROOM])
            await seen.until(client, {"viewer": ("online", 1), "owner": ("online", 1)})
        await removed.ask("ping")

    assert not [frame for frame in removed.frames[told:] if frame["type"] == "presence"]


@pytest.mark.parametrize("what", ["membership", "sign-out everywhere"])
async def test_user_who_loses_access_just_after_the_connection_is_gone_at_once(
    pair: tuple[Gateway, Gateway], what: str
) -> None:
    """A lost connection counts for some seconds more. A user without access does not, and others do."""
    first, second = pair
    first.auth.members["stays"] = {ROOM: "viewer"}
    async with watching(first) as (client, seen), open_socket(second.url) as witness:
        await witness.connect(first.auth.token("owner"), [ROOM])
        async with open_socket(second.url) as lost, open_socket(second.url) as lost_too:
            await lost.connect(first.auth.token("editor"), [ROOM])
            await lost_too.connect(first.auth.token("stays"), [ROOM])
            await seen.until(client, dict.fromkeys(("viewer", "editor", "owner", "stays"), ("online", 1)))
        while (await second.stats())["clients"] > 1:
            pass
        told = len(client.frames)
        await publish_as_auth(first, member("editor", None) if what == "membership" else signed_out("editor"))
        await seen.until(client, dict.fromkeys(("viewer", "owner", "stays"), ("online", 1)))

    left = [frame["left"] for frame in client.frames[told:] if frame.get("left")]
    assert left == [["editor"]]


async def test_user_who_changes_the_status_too_often_is_refused(stream: NatsServer, auth: FakeAuth) -> None:
    """Each change is told in all rooms of the session. A message that changes nothing does not count."""
    async with (
        running_gateway(stream, auth, statuses_per_minute_per_user=3) as gateway,
        open_socket(gateway.url) as one,
        open_socket(gateway.url) as two,
    ):
        for client in (one, two):
            await client.connect(auth.token("viewer"), [ROOM])
        answers = [await one.ask("presence", status=status) for status in ("away", "away", "busy", "online", "online")]
        refused = [await client.ask("presence", status="away") for client in (one, two)]

    assert [answer["success"] for answer in answers] == [True] * 5
    for answer in refused:
        assert answer["error"]["code"] == "too_many"
        assert answer["error"]["message"] == "a user may change the status 3 times a minute"
        assert answer["error"]["retryAfterMs"] > 0


async def test_changed_role_keeps_a_client_in_the_picture(pair: tuple[Gateway, Gateway]) -> None:
    first, second = pair
    async with watching(first) as (client, seen), open_socket(second.url) as other:
        await publish_as_auth(first, member("viewer", Role.EDITOR))
        await client.next("role.changed")
        await other.connect(first.auth.token("editor"), [ROOM])

        await seen.until(client, {"viewer": ("online", 1), "editor": ("online", 1)})


async def test_only_rooms_of_roots_with_presence_tell_it(pair: tuple[Gateway, Gateway]) -> None:
    """The catalogue gives it to campaigns, and not to users."""
    async with open_socket(pair[0].url) as client:
        ack = await client.connect(pair[0].auth.token("viewer"), [ROOM, "user:viewer"], presence=True)

    assert {name: "presence" in answer for name, answer in ack["rooms"].items()} == {ROOM: True, "user:viewer": False}


async def test_client_that_does_not_ask_is_told_nothing(pair: tuple[Gateway, Gateway]) -> None:
    """Not even if others ask. A client that has asked ends it with another `subscribe`."""
    first, second = pair
    async with watching(first) as (client, seen), open_socket(second.url) as quiet:
        ack = await quiet.connect(first.auth.token("editor"), [ROOM])
        await seen.until(client, {"viewer": ("online", 1), "editor": ("online", 1)})
        answer = await client.ask("subscribe", rooms=[ROOM])
        async with open_socket(first.url) as third, watching(second, "owner") as (other, seen_by_other):
            await third.connect(first.auth.token("editor"), [ROOM])
            await seen_by_other.until(other, {"viewer": ("online", 1), "editor": ("online", 2), "owner": ("online", 1)})
        told = len(client.frames)
        await client.ask("ping")
        await quiet.ask("ping")

    assert "presence" not in ack["rooms"][ROOM]
    assert "presence" not in answer["rooms"][ROOM]
    assert not [frame for frame in (*quiet.frames, *client.frames[told:]) if frame["type"] == "presence"]


async def test_wrong_status_is_refused(pair: tuple[Gateway, Gateway]) -> None:
    async with open_socket(pair[0].url) as client:
        await client.connect(pair[0].auth.token("viewer"), [ROOM])
        answer = await client.ask("presence", status="asleep")

    assert (answer["type"], answer["code"]) == ("error", "bad_request")


async def test_restarted_gateway_learns_who_is_here_from_the_others(stream: NatsServer, auth: FakeAuth) -> None:
    async with running_gateway(stream, auth) as lasting, watching(lasting) as (client, seen):
        for _ in range(2):
            async with running_gateway(stream, auth) as other, watching(other, "editor") as (_, _):
                await seen.until(client, {"viewer": ("online", 1), "editor": ("online", 1)})
                async with watching(other, "owner") as (third, seen_by_third):
                    while "viewer" not in seen_by_third.users:
                        seen_by_third.apply(await third.next("presence"))


async def test_messages_of_strangers_about_presence_are_dropped_and_counted(
    pair: tuple[Gateway, Gateway], stream: NatsServer
) -> None:
    """Even with a gateway's password: a message with a reply or of another shape changes nothing."""
    first, _ = pair
    liar = "f" * 16
    forged = b'{"n":1,"d":{"campaign:c1":{"ghost":[1,"online"]}},"last":false}'
    async with watching(first) as (client, seen), connected(stream, "gateway") as stranger:
        for subject, body, reply in (
            (f"presence.{liar}.changes", forged, "reply"),
            (f"presence.{liar}.changes", b'{"type":"io.nats.jetstream.api.v1.stream_info_response"}', ""),
            (f"presence.{liar}.{liar}.changes", forged, ""),
            ("presence.not-a-gateway.changes", forged, ""),
        ):
            await stranger.publish(subject, body, reply=reply)
        await stranger.flush()
        async with open_socket(first.url) as other:
            await other.connect(first.auth.token("editor"), [ROOM])
            await seen.until(client, {"viewer": ("online", 1), "editor": ("online", 1)})

    assert "ghost" not in str(client.frames)


@pytest.mark.parametrize("user", ["publisher", "auth", "operator", "setup", "rules-engine"])
async def test_only_gateways_can_publish_or_hear_presence(stream: NatsServer, user: str) -> None:
    denied: list[str] = []

    async def note(problem: Exception) -> None:
        denied.append(str(problem).lower())

    async with connected(stream, user) as nc:
        nc._error_cb = note
        await nc.publish(f"{broker.PRESENCE_PREFIX}{'a' * 16}.changes", b"{}")
        await nc.subscribe(f"{broker.PRESENCE_PREFIX}>")
        while len(denied) < 2:
            await nc.flush()

    assert all("permissions violation" in one and "presence." in one for one in denied)


@pytest.mark.parametrize("way", [replace(way, presence=True) for way in WAYS], ids=str)
async def test_every_way_in_tells_who_is_here(stream: NatsServer, auth: FakeAuth, way: Way) -> None:
    """Its clients are told at once who is there, and then who comes. And others see them."""
    async with (
        running_gateway(stream, auth, transport=way.transport) as gateway,
        watching(gateway) as (client, seen),
        way.open(gateway.url, auth.token("editor")) as visitor,
        open_socket(gateway.url) as third,
    ):
        (answer,) = visitor.ack["rooms"].values()
        assert answer["presence"]["count"] >= 1
        await seen.until(client, {"viewer": ("online", 1), "editor": ("online", 1)})
        await third.connect(auth.token("owner"), [ROOM])
        await told_of(visitor, "owner")


@pytest.mark.parametrize("way", WAYS, ids=str)
async def test_client_of_every_way_in_has_the_status_that_it_comes_with(
    stream: NatsServer, auth: FakeAuth, way: Way
) -> None:
    """From the start: others never see it online."""
    async with (
        running_gateway(stream, auth, transport=way.transport) as gateway,
        running_gateway(stream, auth) as other,
        watching(other) as (client, seen),
        way.open(gateway.url, auth.token("editor"), status="away") as visitor,
        visitor.reading(),
    ):
        await seen.until(client, {"viewer": ("online", 1), "editor": ("away", 1)})
        with pytest.raises(Refused) as refused:
            await way.open(gateway.url, auth.token("editor"), status="asleep").__aenter__()

    statuses = {one["status"] for frame in client.frames for one in named(frame) if one["userId"] == "editor"}
    assert statuses == {"away"}
    assert refused.value.said in (400, 4400, CONNECT_ERROR)


def named(frame: dict[str, Any]) -> list[dict[str, Any]]:
    """The users that a message about presence names."""
    return [*frame.get("joined", ()), *frame.get("changed", ()), *frame.get("users", ())]


async def told_of(visitor: Visitor, user: str) -> None:
    """Read until the client knows that the user is there."""
    async with asyncio.timeout(20):
        while True:
            heard = await visitor.find(lambda one: one.kind in ("presence", "connection.ack"))
            told = heard.body if heard.kind == "presence" else heard.body["rooms"][ROOM]["presence"]
            if user in {one["userId"] for one in (*told.get("joined", ()), *told.get("users", ()))}:
                return


async def test_user_of_long_polls_stays_between_two_polls_and_causes_no_answers(
    stream: NatsServer, auth: FakeAuth
) -> None:
    async with (
        running_gateway(stream, auth) as gateway,
        watching(gateway) as (client, seen),
        polling(gateway.url, auth.token("editor")) as polled,
    ):
        await seen.until(client, {"viewer": ("online", 1), "editor": ("online", 1)})
        first, *_ = await polled.poll(presence=True, waitS=0, status="busy")
        await seen.until(client, {"viewer": ("online", 1), "editor": ("busy", 1)})
        told = len(client.frames)
        answers = [await polled.poll(presence=True, waitS=1, status="busy") for _ in range(2)]
        await gateway.publish(settlement("fence"))
        await client.next("event")
        later = [one for one in client.frames[told:] if one["type"] == "presence"]

    assert {one["userId"] for one in first["rooms"][ROOM]["presence"]["users"]} == {"viewer", "editor"}
    assert [[one["type"] for one in answer] for answer in answers] == [["connection.ack"]] * 2
    assert later == []


# Backends and operators.


def service_token(auth: FakeAuth, *patterns: str) -> str:
    now = int(time.time())
    claims = ServiceClaims("crm", patterns, now, now + 600, "t1")
    return sign_service(auth.key, "k1", claims, issuer="beaconfire", audience="beaconfire")


async def ask(gateway: Gateway, token: str, **query: str) -> tuple[int, dict[str, Any]]:
    """Ask as a backend, again while the gateway starts to count."""
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(headers=headers) as http, asyncio.timeout(20):
        while True:
            async with http.get(f"{gateway.url}/v1/presence", params=query) as answer:
                body = await answer.json()
                if answer.status != 503:
                    return answer.status, body


async def test_backend_is_told_who_is_in_a_room_by_any_gateway(pair: tuple[Gateway, Gateway]) -> None:
    """Even if it is the first one that asks. In pages, sorted by user."""
    first, second = pair
    token = service_token(first.auth, "campaign.c1.>", "campaign.c1")
    async with AsyncExitStack() as stack:
        for gateway, user in ((first, "owner"), (second, "editor"), (second, "viewer")):
            client = await stack.enter_async_context(open_socket(gateway.url))
            await client.connect(first.auth.token(user), [ROOM])
        whole = await ask(first, token, room=ROOM)
        page = await ask(second, token, room=ROOM, limit="2")
        rest = await ask(second, token, room=ROOM, limit="2", after=page[1]["after"])

    assert whole[0] == 200
    assert whole[1] == {
        "room": ROOM,
        "count": 3,
        "users": [{"userId": user, "status": "online", "devices": 1} for user in ("editor", "owner", "viewer")],
    }
    assert [one["userId"] for one in page[1]["users"]] == ["editor", "owner"]
    assert ([one["userId"] for one in rest[1]["users"]], "after" in rest[1]) == (["viewer"], False)


async def test_only_a_service_that_may_publish_to_a_room_may_ask_who_is_there(pair: tuple[Gateway, Gateway]) -> None:
    first, _ = pair
    auth = first.auth
    good = service_token(auth, "campaign.c1", "user.*")
    auth.revoked.add("gone")
    revoked = sign_service(
        auth.key,
        "k1",
        ServiceClaims("gone", ("campaign.c1",), int(time.time()), int(time.time()) + 60, "t2"),
        issuer="beaconfire",
        audience="beaconfire",
    )

    refused = {
        "no token": await ask(first, "", room=ROOM),
        "a user": await ask(first, auth.token("viewer"), room=ROOM),
        "revoked": await ask(first, revoked, room=ROOM),
        "another room": await ask(first, good, room="campaign:c2"),
        "no root": await ask(first, good, room="settlement:s1"),
        "no room": await ask(first, good),
        "no presence": await ask(first, good, room="user:viewer"),
        "limit": await ask(first, good, room=ROOM, limit="0"),
    }

    assert {what: (status, body["error"]["code"]) for what, (status, body) in refused.items()} == {
        "no token": (401, "token_invalid"),
        "a user": (401, "token_invalid"),
        "revoked": (401, "token_invalid"),
        "another room": (403, "forbidden"),
        "no root": (400, "bad_room"),
        "no room": (400, "bad_room"),
        "no presence": (404, "not_found"),
        "limit": (400, "bad_request"),
    }


async def test_operators_see_how_many_users_each_room_has(pair: tuple[Gateway, Gateway]) -> None:
    """Over all gateways; and nothing is counted before anybody asks."""
    first, second = pair
    async with open_socket(second.url) as other, aiohttp.ClientSession() as http:
        await other.connect(first.auth.token("editor"), [ROOM])
        async with http.get(f"{first.ops_url}/api/v1/ws/occupancy") as answer:
            before = await answer.json()
        async with watching(first) as (client, seen), asyncio.timeout(20):
            await seen.until(client, {"viewer": ("online", 1), "editor": ("online", 1)})
            after: dict[str, Any] = {}
            while not after.get("isComplete"):
                async with http.get(f"{first.ops_url}/api/v1/ws/occupancy") as answer:
                    after = await answer.json()

    assert before == {"isCounting": False, "isComplete": False, "gateways": 0, "rooms": 0, "usersPerRoom": {}}
    assert after == {"isCounting": True, "isComplete": True, "gateways": 2, "rooms": 1, "usersPerRoom": {ROOM: 2}}
