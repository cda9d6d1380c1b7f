"""An event goes from its subject to the sockets of the right rooms, once and in order. Invalid events reach no
client."""

import asyncio
import json
import re
from typing import Any

import pytest

from beaconfire_kit.events.notification import NotificationNew
from beaconfire_kit.events.tracker import IssueCreated
from beaconfire_kit.events.workspace import UserTyping
from tests.client import open_socket
from tests.conftest import connected
from tests.gateway.conftest import Gateway, on_both_transports, settlement
from tests.gateway.events import BODY, fence, raw_publish


@on_both_transports
async def test_event_that_matches_several_rooms_comes_once_with_all_its_rooms(gateway: Gateway) -> None:
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1", "campaign:c1/settlement:s1"])
        offset = await gateway.publish(settlement("s1"))
        events = await fence(gateway, client)

    assert [event["offset"] for event in events] == [offset, offset + 1]
    assert events[0]["rooms"] == ["campaign:c1", "campaign:c1/settlement:s1"]


async def test_session_hears_only_its_rooms_and_not_the_same_id_in_another_campaign(gateway: Gateway) -> None:
    gateway.auth.members["viewer"]["campaign:c2"] = "viewer"
    async with open_socket(gateway.url) as client:
        await client.connect(
            gateway.auth.token("viewer"), ["campaign:c1/settlement:s1", "campaign:c1/settlement:fence"]
        )
        await gateway.publish(settlement("s2"))
        await gateway.publish(settlement("s1", "c2"))
        mine = await gateway.publish(settlement("s1"))
        events = await fence(gateway, client)

    assert [event["offset"] for event in events] == [mine, mine + 1]


async def test_all_connections_of_a_user_receive_every_event(gateway: Gateway) -> None:
    """Requirement A4."""
    async with open_socket(gateway.url) as one, open_socket(gateway.url) as two:
        for tab in (one, two):
            await tab.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        offset = await gateway.publish(settlement())

        assert [(await tab.next("event"))["offset"] for tab in (one, two)] == [offset, offset]


@on_both_transports
async def test_events_of_many_rooms_reach_a_session_in_stream_order_once_each(gateway: Gateway) -> None:
    rooms = [f"campaign:c1/settlement:s{number}" for number in range(20)]
    async with open_socket(gateway.url) as all_of_them, open_socket(gateway.url) as some:
        await all_of_them.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        await some.connect(gateway.auth.token("viewer"), rooms[:10])
        for number in range(400):
            await raw_publish(
                gateway,
                f"campaign.c1.settlement.s{number * 7 % 20}",
                json.dumps(
                    {
                        **BODY,
                        "id": f"e{number}",
                        "payload": {**BODY["payload"], "settlementId": f"s{number * 7 % 20}"},
                    }
                ).encode(),
            )
        heard = await all_of_them.events(400)
        heard_some = await some.events(200)

    offsets = [event["offset"] for event in heard]
    assert offsets == list(range(offsets[0], offsets[0] + 400))
    assert [event["offset"] for event in heard_some] == [
        event["offset"] for event in heard if int(event["event"]["payload"]["settlementId"][1:]) < 10
    ]


async def test_publishers_json_reaches_the_client_unchanged(gateway: Gateway) -> None:
    body = b'{ "extra": {"deep": [1, 2.50, "\\u00e4"]},' + json.dumps(BODY).encode()[1:]
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        await raw_publish(gateway, "campaign.c1.settlement.s1", body)
        event = await client.next("event")

    assert event["event"] == json.loads(body)


async def test_event_without_an_id_gets_its_place_in_the_stream_as_id(gateway: Gateway) -> None:
    body = {name: value for name, value in BODY.items() if name != "id"}
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        await raw_publish(gateway, "campaign.c1.settlement.s1", json.dumps(body).encode())
        event = await client.next("event")

    assert event["event"] == {"id": f"EVENTS:{event['offset']}", **body}


@on_both_transports
async def test_event_for_owners_and_editors_does_not_reach_a_viewer(gateway: Gateway) -> None:
    async with open_socket(gateway.url) as owner, open_socket(gateway.url) as viewer:
        await owner.connect(gateway.auth.token("owner"), ["campaign:c1"])
        await viewer.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        secret = await gateway.publish(settlement(), audience=("owner", "editor"))
        heard = [event["offset"] for event in await fence(gateway, owner)]
        heard_by_viewer = [event["offset"] for event in await fence(gateway, viewer)]

    assert secret in heard
    assert secret not in heard_by_viewer


async def test_notification_reaches_only_the_connections_of_its_user(gateway: Gateway) -> None:
    async with open_socket(gateway.url) as mine, open_socket(gateway.url) as other:
        await mine.connect(gateway.auth.token("viewer"), ["user:viewer", "campaign:c1"])
        answer = await other.connect(gateway.auth.token("editor"), ["user:viewer", "campaign:c1"])
        offset = await gateway.publish(NotificationNew(user_id="viewer", id="n1", title="Hello"))
        heard = [event["offset"] for event in await fence(gateway, mine)]
        heard_by_other = [event["offset"] for event in await fence(gateway, other)]

    assert answer["rooms"]["user:viewer"]["error"]["code"] == "forbidden"
    assert offset in heard
    assert offset not in heard_by_other


async def test_issue_event_reaches_workspace_team_and_issue_rooms(gateway: Gateway) -> None:
    """Requirement C3."""
    gateway.auth.members["viewer"]["workspace:w1"] = "viewer"
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["workspace:w1/team:m1"])
        await gateway.publish(IssueCreated(workspace_id="w1", team_id="m1", id="i1", title="Broken"))
        event = await client.next("event")

    assert event["rooms"] == ["workspace:w1", "workspace:w1/team:m1", "workspace:w1/issue:i1"]


