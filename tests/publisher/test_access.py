"""Access over HTTP depends on the caller's role, and calls are refused while the role is unknown."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from beaconfire.nats_server import NatsServer
from tests.auth.conftest import Auth
from tests.databases import execute
from tests.fakes import FakeAuth
from tests.publisher.conftest import Api, Heard, Publisher, Reply, publisher_settings, publishing

Call = tuple[str, str, Any]

ANYTHING = (
    "/v1/campaigns/c1/settlements/s1",
    "/v1/campaigns/c1/settlements/s1/structures/t1",
    "/v1/campaigns/c1/entities/location/e1",
)
ROLES = {"viewer": 1, "editor": 2, "owner": 3}


async def things(publisher: Publisher) -> dict[str, str]:
    """One of everything in the campaign, by the names `calls` uses."""
    settlement = await publisher.create("settlements", name="Emberford")
    structure = await publisher.create(f"settlements/{settlement['id']}/structures", name="Mill")
    entity = await publisher.create("entities", type="location", name="Shrine")
    return {
        "c": publisher.campaign,
        "s": f"{publisher.campaign}/settlements/{settlement['id']}",
        "t": f"{publisher.campaign}/settlements/{settlement['id']}/structures/{structure['id']}",
        "e": f"{publisher.campaign}/entities/location/{entity['id']}",
    }


def calls(c: str, s: str, t: str, e: str) -> Iterator[tuple[str, Call, int]]:
    """Every call on a campaign: the least role it needs, the call, and its status where it is allowed."""
    yield "viewer", ("GET", c, None), 200
    yield "viewer", ("GET", f"{c}/settlements", None), 200
    yield "viewer", ("GET", s, None), 200
    yield "viewer", ("GET", f"{s}/structures", None), 200
    yield "viewer", ("GET", t, None), 200
    yield "viewer", ("GET", f"{c}/entities", None), 200
    yield "viewer", ("GET", e, None), 200
    yield "editor", ("PATCH", c, {"description": "d"}), 200
    yield "editor", ("POST", f"{c}/world-time", {"advanceSeconds": 1}), 200
    yield "editor", ("PUT", f"{c}/clock", {"everyS": 60, "elapsedSeconds": 60}), 200
    yield "editor", ("DELETE", f"{c}/clock", None), 204
    yield "editor", ("POST", f"{c}/settlements", {"name": "Ashby"}), 201
    yield "editor", ("PATCH", s, {"level": 1}), 200
    yield "editor", ("POST", f"{s}/structures", {"name": "Barn"}), 201
    yield "editor", ("PATCH", t, {"level": 1}), 200
    yield "editor", ("POST", f"{c}/entities", {"type": "location", "name": "Cave"}), 201
    yield "editor", ("PATCH", e, {"data": {"danger": 1}}), 200
    yield "editor", ("DELETE", e, None), 204
    yield "editor", ("DELETE", t, None), 204
    yield "editor", ("DELETE", s, None), 204
    yield "owner", ("DELETE", c, None), 204


@pytest.mark.parametrize("user", ["owner", "editor", "viewer", "stranger"])
async def test_members_read_editors_change_owners_delete_and_strangers_get_nothing(
    publisher: Publisher, user: str
) -> None:
    rank = ROLES.get(user, 0)
    paths = await things(publisher)

    answers = [(least, call, ok, await publisher.users[user].call(*call)) for least, call, ok in calls(**paths)]

    expected = [(call, ok if rank >= ROLES[least] else 403) for least, call, ok, _ in answers]
    assert [(call, answer.status) for _, call, _, answer in answers] == expected
    assert {answer.body["error"]["code"] for *_, answer in answers if answer.status == 403} <= {"forbidden"}


async def test_stranger_gets_the_same_answer_for_existing_and_missing_campaigns(publisher: Publisher) -> None:
    """A stranger whose body is invalid gets the same answer, too."""
    real = await things(publisher)
    unreal = {name: path.replace(publisher.campaign_id, "0" * 16) for name, path in real.items()}

    found = [await publisher.stranger.call(*call) for _, call, _ in calls(**real)]
    not_found = [await publisher.stranger.call(*call) for _, call, _ in calls(**unreal)]
    wrong = await publisher.stranger.patch(real["s"], b"no json")

    assert [answer.body for answer in found] == [answer.body for answer in not_found]
    assert wrong.error == (403, "forbidden")


async def test_call_without_a_valid_token_gets_401_before_anything_else_is_checked(publisher: Publisher) -> None:
    token = publisher.owner.token
    every = [call for _, call, _ in calls("/v1/campaigns/c1", *["/v1/campaigns/c.1/settlements/s1"] * 3)]
    every += [("GET", "/v1/campaigns", None), ("POST", "/v1/campaigns", b"no json")]
    headers = ["", "Bearer", "Bearer x", f"Basic {token}", f"Bearer {token}x", str(token)]

    answers = [await publisher.nobody.call(*call) for call in every]
    answers += [await publisher.nobody.call("GET", publisher.campaign, Authorization=header) for header in headers]
    fine = await publisher.nobody.call("GET", publisher.campaign, Authorization=f"bearer {token}")

    assert {answer.error for answer in answers} == {(401, "token_invalid")}
    assert fine.status == 200


async def test_token_from_before_a_sign_out_everywhere_is_refused_at_the_next_call(
    publisher: Publisher, auth: Auth
) -> None:
    session = (await auth.sign_in("owner")).body
    owner = Api(publisher.http, publisher.url, session["accessToken"])
    before = await owner.get(publisher.campaign)
    body = {"refreshToken": session["refreshToken"], "everywhere": True}
    assert (await auth.call("POST", "/auth/sign-out", body)).status == 204

    answers = [
        await owner.get(publisher.campaign),
        await owner.get("/v1/campaigns"),
        await owner.post("/v1/campaigns", {"name": "Late"}),
    ]

    assert before.status == 200
    assert {answer.error for answer in answers} == {(401, "token_invalid")}


async def test_removed_member_is_refused_at_the_next_call(publisher: Publisher, auth: Auth) -> None:
    members = f"/auth/roots/campaign:{publisher.campaign_id}/members/{publisher.editor.user_id}"
    removed = await auth.call("DELETE", members, token=publisher.owner.token)

    answer = await publisher.editor.patch(publisher.campaign, {"name": "Mine"})

    assert removed.status == 204
    assert answer.error == (403, "forbidden")


@asynccontextmanager
async def half_sent(api: Api, method: str, path: str, body: bytes) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """A request of which half of the body has arrived. Call what is yielded to send the rest; the answer's status."""
    parts = urlsplit(api.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\n"

    async def send_rest() -> int:
        writer.write(body[1:])
        async with asyncio.timeout(10):
            return int((await reader.readline()).split()[1])

    try:
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:1])
        for _ in range(3):  # by the time others are answered, as much is done with it as can be
            await api.get("/v1/campaigns")
        yield send_rest
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "", b'{"name": "Mine"}'),
        ("POST", "/settlements", b'{"name": "Mine"}'),
        ("POST", "/world-time", b'{"advanceSeconds": 1}'),
        ("PUT", "/clock", b'{"everyS": 60, "elapsedSeconds": 1}'),
    ],
)
async def test_member_removed_while_the_request_body_arrives_changes_nothing(
    publisher: Publisher, auth: Auth, method: str, path: str, body: bytes
) -> None:
    members = f"/auth/roots/campaign:{publisher.campaign_id}/members/{publisher.editor.user_id}"
    async with half_sent(publisher.editor, method, publisher.campaign + path, body) as send_rest:
        removed = await auth.call("DELETE", members, token=publisher.owner.token)
        status = await send_rest()

    assert (removed.status, status) == (204, 403)


