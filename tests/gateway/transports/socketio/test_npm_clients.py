"""Unmodified clients of the `socket.io-client` package against a real gateway."""

import asyncio

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_kit.roles import Role
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, on_both_transports, running_gateway, settlement
from tests.gateway.events import member, publish_as_auth
from tests.socketio.clients import Driver, NpmClient

PAYLOAD = {"campaignId": "c1", "settlementId": "s1", "operation": "update", "changedFields": ["level"]}


async def connected(driver: Driver, gateway: Gateway, user: str = "viewer", **options: object) -> NpmClient:
    """A client of this user that has connected."""
    client = driver.open(gateway.url, auth={"token": gateway.auth.token(user)}, **options)  # type: ignore[arg-type]
    await client.next("connect")
    return client


@on_both_transports
async def test_client_subscribes_and_hears_events(gateway: Gateway, driver: Driver) -> None:
    """An event is emitted by its type, with its payload and its cursor."""
    client = await connected(driver, gateway)
    answer = await client.ask("subscribe_campaign", "c1")
    offset = await gateway.publish(settlement())

    payload, cursor = await client.event("settlement_updated")
    assert answer["success"] is True
    assert payload == PAYLOAD
    assert cursor.endswith(f":{offset}")


async def test_client_of_socketio_3_speaks_the_same_protocol(gateway: Gateway, driver: Driver) -> None:
    """It connects, subscribes and hears events."""
    client = await connected(driver, gateway, version=3)
    await client.ask("subscribe_campaign", "c1")
    await gateway.publish(settlement())

    assert (await client.event("settlement_updated"))[0] == PAYLOAD


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_client_of_socketio_2_is_refused(gateway: Gateway, driver: Driver, transport: str) -> None:
    """It reports that it cannot connect, and tries again as it always does."""
    client = driver.open(gateway.url, version=2, transports=(transport,))

    await client.next("reconnect_attempt")
    assert not [one for one in client.seen if one["got"] in ("connect", "open")]


@on_both_transports
async def test_client_with_a_bad_token_is_told_why_and_does_not_come_back(gateway: Gateway, driver: Driver) -> None:
    """Once it has a good token, it connects when its application asks it to."""
    client = driver.open(gateway.url, auth={"token": "nonsense"})
    refused = await client.next("connect_error")
    assert refused["data"]["code"] == "token_invalid"
    assert refused["message"] == refused["data"]["message"]

    client.use(token=gateway.auth.token("viewer"))
    client.connect()
    await client.next("connect")

    assert not [one for one in client.seen if one["got"] == "reconnect_attempt"]


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_address_may_lack_its_last_slash(gateway: Gateway, driver: Driver, transport: str) -> None:
    """Socket.IO has an option for it."""
    client = await connected(driver, gateway, addTrailingSlash=False, transports=(transport,))

    assert (await client.ask("subscribe_campaign", "c1"))["success"] is True


async def test_token_may_come_in_the_query_or_in_a_header(gateway: Gateway, driver: Driver) -> None:
    """Applications that have no `auth` put it there."""
    token = gateway.auth.token("viewer")
    by_query = driver.open(gateway.url, query={"token": token})
    by_header = driver.open(gateway.url, extraHeaders={"Authorization": f"Bearer {token}"})

    await by_query.next("connect")
    await by_header.next("connect")


async def test_each_subscription_is_answered_with_success_or_an_error(gateway: Gateway, driver: Driver) -> None:
    """The error is a sentence, and `code` is for programs."""
    client = await connected(driver, gateway)

    joined = await client.ask("subscribe_campaign", "c1")
    refused = await client.ask("subscribe_settlement", "s1")
    both = await client.ask("subscribe", ["campaign:c1", "campaign:c2"])

    text = "no such room, or you are not a member"
    assert (joined["success"], joined["rooms"]) == (True, {"campaign:c1": {"success": True}})
    assert (refused["success"], refused["error"], refused["code"]) == (False, text, "forbidden")
    assert (both["success"], both["error"]) == (False, f"campaign:c2: {text}")
    assert both["rooms"]["campaign:c1"] == {"success": True}
    for room in ("campaign:", "campaign:a b", ""):
        assert (await client.ask("subscribe", room))["code"] == "bad_room"
    assert (await client.ask("subscribe", 5))["code"] == "bad_request"


