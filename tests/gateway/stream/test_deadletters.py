"""Dead letters through real gateways and the real broker."""

import json

import pytest
from structlog.testing import capture_logs

from beaconfire.deadletters import without_secrets
from beaconfire.nats_server import NatsServer
from beaconfire_gateway.stream.deadletters import HEADERS_BYTES
from beaconfire_kit.events.workspace import UserTyping
from tests.client import open_socket
from tests.cursors import cursor_of
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway
from tests.gateway.events import BODY, fence, raw_publish
from tests.gateway.streams import dead_letters


async def test_invalid_message_heard_by_two_gateways_and_after_a_restart_is_set_aside_once(
    stream: NatsServer, auth: FakeAuth
) -> None:
    async with running_gateway(stream, auth) as one:
        async with running_gateway(stream, auth) as two, open_socket(one.url) as client, open_socket(two.url) as other:
            for listener in (client, other):
                await listener.connect(auth.token("viewer"), ["campaign:c1"])
            await raw_publish(one, "campaign.c1.settlement.s1", b"garbage")
            await fence(one, client)
            await other.next("event")
        async with running_gateway(stream, auth) as again, open_socket(again.url) as client:
            await client.connect(auth.token("viewer"), ["campaign:c1"])
            await raw_publish(again, "campaign.c1.settlement.s2", b"more garbage")
            [event] = await fence(again, client)
            letters = await dead_letters(again, 2)

    first, second = letters
    assert (first.subject, first.data, second.data) == ("deadletter.not_json", b"garbage", b"more garbage")
    assert first.headers["Beaconfire-Subject"] == "campaign.c1.settlement.s1"
    assert first.headers["Beaconfire-Detail"].startswith("Invalid JSON")
    assert int(second.headers["Beaconfire-Offset"]) == event["offset"] - 1
    assert cursor_of(second.headers["Nats-Msg-Id"]).offset == int(second.headers["Beaconfire-Offset"])


async def test_dead_letter_is_logged_with_subject_place_and_reason_and_without_its_body(gateway: Gateway) -> None:
    with capture_logs() as lines:
        async with open_socket(gateway.url) as client:
            await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])
            await raw_publish(gateway, "campaign.c1.settlement.s1", b'{"type":"no_such","secret":"hush"}')
            [event] = await fence(gateway, client)
        [line] = [line for line in lines if line["event"] == "set aside an invalid event"]

    detail = line.pop("detail")
    assert line == {
        "event": "set aside an invalid event",
        "log_level": "warning",
        "subject": "campaign.c1.settlement.s1",
        "offset": event["offset"] - 1,
        "reason": "unknown_type",
    }
    assert "'no_such'" in detail
    assert "hush" not in str(lines)


async def test_text_of_a_publisher_cannot_add_headers_to_its_dead_letter(gateway: Gateway) -> None:
    body = json.dumps({**BODY, "type": "x\r\nNats-Msg-Id: mine\nEvil: 1"}).encode()
    await raw_publish(gateway, "campaign.c1.settlement.s1", body)
    [letter] = await dead_letters(gateway, 1)

    assert "Evil" not in letter.headers
    assert letter.headers["Nats-Msg-Id"].endswith(letter.headers["Beaconfire-Offset"])


async def test_largest_possible_dead_letter_is_kept_cut_with_its_original_size(gateway: Gateway) -> None:
    typing = UserTyping(workspace_id="w1", target_kind="chat", target_id="h1", user_id="editor", typing=True)
    body = b"x" * gateway.publisher.max_payload
    await raw_publish(gateway, typing.full_subject(), body)
    [letter] = await dead_letters(gateway, 1)

    assert letter.subject == "deadletter.too_large"
    assert len(letter.data) == len(body) - HEADERS_BYTES
    assert letter.headers["Beaconfire-Bytes"] == str(len(body))


async def test_invalid_ephemeral_message_is_set_aside_once_without_a_place(gateway: Gateway) -> None:
    typing = UserTyping(workspace_id="w1", target_kind="chat", target_id="h1", user_id="editor", typing=True)
    for body in (b"garbage", b"garbage", b"other"):
        await raw_publish(gateway, typing.full_subject(), body)
    letters = await dead_letters(gateway, 2)

    assert [letter.data for letter in letters] == [b"garbage", b"other"]
    assert "Beaconfire-Offset" not in letters[0].headers
    assert letters[0].headers["Beaconfire-Subject"] == typing.full_subject()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"accessToken": "abc", "n": 1}', '{"accessToken": "[redacted]", "n": 1}'),
        ('{"password":"a\\"b","x":"y"}', '{"password":"[redacted]","x":"y"}'),
        ('{"client_secret":12345}', '{"client_secret":"[redacted]"}'),
        ('{"api_key":"cut off he', '{"api_key":"[redacted]"'),
        ("Bearer abc", "Bearer [redacted]"),
        ("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1In0.sig", "[redacted]"),
        ('{"name":"Riverton"}', '{"name":"Riverton"}'),
        ('"' + "token" * 50_000, '"' + "token" * 50_000),
    ],
)
def test_printed_dead_letters_hide_secrets_and_long_bodies_take_no_time(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
