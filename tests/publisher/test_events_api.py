"""`POST /v1/events` publishes the events that a token allows, once, and refuses others with a reason."""

import asyncio
import io
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_kit import errors, tokens
from beaconfire_kit.catalogue import builtin
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue_store import CatalogueStore
from beaconfire_kit.tokens import ServiceClaims
from beaconfire_kit.web import OFFSET_HEADER, PENDING_HEADER
from beaconfire_publisher.events_api import _prepare_all, _Refused
from tests.broker_changes import call_api
from tests.conftest import connected
from tests.fakes import FakeAuth
from tests.kit.fragments import note
from tests.publisher.conftest import Api, Publisher, Reply

EVENTS = "/v1/events"
NOW = "2026-01-01T00:00:00Z"


def invalidated(publisher: Publisher, **more: Any) -> dict[str, Any]:
    """A valid event."""
    payload = {"scope": "campaign", "campaignId": publisher.campaign_id, "affectedFields": ["mood"]}
    return {"type": "state_invalidated", "payload": payload, **more}


async def test_editor_publishes_an_event_of_the_catalogue_and_gets_its_cursor(publisher: Publisher) -> None:
    answer = await publisher.editor.post(EVENTS, invalidated(publisher, id="e-1", metadata={"correlationId": "c-1"}))
    event = await publisher.heard.event()

    assert answer.status == 201
    assert (answer.body["id"], answer.body["subject"]) == ("e-1", f"campaign.{publisher.campaign_id}.state")
    assert (event.id, event.type, event.metadata.source) == ("e-1", "state_invalidated", "api")
    assert (event.metadata.user_id, event.metadata.correlation_id) == (publisher.editor.user_id, "c-1")
    where = answer.headers.get(OFFSET_HEADER)
    assert answer.body.get("offset") == where
    assert where is None or where.endswith(f":{publisher.heard.offsets['e-1']}")
    assert (where is None) is (PENDING_HEADER in answer.headers)


async def test_event_published_again_by_id_or_key_is_stored_once_and_a_different_one_is_refused(
    publisher: Publisher,
) -> None:
    sent = invalidated(publisher, id="e-1")
    by_id = [await publisher.editor.post(EVENTS, sent) for _ in range(2)]
    unnamed = invalidated(publisher)
    by_key = [await publisher.editor.post(EVENTS, [unnamed, unnamed], Idempotency_Key="k") for _ in range(2)]
    other = {**sent, "payload": {**sent["payload"], "affectedFields": ["trade"]}}
    taken = await publisher.editor.post(EVENTS, other)
    await publisher.editor.post(EVENTS, invalidated(publisher, id="last"))
    ids = [(await publisher.heard.event()).id for _ in range(4)]

    assert [answer.status for answer in by_id] == [201, 200]
    assert by_id[1].body["repeated"] is True
    assert [one["id"] for one in by_key[0].body["events"]] == [one["id"] for one in by_key[1].body["events"]]
    assert ids == ["e-1", *(one["id"] for one in by_key[0].body["events"]), "last"]
    assert taken.error == (409, "conflict")


async def test_events_of_a_list_are_answered_one_by_one_in_order_and_a_bad_one_stops_none(publisher: Publisher) -> None:
    wrong = [
        {**invalidated(publisher), "type": "nonsense"},
        {**invalidated(publisher), "version": 9},
        {**invalidated(publisher), "payload": {**invalidated(publisher)["payload"], "campaignId": "c.1"}},
        {**invalidated(publisher), "extra": 1},
        "no event",
        {"type": "state_invalidated", "payload": {**invalidated(publisher)["payload"], "campaignId": "another"}},
        {**invalidated(publisher), "metadata": {"userId": "somebody"}},
        {**invalidated(publisher), "metadata": {"source": "auth"}},
    ]
    answer = await publisher.editor.post(
        EVENTS, [invalidated(publisher, id="a"), *wrong, invalidated(publisher, id="b")]
    )
    results = answer.body["events"]
    told = [(await publisher.heard.event()).id for _ in range(2)]
    errors = [one["error"] for one in results[1:-1]]

    assert answer.status == 200
    assert told == [results[0]["id"], results[-1]["id"]] == ["a", "b"]
    assert [error["code"] for error in errors] == [
        "unknown_type", "bad_request", "bad_request", "bad_request", "bad_request", "forbidden", "bad_request",
        "bad_request",
    ]  # fmt: skip
    starts = ["type", "version", "payload.campaignId", "extra", "", "", "metadata.userId", "metadata.source"]
    assert [error["message"].startswith(start) for error, start in zip(errors, starts, strict=True)] == [True] * 8


