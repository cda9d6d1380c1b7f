"""T11: the broker refuses what the permission table does not allow, and lets through what it allows."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from beaconfire.broker_config import container_config
from beaconfire.broker_users import USER_INFO, USERS, BrokerUser, Publisher, users
from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.authorization import AUTHORIZE, GRANT, QUEUE
from beaconfire_kit.backend import ACCESS, subject_of
from beaconfire_kit.broker import SEND, SENT, STREAM
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.sending import SENDING_QUEUE
from beaconfire_kit.subjects import RESERVED_KINDS
from tests.client import open_socket
from tests.conftest import connected
from tests.gateway.conftest import Gateway, settlement
from tests.security.conftest import Target
from tests.security.raw_nats import RawNats, Refused, raw_nats

NAMES = [user.name for user in USERS]
PUT_MEMBER = subject_of("put_member")
FURTHER = (
    Publisher("weather", ("depot.*.weather.>", "campaign.*.weather.*")),
    Publisher("quests", ("depot.>",), kit=True),
    Publisher("greedy", ("depot.*.>", "campaign.*.*.*", "user.>"), kit=True),
)
EXTENDED = users(["depot"], FURTHER)
"""The table of a deployment with a root of its own and further publishers."""
MEMBERSHIP = ("campaign.c1.member.u1", "workspace.w1.member.u1", "depot.d1.member.u1", "user.u1.access")
API = (
    *(f"STREAM.{call}.{STREAM}" for call in ("CREATE", "UPDATE", "DELETE", "PURGE", "INFO", "SNAPSHOT", "RESTORE")),
    *(f"STREAM.{call}.{STREAM}" for call in ("MSG.GET", "MSG.DELETE", "LEADER.STEPDOWN", "PEER.REMOVE")),
    "STREAM.CREATE.OTHER",
    "STREAM.INFO.OTHER",
    "STREAM.NAMES",
    "STREAM.LIST",
    "INFO",
    "ACCOUNT.PURGE.$G",
    "META.LEADER.STEPDOWN",
    f"DIRECT.GET.{STREAM}",
    f"DIRECT.GET.{STREAM}.campaign.c1.settlement.s1",
    *(f"CONSUMER.{call}.{STREAM}" for call in ("NAMES", "LIST")),
    *(
        f"CONSUMER.{call}.{stream}.intruder"
        for call in ("CREATE", "DURABLE.CREATE", "DELETE", "INFO", "MSG.NEXT", "PAUSE", "UNPIN", "LEADER.STEPDOWN")
        for stream in (STREAM, "OTHER")
    ),
    f"CONSUMER.DELETE.{STREAM}.auth-parents",
)
PUBLISHES = (
    *MEMBERSHIP,
    "campaign.c1.settlement.s1",
    "campaign.c1",
    "workspace.w1.issue.i1",
    "user.u1.notification.n1",
    "tick",
    "anchor",
    "live.tick",
    "live.campaign.c1.settlement.s1",
    "live.campaign.c1.member.u1",
    "ephemeral.campaign.c1.typing",
    "deadletter.invalid",
    "$BEACONFIRE.gateway.a1.ask.poll",
    "$BEACONFIRE.other",
    "anything.else",
    "_INBOX.x",
    "$SYS.REQ.SERVER.PING",
    "$SYS.REQ.ACCOUNT.PING.CONNZ",
    "$SYS.REQ.USER.INFO",
    "$SRV.PING",
    "$KV.secrets.x",
    *(f"{word}.x1.member.u1" for word in (*sorted(RESERVED_KINDS), "_INBOX", "_INBOX_gateway")),
    *(f"{word}.x1.member.u1" for word in ("$BEACONFIRE", "$JS", "$KV", "$SYS")),
    f"$JS.ACK.{STREAM}.intruder.1.1.1.1.1",
    "$JS.ACK.OTHER.intruder.1.1.1.1.1",
    "$JS.FC.EVENTS.intruder.x",
    f"$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.{STREAM}",
    *(f"$JS.API.{call}" for call in API),
    *(f"_INBOX_{name}.x.y" for name in NAMES),
)
SUBSCRIBES = (
    ">",
    "*",
    "*.>",
    "live.>",
    "live.*",
    "live.campaign.c1.>",
    "live.campaign.*.member.*",
    "campaign.>",
    "user.>",
    "ephemeral.>",
    "ephemeral.*",
    "deadletter.>",
    "deadletter.invalid",
    "$BEACONFIRE.>",
    "$BEACONFIRE.gateway.>",
    "$BEACONFIRE.gateway.a1.answer.b1",
    "auth.>",
    "auth.*",
    "_INBOX.>",
    "$SYS.>",
    "$SYS.ACCOUNT.>",
    "$JS.>",
    "$JS.API.>",
    "$JS.ACK.>",
    "$JS.EVENT.>",
    "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.*",
    *(f"_INBOX_{name}.>" for name in NAMES),
    *(f"_INBOX_{name}.x.y" for name in NAMES),
)


def matches(pattern: str, subject: str) -> bool:
    """Whether everything that `subject` means is inside `pattern` (NATS wildcards in both)."""
    wanted, given = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return len(given) > index
        if index >= len(given) or given[index] == ">" or (token != "*" and token != given[index]):
            return False
    return len(wanted) == len(given)


def example(pattern: str) -> str:
    """A subject inside a pattern."""
    return pattern.replace("*", "x1").replace(">", "x1.y1")


def may_publish(user: BrokerUser, subject: str) -> bool:
    allowed = any(matches(pattern, subject) for pattern in user.publish)
    return allowed and not any(matches(pattern, subject) for pattern in user.deny_publish)


def may_subscribe(user: BrokerUser, subject: str, queue: str) -> bool:
    for row in (*user.subscribe, f"_INBOX_{user.name}.>"):
        pattern, _, demanded = row.partition(" ")
        if matches(pattern, subject) and demanded in ("", queue):
            return True
    return False


def publishes() -> list[str]:
    """The list above, and an example of every subject that any user may publish."""
    granted = (example(pattern) for user in USERS for pattern in (*user.publish, *user.deny_publish))
    return list(dict.fromkeys([*PUBLISHES, *granted]))


def subscribes() -> Iterator[tuple[str, str]]:
    """The list above, and everything any user may subscribe to: alone, in its queue group, and in another one."""
    rows = [row.partition(" ") for user in USERS for row in user.subscribe]
    for subject in dict.fromkeys([*SUBSCRIBES, *(subject for subject, _, _ in rows)]):
        for queue in dict.fromkeys(["", "intruders", *(queue for _, _, queue in rows if queue)]):
            yield subject, queue


def wrong(answers: Iterable[tuple[str, bool, str]]) -> list[str]:
    """Return the subjects for which the server's answer differs from the table's."""
    return [
        f"{what}: the table says {'yes' if allowed else 'no'}, the server {refusal or 'took it'}"
        for what, allowed, refusal in answers
        if allowed == bool(refusal) or (refusal and "Permissions Violation" not in refusal)
    ]


@pytest.mark.parametrize("user", USERS, ids=NAMES)
async def test_each_broker_user_can_publish_exactly_what_its_row_allows(
    nats_server: NatsServer, user: BrokerUser
) -> None:
    """T11: tried with a list of everything worth trying."""
    async with raw_nats(nats_server, user.name) as nats:
        answers = [(subject, may_publish(user, subject), await nats.publish(subject)) for subject in publishes()]

    assert wrong(answers) == []
    assert {allowed for _, allowed, _ in answers} == {True, False}


@pytest.mark.parametrize("user", USERS, ids=NAMES)
async def test_each_broker_user_can_subscribe_exactly_to_what_its_row_allows(
    nats_server: NatsServer, user: BrokerUser
) -> None:
    """T11: a wider subscription is refused, and so is one without the required queue group."""
    async with raw_nats(nats_server, user.name) as nats:
        answers = [
            (f"{subject} {queue}".strip(), may_subscribe(user, subject, queue), await nats.subscribe(subject, queue))
            for subject, queue in subscribes()
        ]

    assert wrong(answers) == []
    assert {allowed for _, allowed, _ in answers} == {True, False}


@pytest.mark.parametrize("user", EXTENDED, ids=[user.name for user in EXTENDED])
async def test_permissions_with_a_root_of_your_own_and_further_publishers_are_those_of_the_table(
    nats_server: NatsServer, user: BrokerUser
) -> None:
    """T11: tried with the same list, after the running server has reloaded its configuration."""
    tried = [*publishes(), "depot.d1", "depot.d1.parcel.p1", "depot.d1.weather.w1", "ephemeral.depot.d1.weather.w1"]
    await asyncio.to_thread(nats_server.permit, roots=["depot"], publishers=FURTHER)
    async with raw_nats(nats_server, user.name) as nats:
        answers = [(subject, may_publish(user, subject), await nats.publish(subject)) for subject in tried]
        heard = [
            (f"{subject} {queue}".strip(), may_subscribe(user, subject, queue), await nats.subscribe(subject, queue))
            for subject, queue in subscribes()
        ]

    assert wrong(answers) == []
    assert wrong(heard) == []


def test_only_the_publisher_gets_the_roots_of_the_catalogue() -> None:
    """T11: no other row names a root, so a push needs no new permissions for gateways and auth."""
    changed = {
        user.name
        for user, before in zip(users(["depot"]), USERS, strict=True)
        if (user.publish, user.subscribe, user.deny_publish) != (before.publish, before.subscribe, before.deny_publish)
    }

    assert changed == {"publisher"}


def test_further_publisher_may_write_only_its_subtrees_and_hear_only_its_inbox() -> None:
    """T11: one that is not built on the kit reads nothing from the stream. To send, it needs a service token, too.

    Every user may ask what it may do itself.
    """
    weather = next(user for user in EXTENDED if user.name == "weather")

    assert [subject for subject in publishes() if may_publish(weather, subject)] == [USER_INFO, SEND]
    assert [what for what, queue in subscribes() if may_subscribe(weather, what, queue)] == []


@pytest.mark.parametrize("user", EXTENDED, ids=[user.name for user in EXTENDED])
def test_no_row_of_the_permission_table_breaks_the_rules_of_all_rows(user: BrokerUser) -> None:
    """T11: only auth publishes memberships, only `setup` changes streams, and only it and `catalogue` push.

    Only gateways speak with gateways and of presence, and only the publisher sends to rooms. No user publishes
    `live.>`, or hears another's inbox or everything. No wildcard reaches the broker's own traffic.
    """
    pushing = ("catalogue", "$KV.CATALOGUE.rev.1", "$KV.CATALOGUE.committed", "$KV.CATALOGUE.fragment.x1")
    reserved = [f"{word}.x1.x2.x3" for word in (*RESERVED_KINDS, "$KV", "$SYS", "$JS", "_INBOX", "_INBOX_gateway")]
    between_gateways = "$BEACONFIRE.gateway.a1.ask.poll"
    calls = ("CREATE", "UPDATE", "DELETE", "PURGE", "RESTORE")
    dangerous = [f"$JS.API.STREAM.{call}.{stream}" for call in calls for stream in (STREAM, "KV_CATALOGUE")]
    foreign = [f"_INBOX_{name}.x" for name in NAMES if name != user.name]

    assert user.name == "auth" or not [subject for subject in MEMBERSHIP if may_publish(user, subject)]
    assert user.name == "setup" or not [subject for subject in dangerous if may_publish(user, subject)]
    assert user.name in ("setup", "catalogue") or not [subject for subject in pushing if may_publish(user, subject)]
    assert may_publish(user, between_gateways) == (user.name == "gateway")
    assert may_subscribe(user, between_gateways, "") == (user.name == "gateway")
    assert may_publish(user, SENT) == (user.name == "publisher")
    assert may_subscribe(user, SENT, "") == (user.name == "gateway")
    assert may_subscribe(user, SEND, SENDING_QUEUE) == (user.name == "publisher")
    by_right = {"gateway": ("ephemeral.", "deadletter.", "presence."), "publisher": ("ephemeral.",)}.get(user.name, ())
    assert not [one for one in reserved if may_publish(user, one) and not one.startswith(by_right or "none")]
    assert not [
        subject for subject in ("live.campaign.c1.x", "live.tick", "$SYS.x", *foreign) if may_publish(user, subject)
    ]
    assert not [subject for subject in (">", "*", "$SYS.>", "$JS.>", *foreign) if may_subscribe(user, subject, "")]


@pytest.mark.parametrize("user", USERS, ids=NAMES)
async def test_missing_wrong_and_foreign_broker_passwords_are_refused(
    nats_server: NatsServer, user: BrokerUser
) -> None:
    """T11: no password, a wrong one and another user's are refused."""
    another = next(name for name in NAMES if name != user.name)
    for password in ("", "wrong", nats_server.passwords[another]):
        with pytest.raises(Refused, match=r"Authorization Violation|closed"):
            async with raw_nats(nats_server, user.name, password):
                pass


