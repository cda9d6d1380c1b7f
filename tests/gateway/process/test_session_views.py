"""Operators see which sessions a gateway has, what each hears, and from where on."""

from collections.abc import Mapping
from typing import Any

from tests.client import open_socket
from tests.gateway.conftest import Gateway, on_both_transports, settlement


def rooms_of(session: Mapping[str, Any]) -> dict[str, Any]:
    return {one["name"]: one for one in session["rooms"]}


@on_both_transports
async def test_a_session_shows_its_rooms_roles_types_and_place(gateway: Gateway) -> None:
    async with open_socket(gateway.url) as client:
        await client.connect(
            gateway.auth.token("viewer"), ["campaign:c1"], types={"campaign:c1": ["world_time_changed"]}
        )
        before = await gateway.publish(settlement())

        status, answer = await gateway.sessions(("user", "viewer"))

    session = answer["sessions"][0]
    room = rooms_of(session)["campaign:c1"]
    assert (status, answer["total"], session["sessionId"]) == (200, 1, client.ack["sessionId"])
    assert (session["state"], session["transport"], session["dialect"]) == ("live", "websocket", "beaconfire.v1")
    assert session["offset"] + session["behind"] == answer["gateways"][0]["position"]
    assert answer["gateways"][0]["status"] == "ready"
    assert (room["room"], room["role"], room["types"]) == ("campaign:c1", "viewer", ["world_time_changed"])
    assert [one["how"] for one in room["began"]] == ["joined"]
    assert room["began"][0]["after"] < before


async def test_a_session_shows_what_it_resumed_restored_and_lost(gateway: Gateway) -> None:
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        cursor = client.ack["cursor"]
        offset = await gateway.publish(settlement())
        await client.next("event")
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1"], cursor=cursor)
        await client.next("event")
        await client.ask("subscribe", rooms=["campaign:c1/settlement:s1"], cursor=cursor)
        _, resumed = await gateway.sessions(("user", "viewer"))
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1"], cursor="other:7")
        await client.next("resync")
        _, lost = await gateway.sessions(("user", "viewer"))

    rooms = rooms_of(resumed["sessions"][0])
    began = int(cursor.rpartition(":")[2])
    assert [one["how"] for one in rooms["campaign:c1"]["began"]] == ["joined", "resumed"]
    assert rooms["campaign:c1"]["began"][1]["after"] == began < offset <= rooms["campaign:c1"]["began"][1]["position"]
    assert [(one["how"], one["after"]) for one in rooms["campaign:c1/settlement:s1"]["began"]][-1] == (
        "restored",
        began,
    )
    assert [one["how"] for one in rooms_of(lost["sessions"][0])["campaign:c1"]["began"]] == ["joined", "resync"]


async def test_sessions_are_listed_by_room_in_pages(gateway: Gateway) -> None:
    async with open_socket(gateway.url) as one, open_socket(gateway.url) as two, open_socket(gateway.url) as other:
        await one.connect(gateway.auth.token("viewer"), ["campaign:c1/settlement:s1"])
        await two.connect(gateway.auth.token("owner"), ["campaign:c1/settlement:s1"])
        await other.connect(gateway.auth.token("owner"), ["campaign:c1"])
        expected = sorted([one.ack["sessionId"], two.ack["sessionId"]])

        _, first = await gateway.sessions(("room", "settlement:s1"), ("limit", "1"))
        _, second = await gateway.sessions(("room", "settlement:s1"), ("after", first["sessions"][0]["sessionId"]))
        _, whole = await gateway.sessions()
        wrong = [await gateway.sessions(query) for query in (("room", "no room"), ("limit", "0"), ("limit", "x"))]

    assert [session["sessionId"] for answer in (first, second) for session in answer["sessions"]] == expected
    assert (first["total"], whole["total"]) == (2, 3)
    assert [(status, answer["error"]["code"]) for status, answer in wrong] == [
        (400, "bad_room"),
        (400, "bad_request"),
        (400, "bad_request"),
    ]