@pytest.mark.parametrize(
    "payload",
    [
        (
            "member_changed",
            {"rootKind": "campaign", "rootId": "{c}", "userId": "u1", "role": "owner", "membershipVersion": 9},
        ),
        ("access_revoked", {"userId": "{me}", "issuedBefore": NOW, "reason": "account_closed", "membershipVersion": 9}),
    ],
    ids=lambda one: str(one[0]),
)
async def test_nobody_publishes_auths_events_and_viewers_and_strangers_publish_none(
    publisher: Publisher, payload: tuple[str, dict[str, Any]]
) -> None:
    disguised = {
        "type": "entity_updated",
        "payload": {
            "campaignId": publisher.campaign_id,
            "entityType": "member",
            "entityId": "u1",
            "operation": "update",
            "changedFields": [],
        },
    }
    type_, fields = payload
    words = {"{c}": publisher.campaign_id, "{me}": publisher.owner.user_id}
    forged = {"type": type_, "payload": {name: words.get(str(value), value) for name, value in fields.items()}}

    answers = [
        await publisher.owner.post(EVENTS, forged),
        await publisher.owner.post(EVENTS, disguised),
        await publisher.viewer.post(EVENTS, invalidated(publisher)),
        await publisher.stranger.post(EVENTS, invalidated(publisher)),
    ]

    assert [answer.error for answer in answers] == [(403, "forbidden")] * 4


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"no json", 400), (b"[]", 400), (b"1", 400), (b'{"type": NaN}', 400), (b"[" + b"1," * 500 + b"1]", 400)],
)
async def test_body_that_is_neither_an_event_nor_a_list_of_at_most_500_is_refused(
    publisher: Publisher, body: bytes, status: int
) -> None:
    assert (await publisher.editor.post(EVENTS, body)).error == (status, "bad_request")


async def test_body_over_1_mib_and_event_over_64_kib_are_refused_with_the_limit(publisher: Publisher) -> None:
    headers = {"Authorization": f"Bearer {publisher.editor.token}"}
    spaces = io.BytesIO(b" " * (1024 * 1024 + 1))
    async with publisher.http.post(publisher.url + EVENTS, data=spaces, headers=headers) as refused:
        body = Reply(refused.status, await refused.json(), refused.headers)
    event = await publisher.editor.post(EVENTS, invalidated(publisher, metadata={"audience": ["owner"] * 20_000}))

    assert body.error == event.error == (413, "too_large")
    assert "1048576" in body.message
    assert "65536" in event.message


def service_of(publisher: Publisher, auth: FakeAuth, *patterns: str) -> Api:
    """A service whose token has these patterns."""
    now = int(time.time())
    claims = ServiceClaims("weather", patterns, now, now + 600, "t1")
    return Api(
        publisher.http,
        publisher.url,
        tokens.sign_service(auth.key, "k1", claims, issuer="beaconfire", audience="beaconfire"),
    )


