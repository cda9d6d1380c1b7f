"""A request repeated under its `Idempotency-Key` reports what happened and does nothing a second time."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from beaconfire.nats_server import NatsServer
from beaconfire_kit.database import Database
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.events.campaign import StateInvalidated
from beaconfire_kit.idempotency import key_of_event, key_of_request
from beaconfire_kit.inbox import digest
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.roles import Role
from beaconfire_publisher.store import CAMPAIGNS, KEYS, OUTBOX, Store
from tests.asking import grant
from tests.auth.conftest import Auth, granting
from tests.conftest import connected
from tests.databases import database_url, on_both_databases
from tests.publisher.conftest import Api, Publisher, Reply

pytestmark = on_both_databases

CAMPAIGNS_PATH = "/v1/campaigns"
EVENTS = "/v1/events"
NEW = {"name": "New"}


@pytest.fixture(name="database")
async def _database(publisher: Publisher, tmp_path: Path) -> AsyncIterator[Database]:
    """The publisher's database, opened beside it."""
    database = Database(database_url(tmp_path, "publisher"))
    yield database
    await database.close()


def creations(publisher: Publisher) -> list[tuple[str, dict[str, Any]]]:
    """Every call that creates or advances something, with a body."""
    campaign = publisher.campaign
    payload = {"scope": "campaign", "campaignId": publisher.campaign_id, "affectedFields": ["mood"]}
    event = {"type": "state_invalidated", "payload": payload}
    return [
        (CAMPAIGNS_PATH, NEW),
        (f"{campaign}/settlements", {"name": "Emberford", "variables": {"food": 1, "wood": 2}}),
        (f"{campaign}/entities", {"type": "npc", "name": "Mira"}),
        (f"{campaign}/world-time", {"advanceSeconds": 60}),
        (EVENTS, event),
    ]


async def set_role(auth: Auth, by: Api, campaign_id: str, user: Api, role: str | None) -> None:
    """Give a member another role, or take it out. `by` is an owner."""
    path = f"/auth/roots/campaign:{campaign_id}/members/{user.user_id}"
    method, body = ("DELETE", None) if role is None else ("PUT", {"role": role})
    answer = await auth.call(method, path, body, token=by.token)
    assert answer.status < 300, answer


async def members(auth: Auth, by: Api, campaign_id: str) -> dict[str, str]:
    answer = await auth.call("GET", f"/auth/roots/campaign:{campaign_id}/members", token=by.token)
    return {one["userId"]: one["role"] for one in answer.body["members"]}


async def hand_over(auth: Auth, publisher: Publisher, campaign_id: str) -> None:
    """Make the owner an owner of the editor's campaign."""
    path = f"/auth/roots/campaign:{campaign_id}/members"
    people = await auth.call(
        "GET", f"/auth/roots/campaign:{publisher.campaign_id}/members", token=publisher.owner.token
    )
    email = next(one["email"] for one in people.body["members"] if one["userId"] == publisher.owner.user_id)
    answer = await auth.call("POST", path, {"email": email, "role": "owner"}, token=publisher.editor.token)
    assert answer.status == 201, answer


def thing(answer: Reply) -> dict[str, Any]:
    (only,) = (answer.body[name] for name in answer.body if name != "previousTime")
    return dict(only)


async def test_repeated_creation_by_a_removed_creator_is_refused_and_grants_nothing(
    publisher: Publisher, auth: Auth
) -> None:
    creator, heir = publisher.editor, publisher.owner
    created = await creator.post(CAMPAIGNS_PATH, NEW, Idempotency_Key="k1")
    campaign_id = created.body["campaign"]["id"]
    await hand_over(auth, publisher, campaign_id)
    await set_role(auth, heir, campaign_id, creator, None)

    again = [await creator.post(CAMPAIGNS_PATH, NEW, Idempotency_Key="k1") for _ in range(2)]

    assert [answer.error for answer in again] == [(403, "forbidden")] * 2
    assert await members(auth, heir, campaign_id) == {heir.user_id: "owner"}
    assert (await creator.get(f"{CAMPAIGNS_PATH}/{campaign_id}")).status == 403


