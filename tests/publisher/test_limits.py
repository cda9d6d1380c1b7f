"""Limits on what one user, or one root, may ask for and publish over HTTP."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from beaconfire.nats_server import NatsServer
from beaconfire_kit import metrics, tokens
from beaconfire_kit.database import Database
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.tokens import ServiceClaims
from beaconfire_publisher.settings import Settings
from beaconfire_publisher.store import OUTBOX, USAGE, Store
from tests.auth.conftest import running_auth
from tests.databases import database_url, on_both_databases
from tests.fakes import FakeAuth
from tests.publisher.conftest import Api, Heard, Publisher, Reply, publisher_settings, publishing

EVENTS = "/v1/events"


class Place:
    """A publisher with limits of a test's own, for the editors of campaigns `c1` to `c200`."""

    def __init__(self, stack: AsyncExitStack, stream: NatsServer, folder: Path, auth: FakeAuth) -> None:
        self._stack, self._stream, self._folder, self._auth = stack, stream, folder, auth

    async def open(self, **limits: float) -> Publisher:
        """Another publisher process on the same database, in effect."""
        settings = publisher_settings(self._stream, self._folder, self._auth.jwks_url, **limits)
        publisher = await self._stack.enter_async_context(publishing(settings, Heard()))
        await publisher.says("ready")
        return publisher

    def user(self, publisher: Publisher, name: str) -> Api:
        self._auth.members.setdefault(name, {f"campaign:c{number}": "editor" for number in range(1, 201)})
        return Api(publisher.http, publisher.url, self._auth.token(name), name)

    def stranger(self, publisher: Publisher) -> Api:
        return Api(publisher.http, publisher.url, self._auth.token("stranger"), "stranger")

    def service(self, publisher: Publisher) -> Api:
        now = int(time.time())
        claims = ServiceClaims("tracker", ("campaign.>",), now, now + 60, "t1")
        token = tokens.sign_service(self._auth.key, "k1", claims, issuer="beaconfire", audience="beaconfire")
        return Api(publisher.http, publisher.url, token, "tracker")


@pytest.fixture(name="place")
async def _place(stream: NatsServer, tmp_path: Path) -> AsyncIterator[Place]:
    auth = FakeAuth()
    async with auth.running(stream), AsyncExitStack() as stack:
        yield Place(stack, stream, tmp_path, auth)


def event(campaign: str = "c1", size: int = 10) -> dict[str, Any]:
    payload = {"scope": "campaign", "campaignId": campaign, "affectedFields": ["x" * size]}
    return {"type": "state_invalidated", "payload": payload}


def over(answer: Reply, limit: str) -> None:
    """Check that this limit refused the request, and that the answer has the time to retry."""
    wait_s = int(answer.headers["Retry-After"])

    assert answer.error == (429, "too_many")
    assert answer.headers["RateLimit"] == f'"{limit}";r=0;t={wait_s}'
    assert answer.headers["RateLimit-Policy"].startswith(f'"{limit}";q=')
    assert answer.headers["RateLimit-Remaining"] == "0"
    assert int(answer.headers["RateLimit-Reset"]) == wait_s > 0
    assert answer.body["error"]["retryAfterMs"] == 1000 * wait_s
    assert "try again in" in answer.message


def refusals(limit: str) -> float:
    name = f'beaconfire_publisher_requests_over_limit_total{{limit="{limit}"}} '
    return sum(
        float(line.removeprefix(name)) for line in metrics.render().decode().splitlines() if line.startswith(name)
    )


async def published(api: Api, count: int, campaign: str = "c1", **more: Any) -> list[Reply]:
    return [await api.post(EVENTS, event(campaign, **more)) for _ in range(count)]


@on_both_databases
async def test_user_over_the_event_limit_is_refused_in_all_processes_until_the_minute_is_over(
    place: Place, tmp_path: Path
) -> None:
    """The refusal outlives a restart, and other users publish meanwhile."""
    one = await place.open(user_events_per_minute=1)
    two = await place.open(user_events_per_minute=1)
    before = refusals("user_events")
    first = await place.user(one, "loud").post(EVENTS, event())
    second = await place.user(two, "loud").post(EVENTS, event())
    restarted = await place.user(await place.open(user_events_per_minute=1), "loud").post(EVENTS, event())
    other = await place.user(one, "calm").post(EVENTS, event())
    database = Database(database_url(tmp_path, "publisher"))
    async with database.writing() as tx:
        await tx.execute(update(USAGE).values(events=USAGE.c.events - 60))
    await database.close()
    later = await place.user(two, "loud").post(EVENTS, event())

    assert [answer.status for answer in (first, second, restarted, other, later)] == [201, 429, 429, 201, 201]
    over(second, "user_events")
    over(restarted, "user_events")
    assert refusals("user_events") == before + 2


