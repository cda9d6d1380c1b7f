"""T16: JSON that is not meant to be read, on sockets, in bodies and in events."""

import json
import re
from typing import Any

import aiohttp
import pytest
from pydantic import BaseModel, ValidationError

from beaconfire_demo.workspace.notifications import Seen
from beaconfire_gateway.transports.poll import WantedPoll
from beaconfire_kit import broker
from beaconfire_kit.authorization import HttpQuestion
from beaconfire_kit.invalid_event import MAX_EVENT_BYTES
from beaconfire_publisher.given_events import GivenMetadata
from tests.client import SocketClient, open_socket
from tests.gateway.conftest import Gateway, settlement
from tests.security.conftest import Target

DEEP = 100_000
ABUSES = {
    "deep lists": b"[" * DEEP,
    "deep objects": b'{"a":' * DEEP,
    "deep and closed": b"[" * DEEP + b"]" * DEEP,
    "nothing": b"",
    "no JSON": b"hello",
    "a list": b"[]",
    "a string": b'"connect"',
    "a number": b"1",
    "null": b"null",
    "NaN": b"NaN",
    "cut off": b'{"type":"ping","id":1',
    "two": b'{"type":"ping","id":1}{"type":"ping","id":2}',
    "a comment": b'{"type":"ping",/* */"id":1}',
    "a trailing comma": b'{"type":"ping","id":1,}',
    "single quotes": b"{'type':'ping','id':1}",
    "a byte order mark": b'\xef\xbb\xbf{"type":"ping","id":1}',
}
FIELDS = {
    "1e400": b"1e400",
    "-1e400": b"-1e400",
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "5,000 digits": b"1" * 5_000,
    "a high surrogate": b'"\\ud800"',
    "a low surrogate": b'"\\udc00"',
    "surrogates the wrong way": b'"\\udc00\\ud800"',
    "depth": b"[" * 3_000 + b"]" * 3_000,
    "a bad escape": b'"\\x"',
    "a control character": b'"a\x01b"',
    "null": b"null",
    "true": b"true",
    "an object": b'{"a":1}',
    "a string of NULs": b'"' + b"\\u0000" * 100 + b'"',
}


async def _survives(client: SocketClient, sent: bytes) -> dict[str, Any]:
    """Send bytes as text; the `error` or answer that comes, after which the connection must still answer."""
    seen = len(client.frames)
    await client.socket.send_frame(sent, aiohttp.WSMsgType.TEXT)
    await client.ask("ping")
    return next(frame for frame in client.frames[seen:] if frame["type"] in ("error", "reply"))


async def test_malformed_message_gets_bad_request_and_the_connection_goes_on(target: Target) -> None:
    """T16: the answer names no more than could be read. A message over the size limit is closed with 4413 elsewhere."""
    async with target.client(target.owner, target.room) as client:
        answers = {
            name: await _survives(client, sent[:8_000] + sent[-8_000:] if len(sent) > 16_000 else sent)
            for name, sent in ABUSES.items()
        }

    assert {name: answer for name, answer in answers.items() if answer.get("code") != "bad_request"} == {}
    await target.assert_alive()


@pytest.mark.parametrize(
    "form",
    [
        b'{"type":"subscribe","id":1,"rooms":%s}',
        b'{"type":"subscribe","id":1,"rooms":[%s]}',
        b'{"type":"unsubscribe","id":1,"rooms":[%s]}',
        b'{"type":"subscribe","id":1,"rooms":[],"cursor":{"a":%s}}',
        b'{"type":%s,"id":1}',
        b'{"type":"refresh","id":1,"token":%s}',
        b'{"type":"subscribe","id":%s,"rooms":7}',
    ],
)
async def test_values_that_break_parsers_are_refused_in_every_field(target: Target, form: bytes) -> None:
    """T16: each is answered."""
    async with target.client(target.owner, target.room) as client:
        answers = {name: await _survives(client, form % value) for name, value in FIELDS.items()}

    for name, answer in answers.items():
        refused = [answer, answer.get("error", {}), *answer.get("rooms", {}).values()]
        unsubscribed = form.startswith(b'{"type":"unsubscribe"') and answer.get("success")
        assert unsubscribed or any("code" in one or "error" in one for one in refused), (name, answer)
    await target.assert_alive()


