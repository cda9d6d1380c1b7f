"""T9: no id reaches the broker as a wildcard, a separator or a subject of its own."""

import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.security.conftest import Target
from tests.security.raw_http import statuses

INJECTED = {
    "star": "*",
    "greater": ">",
    "star inside": "a*",
    "dot": "a.b",
    "dots": "..",
    "wildcard tail": "c1.>",
    "encoded star": "%2A",
    "encoded dot": "a%2Eb",
    "space": "a b",
    "tab": "a\tb",
    "CRLF": "a\r\nPUB live.x 0\r\n\r\n",
    "LF": "a\n",
    "NUL": "a\0b",
    "empty": "",
    "Cyrillic c": "\u0441\u0031",
    "full width": "\uff43\uff11",
    "zero width": "c\u200b1",
    "right to left": "\u202ec1",
    "other digits": "\u0661",
    "combining": "é",
    "colon": "a:b",
    "slash": "a/b",
    "traversal": "../../auth/me",
    "dollar": "$JS",
    "65 characters": "x" * 65,
    "10 KB": "x" * 10_000,
}


def subjects(target: Target) -> set[str]:
    """Every subscription that the broker knows of, but for the inboxes of reads that come and go."""
    page = target.monitoring("/subsz?subs=1&limit=10000")
    listed = [one["subject"] for one in page.get("subscriptions_list") or page.get("subscriptions") or []]
    assert listed
    return {subject for subject in listed if not subject.startswith(("_INBOX", "$"))}


async def _codes(client: Any, kind: str, rooms: list[str]) -> dict[str, str]:
    """The error of each room; of a message that is refused as a whole, the same for all."""
    answer = await client.ask(kind, rooms=rooms)
    if answer["type"] == "error":
        return dict.fromkeys(rooms, answer["code"])
    return {name: room.get("error", {}).get("code", "joined") for name, room in answer["rooms"].items()}


@pytest.mark.parametrize(
    "form", ["campaign:{}", "settlement:{}", "{}:c1", "campaign:c1/settlement:{}", "campaign:{}/x:y"]
)
async def test_malformed_room_is_refused_and_reaches_no_broker_subscription(target: Target, form: str) -> None:
    """T9: as the id or the kind of a room."""
    before = subjects(target)
    codes: dict[str, str] = {}
    async with target.client(target.owner) as client:
        for text in INJECTED.values():
            if text == "a/b" and form == "campaign:{}/x:y":
                continue
            codes |= await _codes(client, "subscribe", [form.format(text)])
        fine = await _codes(client, "subscribe", [target.room])

    assert set(codes.values()) <= {"bad_room", "bad_request"}, codes
    assert fine == {target.room: "joined"}
    assert subjects(target) == before


async def test_malformed_room_in_connect_is_refused_and_a_good_one_joined(target: Target) -> None:
    """T9: each room is answered."""
    bad = [f"campaign:{text}" for text in INJECTED.values() if len(text) < 200]
    before = subjects(target)
    async with target.client(target.owner, target.room, *bad) as client:
        answers = client.ack["rooms"]

    assert answers.pop(target.room) == {"success": True}
    assert {room["error"]["code"] for room in answers.values()} == {"bad_room"}
    assert len(answers) == len(bad)
    assert subjects(target) == before


async def test_malformed_id_in_a_path_is_refused_to_owner_and_stranger_alike(target: Target) -> None:
    """T9: with 400, or 404 if it makes another path. The event of a change cannot carry one."""
    before = subjects(target)
    auth, publisher = target.services.auth_url, target.services.publisher_url
    forms = [
        ("GET", auth, "/auth/roots/campaign:{}/members", None),
        ("DELETE", auth, f"/auth/roots/{target.room}/members/{{}}", None),
        ("PUT", auth, "/auth/roots/{}/members/u1", {"role": "owner"}),
        ("GET", publisher, "/v1/campaigns/{}", None),
        ("PATCH", publisher, "/v1/campaigns/{}", {"name": "mine"}),
        ("GET", publisher, f"/v1/campaigns/{target.campaign}/settlements/{{}}", None),
        ("DELETE", publisher, f"/v1/campaigns/{target.campaign}/settlements/{{}}", None),
        ("GET", publisher, f"/v1/campaigns/{target.campaign}/entities/{{}}/e1", None),
        ("GET", publisher, f"/v1/campaigns/{target.campaign}/entities/location/{{}}", None),
    ]
    answers = {}
    for method, url, form, body in forms:
        for name, text in INJECTED.items():
            content = json.dumps(body).encode() if body else b""
            head = (
                f"{method} {form.format(quote(text, safe=''))} HTTP/1.1\r\nHost: x\r\n"
                f"Authorization: Bearer {target.owner.token}\r\nContent-Length: {len(content)}\r\n\r\n"
            )
            answers[f"{method} {form} {name}"] = (await statuses(url, head.encode() + content))[0]

    assert {name: status for name, status in answers.items() if status not in (400, 403, 404, 405)} == {}
    assert subjects(target) == before
    await target.assert_alive()


async def test_malformed_or_reserved_entity_type_is_refused(target: Target) -> None:
    """T9: an entity's type becomes part of a subject."""
    url = f"{target.services.publisher_url}/v1/campaigns/{target.campaign}/entities"
    answers = {
        text: (await target.status("POST", url, {"type": text, "name": "x"}, token=target.owner.token))[0]
        for text in [*INJECTED.values(), "member", "campaign", "user"]
    }

    assert {text: status for text, status in answers.items() if status != 400} == {}