async def test_repeated_creation_by_a_demoted_creator_reports_and_keeps_their_current_role(
    publisher: Publisher, auth: Auth
) -> None:
    creator, heir = publisher.editor, publisher.owner
    created = await creator.post(CAMPAIGNS_PATH, NEW, Idempotency_Key="k1")
    campaign_id = created.body["campaign"]["id"]
    await hand_over(auth, publisher, campaign_id)
    await set_role(auth, heir, campaign_id, creator, "viewer")

    again = await creator.post(CAMPAIGNS_PATH, NEW, Idempotency_Key="k1")

    assert again.status == 201
    assert again.body["campaign"] == {**created.body["campaign"], "role": "viewer"}
    assert await members(auth, heir, campaign_id) == {heir.user_id: "owner", creator.user_id: "viewer"}


async def test_late_grant_for_a_campaign_with_members_is_refused(
    publisher: Publisher, auth: Auth, stream: NatsServer
) -> None:
    creator, heir = publisher.editor, publisher.owner
    created = await creator.post(CAMPAIGNS_PATH, NEW, Idempotency_Key="k1")
    root = f"campaign:{created.body['campaign']['id']}"
    await hand_over(auth, publisher, root.partition(":")[2])
    await set_role(auth, heir, root.partition(":")[2], creator, None)

    async with connected(stream, "publisher") as nc:
        late = granting(root=root, user_id=creator.user_id, role=Role.OWNER, founding=True)
        with pytest.raises(BeaconfireError, match="has members already"):
            await grant(nc, late)

    assert await members(auth, heir, root.partition(":")[2]) == {heir.user_id: "owner"}


async def test_repeated_request_gets_the_same_answer_and_publishes_no_second_event(publisher: Publisher) -> None:
    """The order of the body's keys does not matter."""
    for path, body in creations(publisher):
        first = await publisher.editor.post(path, body, Idempotency_Key=f"once {path}".replace(" ", "-"))
        turned = json.dumps(dict(reversed(body.items()))).encode()
        again = await publisher.editor.post(path, turned, Idempotency_Key=f"once {path}".replace(" ", "-"))
        await publisher.heard.event()

        assert first.status in (200, 201)
        assert again.status in (200, 201)
        if path == EVENTS:
            assert (again.body["id"], again.body["repeated"]) == (first.body["id"], True)
        else:
            assert again.body == first.body
    assert (
        await publisher.editor.post(f"{publisher.campaign}/entities", {"type": "npc", "name": "Last"})
    ).status == 201
    assert (await publisher.heard.told())["operation"] == "create"


async def test_simultaneous_requests_under_one_key_are_carried_out_once(publisher: Publisher) -> None:
    for number, (path, body) in enumerate(creations(publisher)):
        sending = [publisher.editor.post(path, body, Idempotency_Key=f"k{number}") for _ in range(8)]
        answers = await asyncio.gather(*sending)
        await publisher.heard.event()

        assert {answer.status for answer in answers} <= {200, 201}
        assert len({answer.body["id"] if path == EVENTS else thing(answer)["id"] for answer in answers}) == 1
    campaign = (await publisher.editor.get(publisher.campaign)).body["campaign"]
    settlements = (await publisher.editor.get(f"{publisher.campaign}/settlements")).body["settlements"]
    await publisher.create("entities", type="npc", name="Last")

    assert campaign["worldTime"] == "1000-01-01T08:01:00Z"
    assert len(settlements) == 1