async def test_client_hears_nothing_of_a_room_that_it_left(gateway: Gateway, driver: Driver) -> None:
    """`unsubscribe_campaign` is answered when that is so."""
    client, other = await connected(driver, gateway), await connected(driver, gateway)
    await client.ask("subscribe_campaign", "c1")
    await other.ask("subscribe_campaign", "c1")
    answer = await client.ask("unsubscribe_campaign", "c1")
    await gateway.publish(settlement("missed"))
    await other.event("settlement_updated")
    await client.ask("subscribe_campaign", "c1")
    await gateway.publish(settlement("heard"))

    assert (await client.event("settlement_updated"))[0]["settlementId"] == "heard"
    assert answer == {"success": True, "rooms": {"campaign:c1": {"success": True}}}


async def test_client_may_want_some_types_alone(gateway: Gateway, driver: Driver) -> None:
    """As in the native protocol."""
    client = await connected(driver, gateway)
    refused = await client.ask("subscribe", {"rooms": ["campaign:c1"], "types": ["no_such_type"]})
    await client.ask("subscribe", {"rooms": ["campaign:c1"], "types": ["world_time_changed"]})
    await gateway.publish(settlement("unwanted"))
    await client.ask("subscribe", {"rooms": ["campaign:c1"], "types": ["settlement_updated"]})
    await gateway.publish(settlement("wanted"))

    assert refused["code"] == "unknown_type"
    assert (await client.event("settlement_updated"))[0]["settlementId"] == "wanted"


async def test_unknown_event_is_answered_if_its_client_waits(gateway: Gateway, driver: Driver) -> None:
    """Otherwise an event of ours says what was wrong. The client stays connected."""
    client = await connected(driver, gateway)
    client.emit("save_everything", {"a": 1})

    assert await client.event("beaconfire:error") == [
        {"code": "unknown_type", "message": "there is no event 'save_everything'"}
    ]
    assert await client.ask("save_everything", {"a": 1}) == {
        "success": False,
        "error": "there is no event 'save_everything'",
        "code": "unknown_type",
    }


async def test_event_with_binary_data_is_received_whole(gateway: Gateway, driver: Driver) -> None:
    """It is answered as any other, and the client stays connected."""
    client = await connected(driver, gateway)

    assert (await client.ask_binary("upload", b"\x00" * 1_000))["error"] == "there is no event 'upload'"
    assert (await client.ask_binary("subscribe", b"\x00"))["code"] == "bad_request"
    assert (await client.ask("subscribe_campaign", "c1"))["success"] is True


async def test_client_that_sends_again_until_it_is_answered_joins_once(gateway: Gateway, driver: Driver) -> None:
    """With `retries`, a client sends one event at a time, and also what it emitted before it connected."""
    client = driver.open(gateway.url, auth={"token": gateway.auth.token("viewer")}, retries=3, ackTimeout=10_000)
    answers = await asyncio.gather(*(client.ask("subscribe_campaign", "c1") for _ in range(3)))
    await gateway.publish(settlement("first"))
    await gateway.publish(settlement("second"))
    await client.event("settlement_updated")
    await client.event("settlement_updated")

    assert [answer["success"] for answer in answers] == [True, True, True]
    assert [payload["settlementId"] for payload, _ in client.events("settlement_updated")] == ["first", "second"]


async def test_clients_see_each_other_and_how_they_are(gateway: Gateway, driver: Driver) -> None:
    watcher, other = await connected(driver, gateway), await connected(driver, gateway)
    answer = await watcher.ask("subscribe", {"rooms": ["campaign:c1"], "presence": True})
    await other.ask("subscribe_campaign", "c1")

    assert await other.ask("presence.update", {"status": "busy"}) == {"success": True}
    assert (await other.ask("presence.update", {"status": "asleep"}))["code"] == "bad_request"
    while not any(person["status"] == "busy" for person in (await watcher.event("beaconfire:presence"))[0]["changed"]):
        pass

    assert answer["rooms"]["campaign:c1"]["presence"]["count"] == 1