async def test_any_message_id_is_answered_in_json_that_browsers_read(target: Target) -> None:
    """T16: of a key that occurs twice, the last counts."""
    async with target.client(target.owner) as client:
        huge = await _survives(client, b'{"type":"ping","id":%s}' % (b"9" * 4_000))
        twice = await _survives(client, b'{"type":"unsubscribe","type":"ping","id":"a","id":"twice"}')
        odd = await _survives(client, '{"type":"ping","id":"\\u2028</script>\U0001f600"}'.encode())

    assert huge.get("code", "answered") in ("bad_request", "answered")
    assert twice == {"type": "reply", "id": "twice", "success": True}
    assert odd["id"] == "\u2028</script>\U0001f600"


async def test_malformed_body_gets_400_or_413_and_never_500(target: Target) -> None:
    """T16: at auth and the publisher."""
    auth, publisher = target.services.auth_url, target.services.publisher_url
    calls = [
        ("POST", f"{auth}/auth/sign-in", b'{"email":"x@y.example","password":%s}'),
        ("POST", f"{auth}/auth/refresh", b'{"refreshToken":%s}'),
        ("POST", f"{auth}/auth/roots/{target.room}/members", b'{"email":%s,"role":"viewer"}'),
        ("POST", f"{publisher}/v1/campaigns", b'{"name":%s}'),
        ("POST", f"{publisher}/v1/campaigns/{target.campaign}/settlements", b'{"name":"x","variables":{"a":%s}}'),
        ("POST", f"{publisher}/v1/campaigns/{target.campaign}/settlements", b'{"name":"x","population":%s}'),
        ("PATCH", f"{publisher}/v1/campaigns/{target.campaign}", b'{"name":%s}'),
        ("POST", f"{publisher}/v1/campaigns/{target.campaign}/world-time", b'{"advanceSeconds":%s}'),
    ]
    allowed = {"true", "null"}  # a variable may be true, and a PATCH may leave a field alone
    wrong = {}
    for method, url, form in calls:
        bodies = {**ABUSES, **{name: form % value for name, value in FIELDS.items()}}
        for name, body in bodies.items():
            status, answer = await target.status(method, url, body, token=target.owner.token)
            if status not in (400, 401, 413, 429) and not (name in allowed and status < 300):
                wrong[f"{method} {url} {name}"] = (status, answer)

    assert wrong == {}
    await target.assert_alive()


async def test_hostile_json_in_an_event_reaches_no_client_and_delays_no_other_event(gateway: Gateway) -> None:
    """T16: it is counted as refused."""
    good = json.loads(settlement_body())
    bodies = [
        *(body[:MAX_EVENT_BYTES] for body in ABUSES.values()),
        *(json.dumps(good).encode().replace(b'"level"', value) for name, value in FIELDS.items() if "NULs" not in name),
        *(b'{"x":%s,' % value + settlement_body()[1:] for name, value in FIELDS.items() if name not in PLAIN),
    ]
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        for number, body in enumerate(bodies):
            await broker.publish(gateway.publisher, "campaign.c1.settlement.s1", body, message_id=f"abuse-{number}")
        offset = await gateway.publish(settlement("genuine"))
        seen = []
        while (event := await client.next("event"))["offset"] != offset:
            seen.append(event)
        counts = re.findall(
            r"^beaconfire_gateway_events_set_aside_total\{.*\} (.*)$", await gateway.metrics(), re.MULTILINE
        )

    assert seen == []
    assert sum(map(float, counts)) >= len(bodies)


PLAIN = {"1e400", "-1e400", "null", "true", "an object", "a string of NULs", "depth"}
"""Values that an unknown field may have."""


def settlement_body() -> bytes:
    """The body of a proper event."""
    return json.dumps(
        {
            "type": "settlement_updated",
            "version": 1,
            "payload": {"campaignId": "c1", "settlementId": "s1", "operation": "update", "changedFields": ["level"]},
            "metadata": {"timestamp": "2026-11-21T10:00:00Z", "source": "api"},
        }
    ).encode()


@pytest.mark.parametrize(
    ("model", "field"),
    [(WantedPoll, "messages"), (HttpQuestion, "rooms"), (GivenMetadata, "audience"), (Seen, "ids")],
)
def test_list_of_thousands_of_wrong_items_is_refused_at_the_first(model: type[BaseModel], field: str) -> None:
    """T16: an error for each would keep a service busy for tens of milliseconds."""
    with pytest.raises(ValidationError) as refused:
        model.model_validate_json(json.dumps({field: [1] * 5_000}))

    assert refused.value.error_count() <= 2