async def test_broker_connection_without_a_user_is_refused(nats_server: NatsServer) -> None:
    """T11: a connection that names no user is refused."""
    with pytest.raises(Refused, match=r"Authorization Violation|closed"):
        async with raw_nats(nats_server, ""):
            pass


async def test_auth_may_answer_a_request_once_where_it_was_asked_and_never_unasked(nats_server: NatsServer) -> None:
    """T11: an answer goes to the inbox of its request."""
    async with raw_nats(nats_server, "auth") as auth, raw_nats(nats_server, "gateway") as gateway:
        unasked = await auth.publish("_INBOX_gateway.question.1", b"unasked")
        await auth.subscribe(AUTHORIZE, QUEUE)
        await gateway.subscribe("_INBOX_gateway.>")
        await gateway.publish(AUTHORIZE, b"?", reply="_INBOX_gateway.question.1")
        await auth.hear()
        first = await auth.publish("_INBOX_gateway.question.1", b"answer")
        second = await auth.publish("_INBOX_gateway.question.1", b"another")
        heard = await gateway.hear()
        await gateway.flush()

    assert "Permissions Violation" in unasked
    assert first == ""
    assert "Permissions Violation" in second
    assert (heard[3], gateway.messages) == (b"answer", [])


def test_shipped_broker_configuration_equals_the_permission_table() -> None:
    """T11: the configuration has exactly the users of the table, with its permissions."""
    config = (Path(__file__).parents[2] / "deploy/nats/single.conf").read_text()
    rows = re.findall(r"\{ user: ([\w-]+), password: .*?\n    \} \}", config, re.DOTALL)
    written = re.findall(
        r"user: ([\w-]+),.*?publish: \{ allow: (\[.*?\])(?:, deny: (\[.*?\]))? \}\s+subscribe: \{ allow: (\[.*?\]) \}"
        r"(\s+allow_responses)?",
        config,
        re.DOTALL,
    )
    read = [
        (name, tuple(json.loads(publish)), tuple(json.loads(deny or "[]")), tuple(json.loads(subscribe)), bool(replies))
        for name, publish, deny, subscribe, replies in written
    ]

    assert config == container_config()
    assert rows == NAMES
    assert read == [
        (user.name, user.publish, user.deny_publish, (*user.subscribe, f"_INBOX_{user.name}.>"), user.replies)
        for user in USERS
    ]