async def test_different_request_under_a_used_key_is_a_conflict_with_advice(publisher: Publisher) -> None:
    all_of_them = creations(publisher)
    for number, (path, body) in enumerate(all_of_them):
        key = f"k{number}"
        assert (await publisher.editor.post(path, body, Idempotency_Key=key)).status in (200, 201)
        await publisher.heard.event()
        other = (
            {**body, "advanceSeconds": 61}
            if "advanceSeconds" in body
            else {**body, "name": "Other"}
            if "name" in body
            else [body]
        )
        elsewhere, elses = all_of_them[number - 1]

        refused = [
            await publisher.editor.post(path, other, Idempotency_Key=key),
            await publisher.editor.post(elsewhere, elses, Idempotency_Key=key),
        ]

        assert [answer.error for answer in refused] == [(409, "conflict")] * 2
        assert "Idempotency-Key" in refused[0].message
        assert "new key" in refused[0].message


async def test_two_users_can_use_the_same_key_without_noticing(publisher: Publisher) -> None:
    mine = await publisher.editor.post(CAMPAIGNS_PATH, NEW, Idempotency_Key="k1")
    theirs = await publisher.stranger.post(CAMPAIGNS_PATH, {"name": "Theirs"}, Idempotency_Key="k1")

    assert (mine.status, theirs.status) == (201, 201)
    assert mine.body["campaign"]["id"] != theirs.body["campaign"]["id"]


async def test_repeat_is_reported_to_a_demoted_editor_and_not_to_a_removed_one(
    publisher: Publisher, auth: Auth
) -> None:
    requests = creations(publisher)[1:]
    for number, (path, body) in enumerate(requests):
        await publisher.editor.post(path, body, Idempotency_Key=f"k{number}")
    await set_role(auth, publisher.owner, publisher.campaign_id, publisher.editor, "viewer")

    told = [
        (await publisher.editor.post(path, body, Idempotency_Key=f"k{number}")).status
        for number, (path, body) in enumerate(requests)
    ]
    new = [
        (await publisher.editor.post(path, body, Idempotency_Key=f"n{number}")).status
        for number, (path, body) in enumerate(requests)
    ]
    await set_role(auth, publisher.owner, publisher.campaign_id, publisher.editor, None)
    gone = [
        (await publisher.editor.post(path, body, Idempotency_Key=f"k{number}")).status
        for number, (path, body) in enumerate(requests)
    ]

    assert told == [201, 201, 200, 200]
    assert new == [403] * 4
    assert gone == [403] * 4


async def test_repeated_creation_of_a_deleted_campaign_is_404(publisher: Publisher) -> None:
    created = await publisher.editor.post(CAMPAIGNS_PATH, NEW, Idempotency_Key="k1")
    await publisher.editor.delete(f"{CAMPAIGNS_PATH}/{created.body['campaign']['id']}")

    assert (await publisher.editor.post(CAMPAIGNS_PATH, NEW, Idempotency_Key="k1")).error == (404, "not_found")
    assert (await publisher.editor.get(CAMPAIGNS_PATH)).body["campaigns"][1:] == []


async def test_retry_completes_a_creation_that_was_cut_off_after_its_grant(
    publisher: Publisher, auth: Auth, database: Database, stream: NatsServer
) -> None:
    key = key_of_request(
        f"user:{publisher.editor.user_id}", "k1", method="POST", path=CAMPAIGNS_PATH, body=NEW, before=""
    )
    async with Store(database, Outbox(database, OUTBOX)).writing(Metadata(source="api")) as tx:
        assert await tx.claim(key, {"id": "abandoned"}, is_done=False) is None
    async with connected(stream, "publisher") as nc:
        granted = granting(root="campaign:abandoned", user_id=publisher.editor.user_id, role=Role.OWNER)
        await grant(nc, granted)

    answers = await asyncio.gather(
        *(publisher.editor.post(CAMPAIGNS_PATH, NEW, Idempotency_Key="k1") for _ in range(4))
    )
    told = await publisher.heard.told()

    assert [(answer.status, answer.body["campaign"]["id"]) for answer in answers] == [(201, "abandoned")] * 4
    assert (told["entityId"], told["operation"]) == ("abandoned", "create")
    assert await members(auth, publisher.editor, "abandoned") == {publisher.editor.user_id: "owner"}