@on_both_databases
@pytest.mark.parametrize("limit", ["root_events_per_minute", "root_event_bytes_per_minute"])
async def test_events_of_all_members_in_a_root_count_together(place: Place, limit: str) -> None:
    publisher = await place.open(**{limit: 1 if "events" in limit else 1_000})
    sent = [await place.user(publisher, f"u{number}").post(EVENTS, event(size=3_000)) for number in range(3)]
    elsewhere = await place.user(publisher, "u1").post(EVENTS, event("c2"))

    assert [answer.status for answer in sent] == [201, 429, 429]
    over(sent[-1], "root_events" if limit == "root_events_per_minute" else "root_bytes")
    assert elsewhere.status == 201


@on_both_databases
async def test_root_that_has_filled_its_share_of_the_stream_is_slowed_down_for_every_publisher(place: Place) -> None:
    publisher = await place.open(root_stream_percent=0.00003)  # 2.6 KB
    answers = await published(place.user(publisher, "a"), 4, size=600)
    service = await place.service(publisher).post(EVENTS, event())
    elsewhere = await place.service(publisher).post(EVENTS, event("c2"))

    assert [answer.status for answer in answers] == [201, 201, 201, 429]
    over(answers[-1], "root_share")
    assert "7 days" in answers[-1].message
    over(service, "root_share")
    assert elsewhere.status == 201


async def test_users_share_of_the_stream_is_the_same_over_200_campaigns(place: Place) -> None:
    publisher = await place.open(user_stream_percent=0.0002)  # 17 KB
    loud = place.user(publisher, "loud")
    answers = [await loud.post(EVENTS, event(f"c{number}", 600)) for number in range(1, 201)]

    stored = [answer for answer in answers if answer.status == 201]
    assert 15 <= len(stored) <= 30
    over(answers[-1], "user_share")
    assert (await place.user(publisher, "calm").post(EVENTS, event("c1"))).status == 201


async def test_list_of_events_counts_each_event_and_its_repeat_counts_nothing(place: Place) -> None:
    publisher = await place.open(user_events_per_minute=10)
    user = place.user(publisher, "loud")
    bulk = await user.post(EVENTS, [event()] * 9, Idempotency_Key="k1")
    repeats = [await user.post(EVENTS, [event()] * 9, Idempotency_Key="k1") for _ in range(3)]
    large = await user.post(EVENTS, [event()] * 30)
    refused = await user.post(EVENTS, event())

    assert [answer.status for answer in (bulk, *repeats, large)] == [200] * 5
    over(refused, "user_events")
    assert int(refused.headers["Retry-After"]) > 120


async def test_reads_count_against_the_request_limit_of_their_user_only(place: Place) -> None:
    publisher = await place.open(user_requests_per_minute=4)
    answers = [await place.user(publisher, "loud").get("/v1/campaigns") for _ in range(5)]
    others = await place.user(publisher, "calm").get("/v1/campaigns")

    assert [answer.status for answer in answers] == [200] * 4 + [429]
    over(answers[-1], "user_requests")
    assert others.status == 200


async def test_requests_of_strangers_do_not_count_against_a_root(place: Place) -> None:
    """Otherwise strangers could lock members out."""
    publisher = await place.open(root_requests_per_minute=3)
    stranger = place.stranger(publisher)
    for _ in range(5):
        assert (await stranger.get("/v1/campaigns/c1/settlements")).status == 403
    answers = [await place.user(publisher, f"u{number}").get("/v1/campaigns/c1/settlements") for number in range(4)]

    assert [answer.status for answer in answers] == [404] * 3 + [429]  # the campaign does not exist
    over(answers[-1], "root_requests")


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_bytes_of_bodies_count_even_if_the_request_is_refused(place: Place, is_chunked: bool) -> None:
    publisher = await place.open(user_body_bytes_per_minute=310_000)
    user = place.user(publisher, "loud")

    async def chunks() -> AsyncIterator[bytes]:
        yield b" " * 300_000

    statuses = []
    for _ in range(3):
        body: Any = chunks() if is_chunked else b" " * 300_000
        headers = {"Authorization": f"Bearer {user.token}"}
        async with publisher.http.post(user.url + EVENTS, data=body, headers=headers) as answer:
            statuses.append(answer.status)
            policy = answer.headers.get("RateLimit-Policy", "")

    assert statuses == [400, 400, 429]
    assert policy.startswith('"user_bodies"')