Attack = Callable[[RawNats], Awaitable[None]]

# Attempts of a hijacked publisher on `live.>`, where it may not publish.

FORGED = b"Nats-Stream: EVENTS\r\nNats-Subject: campaign.c1.settlement.fake\r\nNats-Sequence: 999999\r\n"


async def _foreign(gateway: Gateway) -> int:
    found = re.search(r"^beaconfire_gateway_forged_messages_total (\d+)", await gateway.metrics(), re.MULTILINE)
    return int(found[1]) if found else 0


async def _replies_to_live(nats: RawNats) -> None:
    """The stream's acknowledgement of a publish lands on `live.>`."""
    for subject in ("live.campaign.c1.settlement.fake", "live.campaign.c1.member.viewer", "live.user.viewer.access"):
        assert await nats.publish("campaign.c1.settlement.noise", b"{}", reply=subject) == ""


async def _api_answers_to_live(nats: RawNats) -> None:
    """Answers of the broker's own API land on `live.>`."""
    assert await nats.publish(f"$JS.API.STREAM.INFO.{STREAM}", reply="live.campaign.c1.settlement.fake") == ""


async def _forged_headers(nats: RawNats) -> None:
    """An event with headers as the server writes them, in front of the server's own."""
    assert await nats.publish("campaign.c1.settlement.noise", b"{}", headers=FORGED) == ""