async def test_idempotency_keys_are_forgotten_after_eight_days(publisher: Publisher, database: Database) -> None:
    store = Store(database, Outbox(database, OUTBOX))
    first = await publisher.editor.post(CAMPAIGNS_PATH, NEW, Idempotency_Key="k1")
    await store.forget()
    repeated = await publisher.editor.post(CAMPAIGNS_PATH, NEW, Idempotency_Key="k1")
    async with database.writing() as tx:
        await tx.execute(update(KEYS).values(created_at=datetime.now(UTC) - timedelta(days=8, seconds=1)))
    await store.forget()
    new = await publisher.editor.post(CAMPAIGNS_PATH, {"name": "Another"}, Idempotency_Key="k1")

    assert repeated.body == first.body
    assert new.status == 201
    assert new.body["campaign"]["id"] != first.body["campaign"]["id"]


async def test_keys_of_earlier_releases_report_what_was_created_whatever_the_body(
    publisher: Publisher, auth: Auth, database: Database
) -> None:
    creator, heir = publisher.editor, publisher.owner
    old_id = digest(creator.user_id, CAMPAIGNS_PATH, "k1")[:32]
    created = await creator.post(CAMPAIGNS_PATH, NEW)
    first = await publisher.heard.event()
    new_id = created.body["campaign"]["id"]
    old_event = {
        "id": old_id,
        "type": "entity_updated",
        "version": 1,
        "payload": {**first.payload.model_dump(mode="json"), "campaignId": old_id, "entityId": old_id},
        "metadata": {"timestamp": "2026-11-21T10:00:00Z", "source": "api", "userId": creator.user_id},
    }
    now = datetime.now(UTC)
    async with database.writing() as tx:
        await tx.execute(update(CAMPAIGNS).where(CAMPAIGNS.c.id == new_id).values(id=old_id))
        row = {"event_id": old_id, "subject": f"campaign.{old_id}.campaign.{old_id}", "created_at": now}
        await tx.execute(insert(OUTBOX).values(**row, published_at=now, body=json.dumps(old_event).encode()))

    removed = await creator.post(CAMPAIGNS_PATH, {"name": "Whatever"}, Idempotency_Key="k1")
    others = await heir.post(CAMPAIGNS_PATH, NEW, Idempotency_Key="k1")

    assert removed.error == (403, "forbidden")
    assert others.status == 201


async def test_event_of_an_earlier_release_is_not_published_again_by_its_author(
    publisher: Publisher, database: Database
) -> None:
    """The id is free for other users."""
    _, event = creations(publisher)[-1]
    named = {**event, "id": "e-1"}
    said = StateInvalidated.model_validate(event["payload"])
    stored = Envelope(said, Metadata(source="api", user_id=publisher.editor.user_id), "e-1")
    now = datetime.now(UTC)
    async with database.writing() as tx:
        row = {"event_id": "e-1", "subject": stored.subject, "body": stored.encode(), "created_at": now}
        await tx.execute(insert(OUTBOX).values(**row, published_at=now))

    again = await publisher.editor.post(EVENTS, named)
    others = await publisher.owner.post(EVENTS, named)

    assert (again.status, again.body["repeated"]) == (200, True)
    assert others.status == 201