async def test_service_token_is_limited_only_by_the_roots_it_publishes_in(place: Place) -> None:
    publisher = await place.open(user_requests_per_minute=1, user_events_per_minute=1, user_stream_percent=0.000001)

    assert [answer.status for answer in await published(place.service(publisher), 5)] == [201] * 5


async def test_campaign_refused_by_a_limit_leaves_no_grant_in_auth(stream: NatsServer, tmp_path: Path) -> None:
    async with running_auth(stream, tmp_path) as auth:
        jwks = f"{auth.url}/.well-known/jwks.json"
        settings = publisher_settings(stream, tmp_path, jwks, user_events_per_minute=2)
        async with publishing(settings, Heard()) as publisher:
            person = await auth.sign_up("loud")
            await publisher.says("ready")
            user = Api(publisher.http, publisher.url, person.token, person.id)
            answers = [await user.post("/v1/campaigns", {"name": "New"}, Idempotency_Key=f"k{n}") for n in range(4)]
            roots = await auth.call("GET", "/auth/memberships?kind=campaign", token=person.token)

    assert [answer.status for answer in answers] == [201, 201, 429, 429]
    assert len(roots.body["memberships"]) == 2


async def test_change_with_more_events_than_a_minutes_limit_is_accepted_and_the_next_waits(
    stream: NatsServer, tmp_path: Path
) -> None:
    async with running_auth(stream, tmp_path) as auth:
        jwks = f"{auth.url}/.well-known/jwks.json"
        free = publisher_settings(stream, tmp_path, jwks)
        person = await auth.sign_up("owner")
        async with publishing(free, Heard()) as publisher:
            await publisher.says("ready")
            user = Api(publisher.http, publisher.url, person.token, person.id)
            campaign = (await user.post("/v1/campaigns", {"name": "New"})).body["campaign"]["id"]
            settlements = f"/v1/campaigns/{campaign}/settlements"
            settlement = (await user.post(settlements, {"name": "Emberford"})).body["settlement"]["id"]
            for number in range(5):
                await user.post(f"{settlements}/{settlement}/structures", {"name": f"Mill {number}"})
        store = Database(database_url(tmp_path, "publisher"))
        async with store.writing() as tx:
            await tx.execute(update(USAGE).values(events=0))
        await store.close()
        async with publishing(free.model_copy(update={"user_events_per_minute": 2}), Heard()) as publisher:
            await publisher.says("ready")
            user = Api(publisher.http, publisher.url, person.token, person.id)
            deleted = await user.delete(f"{settlements}/{settlement}")
            after = await user.patch(f"/v1/campaigns/{campaign}", {"name": "Newer"})

    assert deleted.status == 204
    over(after, "user_events")


@on_both_databases
async def test_expired_rows_of_limits_are_deleted_and_others_stay(place: Place, tmp_path: Path) -> None:
    publisher = await place.open()
    await published(place.user(publisher, "a"), 1)
    await published(place.user(publisher, "b"), 1, "c2")
    database = Database(database_url(tmp_path, "publisher"))
    async with database.writing() as tx:
        empty = {"events": 1.0, "bytes": 1.0, "share": 1.0, "at": 1.0}
        await tx.execute(update(USAGE).where(USAGE.c.scope == "user:a").values(**empty))
    await Store(database, Outbox(database, OUTBOX)).forget()
    async with database.reading() as connection:
        left = {row.scope for row in await connection.execute(USAGE.select())}
    await database.close()

    assert left == {"user:b", "root:campaign:c1", "root:campaign:c2"}


def test_default_limits_allow_fifty_people_three_changes_a_second() -> None:
    """No limit is below what one request may hold."""
    settings = Settings()
    limits, requests = settings.publishing_limits(), settings.requests()
    for tick in range(10 * 60 * 3):
        for user in range(50):
            requests.by_user(f"u{user}", tick / 3)
            requests.to_root("campaign:c1", tick / 3)

    assert limits.user.events.amount >= 500 * 10
    assert limits.user.bytes.amount >= 1024**2 * 4
    assert limits.user.share.amount < limits.root.share.amount < 8 * 1024**3 / 4


def test_limit_of_zero_refuses_nothing() -> None:
    requests = Settings(user_requests_per_minute=0, user_body_bytes_per_minute=0).requests()
    for _ in range(100_000):
        requests.by_user("u1", 0.0)
        requests.sent("u1", 10**9, 0.0)


def test_memory_for_users_is_bounded_and_the_longest_idle_is_forgotten_first() -> None:
    requests = Settings(user_requests_per_minute=1).requests()
    for number in range(30_000):
        requests.by_user(f"u{number}", 0.0)

    requests.by_user("u0", 0.0)
    with pytest.raises(BeaconfireError):
        requests.by_user("u29999", 0.0)