async def _forged_headers_and_reply(nats: RawNats) -> None:
    """A request to auth whose reply, or whose own headers, would look like the stream's. This auth answers it."""
    assert await nats.publish(AUTHORIZE, b"{}", reply="live.campaign.c1.settlement.fake", headers=FORGED) == ""


@pytest.mark.parametrize(
    ("attack", "counted"),
    [(_replies_to_live, 3), (_api_answers_to_live, 1), (_forged_headers, 0), (_forged_headers_and_reply, 1)],
    ids=["acknowledgements", "API answers", "forged headers", "a service's answer"],
)
async def test_message_injected_into_live_reaches_no_client_and_is_counted(
    gateway: Gateway, attack: Attack, counted: int
) -> None:
    """T11: forged headers come before the server's, and only the last ones count. No event is lost."""
    gateway.auth.answer = lambda question: gateway.auth.decide({"userId": "", "rooms": [], **question})
    async with open_socket(gateway.url) as client, raw_nats(gateway.server, "publisher") as rogue:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1", "user:viewer"])
        before = await _foreign(gateway)
        await attack(rogue)
        async with asyncio.timeout(15):
            while await _foreign(gateway) < before + counted:
                pass
        offset = await gateway.publish(settlement("genuine"))
        event = await client.next("event")
        dropped = await _foreign(gateway) - before

    assert (event["offset"], event["event"]["payload"]["settlementId"]) == (offset, "genuine")
    assert [frame["type"] for frame in client.frames if frame["type"] in ("event", "room.left", "resync")] == ["event"]
    assert dropped == counted