async def test_ephemeral_event_reaches_connected_sessions_without_an_offset(gateway: Gateway) -> None:
    gateway.auth.members["viewer"]["workspace:w1"] = "viewer"
    typing = UserTyping(workspace_id="w1", target_kind="chat", target_id="h1", user_id="editor", typing=True)
    body = {
        "type": "user.typing",
        "version": 1,
        "payload": typing.model_dump(mode="json"),
        "metadata": BODY["metadata"],
    }
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["workspace:w1/chat:h1"])
        await raw_publish(gateway, typing.full_subject(), json.dumps(body).encode())
        event = await client.next("event")

    assert "offset" not in event
    assert event["event"]["payload"]["typing"] is True


@pytest.mark.parametrize(
    ("subject", "body", "reason"),
    [
        pytest.param("campaign.c1.settlement.s1", b"garbage", "not_json", id="garbage"),
        pytest.param("campaign.c1.settlement.s1", b"", "not_json", id="empty"),
        pytest.param("campaign.c1.settlement.s1", b"\xff\xfe\x00", "not_json", id="binary"),
        pytest.param("campaign.c1.settlement.s1", b"[" * 60_000, "not_json", id="depth bomb"),
        pytest.param("campaign.c1.settlement.s1", b'{"type":"no_such"}', "unknown_type", id="unknown type"),
        pytest.param(
            "campaign.c1.settlement.s1", json.dumps({**BODY, "version": 2}).encode(), "unknown_version", id="version"
        ),
        pytest.param(
            "campaign.c1.settlement.s1",
            json.dumps({**BODY, "payload": {"campaignId": "c1"}}).encode(),
            "invalid",
            id="fields missing",
        ),
        pytest.param(
            "campaign.c1.settlement.s1",
            json.dumps({**BODY, "note": float("nan")}).encode(),
            "not_json",
            id="NaN, which no browser reads",
        ),
        pytest.param("campaign.c2.settlement.s1", json.dumps(BODY).encode(), "wrong_subject", id="another campaign"),
        pytest.param("campaign.c1.settlement.s2", json.dumps(BODY).encode(), "wrong_subject", id="another settlement"),
        pytest.param("campaign.c1.state", json.dumps(BODY).encode(), "wrong_subject", id="another kind"),
        pytest.param("campaign.ü.settlement.s1", json.dumps(BODY).encode(), "wrong_subject", id="not an id"),
        pytest.param(
            "campaign.c1.settlement.s1",
            json.dumps(BODY).replace('"s1"', '"*"').encode(),
            "invalid",
            id="wildcard in the body",
        ),
    ],
)
async def test_invalid_event_is_set_aside_and_counted_and_reaches_no_session(
    gateway: Gateway, subject: str, body: bytes, reason: str
) -> None:
    gateway.auth.members["viewer"]["campaign:c2"] = "viewer"
    dead = asyncio.get_running_loop().create_future()

    async def keep(message: Any) -> None:
        dead.set_result(message)

    async with open_socket(gateway.url) as client, connected(gateway.server, "operator") as operator:
        await operator.subscribe("deadletter.>", cb=keep)
        await operator.flush()
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1", "campaign:c2"])
        await raw_publish(gateway, subject, body)
        events = await fence(gateway, client)
        async with asyncio.timeout(10):
            letter = await dead

    assert len(events) == 1
    assert (letter.subject, letter.data) == (f"deadletter.{reason}", body)
    assert letter.headers["Beaconfire-Subject"].startswith("campaign.")
    assert f'beaconfire_gateway_events_set_aside_total{{reason="{reason}"}}' in await gateway.metrics()


@pytest.mark.parametrize("name", ["*", ">"])
async def test_message_on_a_wildcard_subject_reaches_no_room(gateway: Gateway, name: str) -> None:
    """NATS stores such messages."""
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        body = json.dumps(BODY).replace('"s1"', f'"{name}"').encode()
        await gateway.publisher._send_publish(f"campaign.c1.settlement.{name}", "", body, len(body), None)
        events = await fence(gateway, client)

    assert len(events) == 1


async def test_event_with_a_lifetime_is_refused(gateway: Gateway) -> None:
    """Such an event would vanish from the history."""
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        await raw_publish(gateway, "campaign.c1.settlement.s1", json.dumps(BODY).encode(), {"Nats-TTL": "60s"})
        events = await fence(gateway, client)

    assert len(events) == 1


async def test_headers_forged_by_a_publisher_have_no_effect(gateway: Gateway) -> None:
    """Forged headers stand before the server's own, and only the last ones count."""
    forged = {"Nats-Sequence": "999999", "Nats-Subject": "campaign.c2.settlement.s1", "Nats-Stream": "OTHER"}
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        before = await gateway.publish(settlement())
        await raw_publish(gateway, "campaign.c1.settlement.s1", json.dumps(BODY).encode(), forged)
        events = await fence(gateway, client)

    assert [event["offset"] for event in events] == [before, before + 1, before + 2]


async def foreign(gateway: Gateway) -> float:
    """Return how many messages this process heard that the stream did not send."""
    found = re.search(r"^beaconfire_gateway_forged_messages_total (\S+)", await gateway.metrics(), re.MULTILINE)
    assert found is not None
    return float(found[1])


async def test_acknowledgement_sent_to_the_live_subject_by_a_reply_reaches_no_session(gateway: Gateway) -> None:
    before = await foreign(gateway)
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1", "campaign:c9"])
        await gateway.publisher.publish(
            "campaign.c1.settlement.s1", json.dumps(BODY).encode(), reply="live.campaign.c9.settlement.s1"
        )
        events = await fence(gateway, client)

    assert len(events) == 2
    assert await foreign(gateway) == before + 1