@on_both_transports
async def test_clients_of_a_chat_are_told_who_is_typing(gateway: Gateway, driver: Driver) -> None:
    """In the shape of the event that services publish."""
    for user in ("editor", "viewer"):
        gateway.auth.members[user]["workspace:w1"] = "viewer"
    sender, other = await connected(driver, gateway, "editor"), await connected(driver, gateway)
    for client in (sender, other):
        await client.ask("subscribe", "workspace:w1/chat:h1")

    assert await sender.ask("typing.start", {"chatId": "h1"}) == {"success": True}
    payload, cursor = await other.event("user.typing")
    assert await sender.ask("typing.stop", {"chatId": "h1"}) == {"success": True}
    stopped, _ = await other.event("user.typing")

    assert cursor is None
    assert payload == {
        "workspaceId": "w1",
        "chatId": "h1",
        "targetKind": "chat",
        "targetId": "h1",
        "room": "workspace:w1/chat:h1",
        "userId": "editor",
        "typing": True,
    }
    assert stopped == {**payload, "typing": False}
    assert not sender.events("user.typing")


async def test_client_cannot_type_in_a_chat_that_it_has_not_joined(gateway: Gateway, driver: Driver) -> None:
    client = await connected(driver, gateway)

    assert (await client.ask("typing.start", {"chatId": "h1"}))["code"] == "forbidden"
    assert (await client.ask("typing.start", {"status": "away"}))["code"] == "bad_request"


@on_both_transports
async def test_client_may_be_in_two_namespaces_over_one_connection(gateway: Gateway, driver: Driver) -> None:
    """Each has its own rooms. Leaving one leaves the other alone."""
    main = await connected(driver, gateway, multiplex=True)
    realtime = await connected(driver, gateway, multiplex=True, namespace="/realtime")
    await realtime.ask("subscribe_campaign", "c1")
    await gateway.publish(settlement("first"))
    assert (await realtime.event("settlement_updated"))[0]["settlementId"] == "first"
    assert not main.events("settlement_updated")
    stats = await gateway.stats()
    assert (stats["clients"], stats["clientsPerAddress"]) == (2, {"127.0.0.1": 1})

    await main.ask("subscribe_campaign", "c1")
    realtime.disconnect()
    await realtime.next("disconnect")
    await gateway.publish(settlement("second"))

    assert (await main.event("settlement_updated"))[0]["settlementId"] == "second"
    assert len(realtime.events("settlement_updated")) == 1


async def test_realtime_namespace_joins_the_rooms_of_the_user(
    stream: NatsServer, auth: FakeAuth, driver: Driver
) -> None:
    """The user's own, and the user's workspaces. The first event after the start names them."""
    auth.members["viewer"]["workspace:w1"] = "viewer"
    async with running_gateway(stream, auth) as gateway:
        client = await connected(driver, gateway, namespace="/realtime")
        ack, cursor = await client.event("beaconfire:ack")

    assert sorted(ack["rooms"]) == ["user:viewer", "workspace:w1"]
    assert cursor == ack["cursor"]


async def test_unknown_namespace_is_refused(gateway: Gateway, driver: Driver) -> None:
    """With Socket.IO's own words. The main namespace stays."""
    main = await connected(driver, gateway, multiplex=True)
    client = driver.open(gateway.url, namespace="/admin", auth={"token": gateway.auth.token("viewer")}, multiplex=True)

    assert (await client.next("connect_error"))["message"] == "Invalid namespace"
    assert (await main.ask("subscribe_campaign", "c1"))["success"] is True


async def test_namespaces_are_a_setting(stream: NatsServer, auth: FakeAuth, driver: Driver) -> None:
    """A gateway serves those that it is told to."""
    async with running_gateway(stream, auth, socketio_namespaces="/game, /chat") as gateway:
        client = await connected(driver, gateway, namespace="/game")
        assert (await client.ask("subscribe_campaign", "c1"))["success"] is True
        realtime = driver.open(gateway.url, namespace="/realtime")

        assert (await realtime.next("connect_error"))["message"] == "Invalid namespace"