async def test_stored_message_with_forged_headers_delivered_to_live_is_dropped(gateway: Gateway) -> None:
    """T11: it keeps the subject under which it was stored, so the author of such a consumer gains nothing."""
    body = {
        "stream_name": STREAM,
        "config": {
            "ack_policy": "none",
            "deliver_policy": "all",
            "mem_storage": True,
            "filter_subject": "campaign.>",
        },
    }
    async with open_socket(gateway.url) as client, raw_nats(gateway.server, "setup") as rogue:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        async with raw_nats(gateway.server, "publisher") as publisher:
            await publisher.publish("campaign.c1.settlement.noise", b"{}", headers=FORGED)
        before = await _foreign(gateway)
        await rogue.publish(f"$JS.API.CONSUMER.CREATE.{STREAM}.rogue.campaign.>", json.dumps(body).encode())
        async with asyncio.timeout(15):
            while await _foreign(gateway) == before:  # a request that comes before the consumer exists is lost
                await rogue.publish(
                    f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.rogue", b"1", reply="live.campaign.c1.settlement.fake"
                )
        offset = await gateway.publish(settlement("genuine"))
        event = await client.next("event")

    assert event["offset"] == offset


async def test_forged_offset_beyond_the_streams_end_is_checked_and_forgotten(gateway: Gateway) -> None:
    """T11: a service that returned the headers of a request would let it through.

    The gateway asks the stream, and goes on.
    """
    async with (
        open_socket(gateway.url) as client,
        raw_nats(gateway.server, "publisher") as rogue,
        raw_nats(gateway.server, "auth") as careless,
    ):
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        await careless.subscribe(GRANT, QUEUE)
        subject = "live.campaign.c1.settlement.fake"
        await rogue.publish(GRANT, b"{}", reply=subject, headers=FORGED)
        await careless.hear()
        assert await careless.publish(subject, settlement_body("fake"), headers=FORGED) == ""
        async with asyncio.timeout(30):
            while await _foreign(gateway) == 0:
                pass
        offset = await gateway.publish(settlement("genuine"))
        event = await client.next("event")

    assert (event["offset"], event["event"]["payload"]["settlementId"]) == (offset, "genuine")


def settlement_body(settlement_id: str) -> bytes:
    """The body of a proper event."""
    return Envelope(settlement(settlement_id), Metadata(source="api")).encode()


ELSEWHERE = (
    "live.campaign.c1.settlement.fake",
    "campaign.x.member.y",
    "user.y.access",
    "campaign.c1.settlement.fake",
    "tick",
    "outbox.wake",
    "$JS.API.STREAM.PURGE.EVENTS",
    "$JS.ACK.EVENTS.auth-parents.1.1.1.1.1",
    AUTHORIZE,
    GRANT,
)