async def test_event_that_the_release_before_stored_with_its_defaults_is_recognised_when_it_is_sent_again(
    publisher: Publisher, database: Database
) -> None:
    _, event = creations(publisher)[-1]
    said = StateInvalidated.model_validate(event["payload"])
    stored = said.model_dump(mode="json")
    assert stored != event["payload"]
    before = {"type": said.type, "version": 1, "payload": stored}
    key = key_of_event(f"user:{publisher.editor.user_id}", "e-1", subject=said.full_subject(), events=[before])
    outcome = {"id": "e-1", "subject": said.full_subject(), "messageId": "m1"}
    async with database.writing() as tx:
        row = {"key": key.name, "fingerprint": key.fingerprint, "outcome": outcome, "is_done": True}
        await tx.execute(insert(KEYS).values(**row, created_at=datetime.now(UTC)))

    again = await publisher.editor.post(EVENTS, {**event, "id": "e-1"})
    payload = {**event["payload"], "affectedFields": ["something else"]}
    other = await publisher.editor.post(EVENTS, {**event, "id": "e-1", "payload": payload})

    assert (again.status, again.body["repeated"]) == (200, True)
    assert other.error == (409, "conflict")


async def test_strangers_event_ids_suppress_no_creation_and_no_event(publisher: Publisher, stream: NatsServer) -> None:
    """The ids are published over HTTP or directly to the broker."""
    path = f"{publisher.campaign}/settlements"
    derived = digest(publisher.editor.user_id, path, "k1")[:32]
    theirs = (await publisher.stranger.post(CAMPAIGNS_PATH, NEW)).body["campaign"]["id"]
    await publisher.heard.event()
    payload = {"scope": "campaign", "campaignId": theirs, "affectedFields": ["mood"]}
    for id_ in (derived, digest(derived, "0")[:32], "e-1"):
        spoiling = await publisher.stranger.post(EVENTS, {"id": id_, "type": "state_invalidated", "payload": payload})
        assert spoiling.status == 201
        await publisher.heard.event()
    async with connected(stream, "publisher") as nc:
        for id_ in (derived, digest(derived, "0")[:32], "e-2"):
            await nc.jetstream().publish("tick", b"", headers={"Nats-Msg-Id": id_})
    _, event = creations(publisher)[-1]

    created = await publisher.editor.post(path, {"name": "Emberford"}, Idempotency_Key="k1")
    told = await publisher.heard.told()
    by_key = await publisher.editor.post(EVENTS, event, Idempotency_Key="k2")
    by_id = [await publisher.editor.post(EVENTS, {**event, "id": id_}) for id_ in ("e-1", "e-2")]
    ids = [(await publisher.heard.event()).id for _ in range(3)]

    assert created.status == 201
    assert told["settlementId"] == created.body["settlement"]["id"]
    assert [answer.status for answer in by_id] == [201, 201]
    assert ids == [by_key.body["id"], "e-1", "e-2"]


async def test_repeated_list_of_events_gets_the_same_answer_even_after_a_change_of_role(
    publisher: Publisher, auth: Auth
) -> None:
    _, event = creations(publisher)[-1]
    foreign = {**event, "payload": {**event["payload"], "campaignId": "elsewhere"}}
    sent = [event, {**event, "type": "nonsense"}, {**event, "id": "e-1"}, foreign]

    first = await publisher.editor.post(EVENTS, sent, Idempotency_Key="k1")
    again = await publisher.editor.post(EVENTS, sent, Idempotency_Key="k1")
    by_id = await publisher.editor.post(EVENTS, {**event, "id": "e-1"})
    await publisher.editor.post(EVENTS, {**event, "id": "last"})
    ids = [(await publisher.heard.event()).id for _ in range(3)]
    await set_role(auth, publisher.owner, publisher.campaign_id, publisher.editor, None)
    gone = await publisher.editor.post(EVENTS, sent, Idempotency_Key="k1")

    outcomes = [one.get("id") or one["error"]["code"] for one in first.body["events"]]
    assert outcomes[1:] == ["unknown_type", "e-1", "forbidden"]
    assert [one.get("id") or one["error"]["code"] for one in again.body["events"]] == outcomes
    assert [one.get("repeated", False) for one in again.body["events"]] == [True, False, True, False]
    assert by_id.body["repeated"] is True
    assert ids == [outcomes[0], "e-1", "last"]
    assert [one["error"]["code"] for one in gone.body["events"]] == ["forbidden", "unknown_type", *["forbidden"] * 2]