async def test_client_renews_its_token_without_a_new_connection(gateway: Gateway, driver: Driver) -> None:
    """By an event that takes the newer token. A token of another user is refused."""
    client = driver.open(gateway.url, auth={"token": gateway.auth.token("viewer", ttl_s=3)})
    await client.next("connect")
    await client.event("beaconfire:token.expiring")

    assert (await client.ask("refresh", gateway.auth.token("owner")))["code"] == "token_invalid"
    assert await client.ask("refresh", {"token": gateway.auth.token("viewer")}) == {"success": True}


async def test_client_whose_token_runs_out_comes_back_with_a_newer_one(gateway: Gateway, driver: Driver) -> None:
    """Its `auth` function gives it one. Without it, the client is refused, and stays away."""
    client = driver.open(gateway.url, auth={"token": gateway.auth.token("viewer", ttl_s=2)})
    await client.next("connect")
    client.use(token=gateway.auth.token("viewer", ttl_s=2))

    assert await client.event("beaconfire:error") == [{"code": "token_invalid", "message": "the token ran out"}]
    assert (await client.next("disconnect"))["reason"] == "transport close"
    await client.next("connect")
    await client.next("disconnect")
    assert (await client.next("connect_error"))["data"]["code"] == "token_invalid"


async def test_client_that_loses_its_role_leaves_the_room(gateway: Gateway, driver: Driver) -> None:
    """An event of ours says which room, and no event of the room comes after it."""
    client = await connected(driver, gateway)
    await client.ask("subscribe_campaign", "c1")
    gateway.auth.members["viewer"] = {}
    await publish_as_auth(gateway, member("viewer", None))

    assert (await client.event("beaconfire:room.left"))[0]["room"] == "campaign:c1"
    await gateway.publish(settlement())
    assert (await client.ask("subscribe_campaign", "c1"))["success"] is False
    assert not client.events("settlement_updated")


async def test_role_decides_about_events_for_an_audience(gateway: Gateway, driver: Driver) -> None:
    """As in the native protocol."""
    owner, viewer = await connected(driver, gateway, "owner"), await connected(driver, gateway)
    for client in (owner, viewer):
        await client.ask("subscribe_campaign", "c1")
    await gateway.publish(settlement("secret"), audience=(Role.OWNER,))
    await gateway.publish(settlement("public"))

    assert (await owner.event("settlement_updated"))[0]["settlementId"] == "secret"
    assert (await viewer.event("settlement_updated"))[0]["settlementId"] == "public"


async def test_client_that_floods_is_refused_and_then_closed(gateway: Gateway, driver: Driver) -> None:
    """It comes back by itself, as after any lost connection."""
    client = await connected(driver, gateway)
    answers = await asyncio.gather(*(client.ask("ping") for _ in range(150)))

    assert answers[0] == {"success": True}
    assert answers[-1]["code"] == "too_many"
    assert answers[-1]["retryAfterMs"] > 0
    for _ in range(100):
        client.emit("ping")
    assert (await client.next("disconnect"))["reason"] == "transport close"
    await client.next("connect")


@on_both_transports
async def test_client_of_a_stopping_gateway_connects_again(stream: NatsServer, auth: FakeAuth, driver: Driver) -> None:
    """Both of its namespaces end at once, and it does not wait to be asked."""
    async with running_gateway(stream, auth, stop_timeout_s=5, stop_accept_s=0) as gateway:
        main = await connected(driver, gateway, multiplex=True)
        realtime = await connected(driver, gateway, namespace="/realtime", multiplex=True)

    for client in (main, realtime):
        assert (await client.next("disconnect"))["reason"] == "transport close"
    await main.next("reconnect_attempt")


async def test_connection_that_is_lost_counts_no_longer(gateway: Gateway, driver: Driver) -> None:
    """The gateway ends its sessions. The client comes back by itself."""
    client = await connected(driver, gateway)
    client.drop()
    await client.next("disconnect")
    client.connect()
    await client.next("connect")
    await client.ask("ping")

    assert (await gateway.stats())["clients"] == 1