@pytest.mark.parametrize("question", [AUTHORIZE, GRANT, PUT_MEMBER])
async def test_auth_answers_only_to_inboxes_and_repeats_no_header(target: Target, question: str) -> None:
    """T11: an answer to any other address could be stored in the stream or heard on `live.>`."""
    async with (
        raw_nats(target.services.nats, "publisher") as rogue,
        raw_nats(target.services.nats, "gateway") as listening,
        connected(target.services.nats, "operator") as operator,
    ):
        await listening.subscribe("live.>")
        before = await _last_offset(operator)
        correlation = b"correlation_id: x\r\nX-Subject: campaign.c1.settlement.fake\r\n"
        for subject in ELSEWHERE:
            await rogue.publish(question, b"{}", reply=subject)
        await rogue.subscribe("_INBOX_publisher.x")  # the real publisher has others
        await rogue.publish(question, b"{}", reply="_INBOX_publisher.x", headers=correlation)
        heard = await rogue.hear()
        after = await _last_offset(operator)
        await listening.flush()  # it has heard everything that is stored, such as the ticks and anchors of the services

    assert heard[0] == "_INBOX_publisher.x"
    assert b"X-Subject" not in heard[2]
    assert json.loads(heard[3])["error"]["code"] == "bad_request"
    assert [one for one in listening.messages if b'"error"' in one[3]] == []
    assert after - before <= len(listening.messages)
    await target.assert_alive()


async def _last_offset(operator: Client) -> int:
    answer = await operator.request(f"$JS.API.STREAM.INFO.{STREAM}", b"", timeout=5)
    return int(json.loads(answer.data)["state"]["last_seq"])


@pytest.mark.parametrize("user", USERS, ids=NAMES)
async def test_no_broker_password_makes_a_member(target: Target, user: BrokerUser) -> None:
    """T11: asked outright, by a consumer that delivers to auth's subject, or by a pull whose reply is auth's
    subject."""
    stranger, campaign = target.stranger, target.campaign
    grab = {"root": f"campaign:{campaign}", "userId": stranger.id, "role": "owner"}
    newcomer = {"userId": "outside-x", "rooms": [], "newcomer": {"name": "x", "email": "x@y.example", "token": "x"}}
    call = {"serviceToken": "guess", "request": grab}
    bodies = [json.dumps(one).encode() for one in (grab, grab | {"serviceToken": "guess"}, newcomer, call)]
    async with raw_nats(target.services.nats, "publisher") as accomplice:
        for body in bodies:
            await accomplice.publish(f"campaign.{campaign}.settlement.stored", body)
    async with raw_nats(target.services.nats, user.name) as rogue:
        inbox = f"_INBOX_{user.name}.x.y"
        await rogue.subscribe(f"_INBOX_{user.name}.>")
        for body in bodies:
            for subject in (GRANT, AUTHORIZE, PUT_MEMBER, *MEMBERSHIP):
                await rogue.publish(subject, body, reply=inbox)
        of_auth = (f"campaign.{campaign}.member.{stranger.id}", f"user.{stranger.id}.access")
        for subject in (GRANT, AUTHORIZE, PUT_MEMBER, *of_auth):
            for name in dict.fromkeys([*_consumers(user), "intruder"]):
                await _deliver_to(rogue, name, subject, inbox)
        await rogue.flush()

    members = await _members(target)
    assert stranger.id not in members
    assert set(members) == {target.owner.id}
    await target.assert_alive()


def _consumers(user: BrokerUser) -> list[str]:
    """The consumers that the table lets a user make."""
    prefix = f"$JS.API.CONSUMER.CREATE.{STREAM}."
    names = [subject.removeprefix(prefix) for subject in user.publish if subject.startswith(prefix)]
    return [f"rogue-{user.name}" if name in ("*", ">") else name for name in names if "." not in name]