async def test_service_publishes_what_its_tokens_patterns_allow_and_nothing_else(
    misled: Publisher, fake_auth: FakeAuth
) -> None:
    service = service_of(misled, fake_auth, "campaign.c1.state")
    payload = {"scope": "campaign", "campaignId": "c1", "affectedFields": ["mood"]}
    event = {"type": "state_invalidated", "payload": payload, "metadata": {"userId": "u7"}}
    elsewhere = {**event, "payload": {**payload, "campaignId": "c2"}}

    allowed = await service.post(EVENTS, event)
    forbidden = await service.post(EVENTS, elsewhere)
    refused = await service.get("/v1/campaigns/c1")
    told = await misled.heard.event()
    fake_auth.revoked.add("weather")
    revoked = await service.post(EVENTS, event)

    assert allowed.status == 201
    assert (told.metadata.source, told.metadata.user_id) == ("weather", "u7")
    assert forbidden.error == (403, "forbidden")
    assert refused.error == revoked.error == (401, "token_invalid")


async def test_event_whose_payload_leaves_out_ids_needs_its_subject(misled: Publisher, fake_auth: FakeAuth) -> None:
    service = service_of(misled, fake_auth, "workspace.w1.>")
    part = {"type": "approval.updated", "payload": {"status": "approved"}}
    subject = "workspace.w1.approval.a1"

    without = await service.post(EVENTS, part)
    published = await service.post(EVENTS, {**part, "subject": subject})
    whole = await service.post(EVENTS, {**part, "payload": {"workspaceId": "w1", "id": "a2"}})
    contradiction = await service.post(EVENTS, {**part, "subject": subject, "payload": {"id": "a2"}})
    elsewhere = await service.post(EVENTS, {**part, "subject": "workspace.w2.approval.a1"})
    of_another_type = await service.post(EVENTS, {**part, "subject": "workspace.w1.chat.a1"})
    reserved = await service.post(EVENTS, {**part, "subject": "live.w1.approval.a1"})
    told = await misled.heard.event()

    assert without.error == (400, "bad_request")
    assert "payload.workspaceId" in without.message
    assert "subject" in without.message
    assert (published.status, published.body["subject"]) == (201, subject)
    assert (whole.status, whole.body["subject"]) == (201, "workspace.w1.approval.a2")
    assert [one.error for one in (contradiction, of_another_type, reserved)] == [(400, "bad_request")] * 3
    assert elsewhere.error == (403, "forbidden")
    assert told.payload.model_dump() == {"workspaceId": "w1", "id": "a1", "status": "approved"}


async def test_same_event_with_its_ids_written_or_left_out_is_one_event_only_if_it_says_the_same(
    misled: Publisher, fake_auth: FakeAuth
) -> None:
    service = service_of(misled, fake_auth, "workspace.w1.>")
    sent = {"id": "e1", "type": "approval.updated", "payload": {"status": "approved", "amount": 5}}
    sent["subject"] = "workspace.w1.approval.a1"

    first = await service.post(EVENTS, sent)
    again = await service.post(EVENTS, {**sent, "payload": {"amount": 5.0, "status": "approved"}})
    other = await service.post(EVENTS, {**sent, "subject": "workspace.w1.approval.a2"})

    assert (first.status, again.status, again.body["repeated"]) == (201, 200, True)
    assert other.error == (409, "conflict")


async def push(server: NatsServer, *fragments: Mapping[str, Any]) -> None:
    async with connected(server, "catalogue") as nc:
        await CatalogueStore(nc).push(list(fragments), by="test")