async def test_token_revoked_while_the_request_body_arrives_creates_no_campaign(
    publisher: Publisher, auth: Auth
) -> None:
    session = (await auth.sign_in("owner")).body
    owner = Api(publisher.http, publisher.url, session["accessToken"])
    over_auth = Api(publisher.http, auth.url, session["accessToken"])
    members = f"/auth/roots/campaign:{publisher.campaign_id}/members"
    invitation = b'{"email": "stranger@auth.example", "role": "owner"}'
    async with (
        half_sent(owner, "POST", "/v1/campaigns", b'{"name": "Late"}') as create,
        half_sent(over_auth, "POST", members, invitation) as invite,
    ):
        body = {"refreshToken": session["refreshToken"], "everywhere": True}
        assert (await auth.call("POST", "/auth/sign-out", body)).status == 204
        statuses = [await create(), await invite()]

    assert statuses == [401, 401]


async def test_service_revoked_while_its_events_arrive_publishes_none(publisher: Publisher, auth: Auth) -> None:
    wanted = {"service": "weather", "publish": ["campaign.*.settlement.*"]}
    issued = (await auth.operate("POST", "service-tokens", wanted)).body
    service = Api(publisher.http, publisher.url, issued["token"])
    payload = {"campaignId": "c1", "settlementId": "s1", "operation": "update", "changedFields": ["level"]}
    event = json.dumps({"type": "settlement_updated", "payload": payload}).encode()
    async with half_sent(service, "POST", "/v1/events", event) as send_rest:
        revoked = await auth.operate("DELETE", f"service-tokens/{issued['serviceToken']['id']}")
        status = await send_rest()

    assert (revoked.status, status) == (204, 401)


async def test_path_part_that_is_no_id_gets_400_with_its_name(publisher: Publisher) -> None:
    paths = [
        "/v1/campaigns/c.1",
        "/v1/campaigns/%2A/settlements",
        f"/v1/campaigns/{'x' * 65}/settlements",
        f"{publisher.campaign}/settlements/%3E",
        f"{publisher.campaign}/settlements/s%2F1/structures",
        f"{publisher.campaign}/entities/a%20b/e1",
    ]

    answers = [await user.get(path) for path in paths for user in (publisher.owner, publisher.stranger)]

    assert {answer.error for answer in answers} == {(400, "bad_request")}
    assert "campaign_id" in answers[0].message