async def _deliver_to(rogue: RawNats, name: str, subject: str, inbox: str) -> None:
    """Have stored messages delivered to a subject: by a consumer that pushes there, and by one that is asked to."""
    config = {"name": name, "ack_policy": "none", "deliver_policy": "all", "mem_storage": True, "filter_subject": ""}
    for more in ({"deliver_subject": subject}, {}):
        request = {"stream_name": STREAM, "config": config | more}
        await rogue.publish(f"$JS.API.CONSUMER.CREATE.{STREAM}.{name}", json.dumps(request).encode(), reply=inbox)
    await rogue.publish(f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{name}", b'{"batch":10}', reply=subject)
    await rogue.publish(f"$JS.API.STREAM.MSG.GET.{STREAM}", b'{"seq":1}', reply=subject)
    await rogue.publish(f"$JS.API.CONSUMER.DELETE.{STREAM}.{name}", reply=inbox)


async def _members(target: Target) -> dict[str, str]:
    url = f"{target.services.auth_url}/auth/roots/campaign:{target.campaign}/members"
    _, answer = await target.status("GET", url, token=target.owner.token)
    return {member["userId"]: member["role"] for member in answer["members"]}


@pytest.mark.parametrize(("question", "counted"), [(GRANT, GRANT), (PUT_MEMBER, ACCESS)])
async def test_stored_message_delivered_to_auth_is_no_request(target: Target, question: str, counted: str) -> None:
    """T11: it keeps its stored subject, so even a good service token in its body makes no member."""
    stranger, campaign = target.stranger, target.campaign
    grab = {"root": f"campaign:{campaign}", "userId": stranger.id, "role": "owner"}
    good = {**grab, "serviceToken": target.services.service_token, "request": grab}
    ignored = f'beaconfire_auth_broker_requests_total{{result="no_request",subject="{counted}"}}'
    before = await _count(target, ignored)
    async with raw_nats(target.services.nats, "gateway") as rogue:
        async with raw_nats(target.services.nats, "publisher") as accomplice:
            await accomplice.publish(f"campaign.{campaign}.settlement.stored", json.dumps(good).encode())
        await _deliver_to(rogue, f"rogue-{counted[:9]}".replace(".", "-"), question, "_INBOX_gateway.x.y")
        async with asyncio.timeout(20):
            while await _count(target, ignored) == before:
                await asyncio.sleep(0.05)

    assert stranger.id not in await _members(target)


async def _count(target: Target, metric: str) -> float:
    _, text = await target.status("GET", f"{target.services.auth.ops_url}/metrics")
    lines = [line for line in str(text).splitlines() if line.startswith(f"{metric} ")]
    return float(lines[0].rpartition(" ")[2]) if lines else 0.0


@pytest.mark.parametrize("user", USERS, ids=NAMES)
def test_broker_user_can_create_and_delete_only_its_own_consumers(user: BrokerUser) -> None:
    """T11: consumers with another owner in the table are refused."""
    owners = {"auth-parents": "auth", "rules-engine": "rules-engine", "scheduler": "scheduler"}
    owners |= {"outbox-auth": "auth", "outbox-publisher": "publisher"}
    touched = {
        name
        for name in owners
        for call in ("CREATE", "DELETE", "MSG.NEXT")
        if may_publish(user, f"$JS.API.CONSUMER.{call}.{STREAM}.{name}")
    }

    assert user.name == "setup" or touched == {name for name, owner in owners.items() if owner == user.name}


async def test_consumer_that_delivers_to_a_membership_subject_makes_no_member(stream: NatsServer) -> None:
    """T11: the message is stored under its own subject, and delivering into the stream is refused as a cycle."""
    config = {"ack_policy": "none", "deliver_policy": "last", "mem_storage": True, "filter_subject": "campaign.>"}
    create = f"$JS.API.CONSUMER.CREATE.{STREAM}.rogue.campaign.>"
    push = {"stream_name": STREAM, "config": {**config, "deliver_subject": MEMBERSHIP[0]}}
    async with connected(stream, "setup") as setup, raw_nats(stream, "gateway") as gateway:
        await gateway.subscribe("live.campaign.>")
        async with raw_nats(stream, "publisher") as publisher:
            await publisher.publish("campaign.c1.settlement.s1", b'{"forged":true}')
        refused = json.loads((await setup.request(create, json.dumps(push).encode())).data)
        await setup.request(create, json.dumps({"stream_name": STREAM, "config": config}).encode())
        await setup.publish(f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.rogue", b"1", reply=MEMBERSHIP[0])
        heard = [await gateway.hear() for _ in range(2)]

    assert refused["error"]["err_code"] == 10081
    assert [subject for subject, *_ in heard] == ["live.campaign.c1.settlement.s1"] * 2


async def test_acknowledgement_sent_to_the_brokers_api_purges_nothing(stream: NatsServer) -> None:
    """T11: JetStream obeys only clients."""
    async with raw_nats(stream, "publisher") as rogue, connected(stream, "setup") as setup:
        for call in ("PURGE", "DELETE"):
            await rogue.publish("campaign.c1.settlement.s1", b"{}", reply=f"$JS.API.STREAM.{call}.{STREAM}")
        offset = await broker.publish(setup, "anchor", b"", message_id="behind them")
        info = json.loads((await setup.request(f"$JS.API.STREAM.INFO.{STREAM}", b"")).data)

    assert (info["state"]["first_seq"], info["state"]["messages"]) == (1, offset)