async def test_type_that_was_pushed_a_moment_ago_is_published_as_it_came_and_held_to_its_schema(
    stream: NatsServer, misled: Publisher, fake_auth: FakeAuth
) -> None:
    service = service_of(misled, fake_auth, "workspace.w1.>")
    subject, payload = "workspace.w1.note.n1", '{ "text": "Hi",  "size": 1.50 }'
    event = f'{{"type": "parcel.noted", "subject": "{subject}", "payload": {payload}}}'.encode()
    async with connected(stream, "gateway") as nc:
        heard = await nc.subscribe(f"live.{subject}")
        await nc.flush()
        unknown = await service.post(EVENTS, event)
        await push(stream, note("logistics", "parcel.noted", root="workspace"))
        published = await service.post(EVENTS, event)
        wrong = await service.post(EVENTS, event.replace(b'"Hi"', b"7"))
        message = await heard.next_msg(timeout=20)

    assert unknown.error == (400, "unknown_type")
    assert (published.status, published.body["subject"]) == (201, subject)
    assert f'"payload":{payload},'.encode() in message.data
    assert wrong.error == (400, "bad_request")
    assert wrong.message.startswith("payload.text: ")


async def test_each_version_of_a_type_is_held_to_its_own_schema_until_it_is_removed(
    stream: NatsServer, misled: Publisher, fake_auth: FakeAuth
) -> None:
    service = service_of(misled, fake_auth, "workspace.w1.>")
    both = note("logistics", "parcel.noted", root="workspace")
    second = {"name": "parcel.noted", "x-beaconfire": {"version": 2}, "payload": {"required": ["weight"]}}
    both["channels"]["notes"]["messages"]["second"] = second
    event = {"type": "parcel.noted", "subject": "workspace.w1.note.n1", "payload": {"text": "Hi"}}
    await push(stream, both)

    first = await service.post(EVENTS, event)
    refused = await service.post(EVENTS, {**event, "version": 2})
    newer = await service.post(EVENTS, {**event, "version": 2, "payload": {"weight": 3}})
    unknown = await service.post(EVENTS, {**event, "version": 3})

    assert (first.status, newer.status) == (201, 201)
    assert refused.error == unknown.error == (400, "bad_request")
    assert "weight" in refused.message
    assert unknown.message == "version: the catalogue has parcel.noted in version 1, 2"


async def test_unknown_type_is_refused_with_near_names(publisher: Publisher) -> None:
    answer = await publisher.editor.post(EVENTS, {"type": "state_invalidate", "payload": {}})

    assert answer.error == (400, "unknown_type")
    assert "did you mean state_invalidated" in answer.message


async def test_type_is_not_refused_as_unknown_while_the_catalogue_cannot_be_read(
    stream: NatsServer, publisher: Publisher
) -> None:
    """It may have been pushed. Known types go on."""
    await publisher.editor.post(EVENTS, {"type": "parcel.noted", "payload": {}})
    await call_api(stream, "STREAM.DELETE.KV_CATALOGUE")

    unknown = await publisher.editor.post(EVENTS, [invalidated(publisher), {"type": "parcel.noted", "payload": {}}])
    known = await publisher.editor.post(EVENTS, invalidated(publisher))

    assert unknown.error == (503, "unavailable")
    assert known.status == 201


BUILTIN = Catalogue.of(1, builtin.fragments())
SERVICE = ServiceClaims("svc", (">",), 0, 1, "t1")


def wrong(count: int) -> dict[str, Any]:
    """An event with so many wrong values."""
    return {"type": "state_invalidated", "payload": {"affectedFields": [1] * count}}


async def test_event_that_is_too_large_is_refused_before_its_values_are_checked() -> None:
    [refused] = await _prepare_all([wrong(400_000)], ["{}"], BUILTIN, SERVICE, "c1")

    assert isinstance(refused, _Refused)
    assert refused.error.code is errors.TOO_LARGE


async def test_long_list_of_invalid_events_does_not_delay_other_requests() -> None:
    ended: list[str] = []

    async def check() -> None:
        event = wrong(30_000)
        payloads = [json.dumps(event["payload"])] * 3
        await _prepare_all([event] * 3, payloads, BUILTIN, SERVICE, "c1")
        ended.append("the list")

    async def serve() -> None:
        ended.append("another request")

    async with asyncio.TaskGroup() as group:
        group.create_task(check())
        group.create_task(serve())

    assert ended == ["another request", "the list"]