async def test_silent_auth_gets_503_with_a_retry_time_within_two_seconds_and_changes_nothing(
    misled: Publisher, fake_auth: FakeAuth, tmp_path: Path
) -> None:
    fake_auth.answer = lambda question: None
    began = time.monotonic()

    answer = await misled.editor.post("/v1/campaigns", {"name": "The Vale"})
    took_s = time.monotonic() - began

    assert_unavailable(answer)
    assert took_s < 3.5  # the 2 s, and what a busy machine adds
    assert count(tmp_path, "campaigns") == count(tmp_path, "outbox") == 0


async def test_every_call_gets_503_at_once_while_auth_is_away(stream: NatsServer, heard: Heard, tmp_path: Path) -> None:
    auth = FakeAuth()
    async with AsyncExitStack() as outlives_auth:
        async with auth.running(stream):
            settings = publisher_settings(stream, tmp_path, auth.jwks_url)
            publisher = await outlives_auth.enter_async_context(publishing(settings, heard))
            await publisher.says("ready")
            user = Api(publisher.http, publisher.url, auth.token("editor"))
            known = await user.get("/v1/campaigns/c1")
        began = time.monotonic()
        answers = [await user.call(*call) for _, call, _ in calls("/v1/campaigns/c1", *ANYTHING)]
        answers += [await user.get("/v1/campaigns"), await user.post("/v1/campaigns", {"name": "The Vale"})]
        took_s = time.monotonic() - began

    assert known.error == (403, "forbidden")
    for answer in answers:
        assert_unavailable(answer)
    assert took_s < len(answers)  # no auth listens, so callers do not wait the two seconds that an answer may take


async def test_call_gets_503_while_auths_keys_were_never_fetched(
    stream: NatsServer, heard: Heard, tmp_path: Path
) -> None:
    nowhere = publisher_settings(stream, tmp_path, "http://127.0.0.1:1/jwks")
    async with publishing(nowhere, heard) as publisher:
        await publisher.says("ready")
        answer = await Api(publisher.http, publisher.url, FakeAuth().token("editor")).get("/v1/campaigns/c1")

    assert_unavailable(answer)


async def test_error_of_auth_is_passed_on_and_allows_nothing(misled: Publisher, fake_auth: FakeAuth) -> None:
    fake_auth.answer = lambda question: {"error": {"code": "internal", "message": "something went wrong in auth"}}

    answer = await misled.editor.get("/v1/campaigns/c1")

    assert answer.error == (500, "internal")


async def test_invalid_answer_of_auth_or_one_about_another_room_allows_nothing(
    misled: Publisher, fake_auth: FakeAuth
) -> None:
    fake_auth.answer = lambda question: {"rooms": "all of them"}
    nonsense = await misled.editor.get("/v1/campaigns/c1")
    fake_auth.answer = lambda question: {"rooms": {"campaign:c2": {"allowed": True, "role": "owner"}}}
    other = await misled.editor.get("/v1/campaigns/c1")

    assert_unavailable(nonsense)
    assert other.error == (403, "forbidden")


async def test_campaign_is_not_created_if_auth_does_not_grant_its_owner(misled: Publisher, tmp_path: Path) -> None:
    answer = await misled.editor.post("/v1/campaigns", {"name": "The Vale"})

    assert_unavailable(answer)
    assert count(tmp_path, "campaigns") == count(tmp_path, "outbox") == 0


async def test_auth_is_asked_for_each_call_with_the_room_and_the_tokens_age(
    misled: Publisher, fake_auth: FakeAuth
) -> None:
    for _ in range(2):
        await misled.editor.get("/v1/campaigns/c1/settlements/s1")

    assert [(one["userId"], one["rooms"]) for one in fake_auth.asked] == [("editor", ["campaign:c1"])] * 2
    assert {abs(time.time() - one["issuedAt"]) < 60 for one in fake_auth.asked} == {True}


@pytest.mark.parametrize(("given", "kept"), [("trace-1", True), ("", False), ("a b", False), ("x" * 129, False)])
async def test_correlation_id_is_returned_and_published_or_created(
    publisher: Publisher, given: str, kept: bool
) -> None:
    answer = await publisher.editor.post(f"{publisher.campaign}/settlements", {"name": "A"}, X_Correlation_Id=given)
    event = await publisher.heard.event()
    chosen = answer.headers["X-Correlation-Id"]

    assert (chosen == given) is kept
    assert (event.metadata.correlation_id, event.metadata.source) == (chosen, "api")
    assert event.metadata.user_id == publisher.editor.user_id


def count(folder: Path, table: str) -> int:
    """Return the number of rows in a table of the publisher's database."""
    ((number,),) = execute(folder, "publisher", f"SELECT count(*) FROM {table}")
    return int(number)


def assert_unavailable(answer: Reply) -> None:
    assert answer.error == (503, "unavailable")
    assert answer.body["error"]["retryAfterMs"] > 0
    assert int(answer.headers["Retry-After"]) >= 1
