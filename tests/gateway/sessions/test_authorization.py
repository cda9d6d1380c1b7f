"""How the gateway asks auth: at a limited pace, in order, and with remembered answers."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.fanout.hub import Hub
from beaconfire_gateway.sessions.authorization import AskingPolicy, Authorization
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.sessions.subscription import Subscription
from beaconfire_kit import errors
from beaconfire_kit.authorization import AUTHORIZE, QUEUE, Auth, AuthUnavailable
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.roles import Role
from beaconfire_kit.tokens import Claims
from beaconfire_kit.verifier import Verifier
from tests.conftest import connected


@dataclass
class SlowAuth:
    """An auth that answers when the test says so."""

    nc: Client
    gateway: Client
    questions: list[Msg] = field(default_factory=list)

    async def asked(self, count: int) -> list[str]:
        """Wait for so many questions. Return the users that asked, including all questions on their way."""
        async with asyncio.timeout(10):
            while len(self.questions) < count:
                await asyncio.sleep(0.001)
            await self.gateway.flush()
            await self.nc.flush()
        return [json.loads(one.data)["userId"] for one in self.questions]

    async def answer(self, number: int, rooms: bytes = b"") -> None:
        await self.nc.publish(self.questions[number].reply, b'{"version":1,"rooms":{%s}}' % rooms)

    async def revoke(self, number: int) -> None:
        """Answer that the token was revoked."""
        await self.nc.publish(self.questions[number].reply, b'{"version":1,"revoked":true}')


@asynccontextmanager
async def slow_auth(
    server: NatsServer, policy: AskingPolicy | None = None
) -> AsyncIterator[tuple[Authorization, SlowAuth]]:
    async with connected(server, "auth") as nc, connected(server, "gateway") as gateway:
        auth = SlowAuth(nc, gateway)

        async def hear(message: Msg) -> None:
            auth.questions.append(message)

        await nc.subscribe(AUTHORIZE, queue=QUEUE, cb=hear)
        await nc.flush()
        hub: Hub[Session] = Hub()
        nobody = Verifier(None, "", issuer="", audience="")  # type: ignore[arg-type]  # no token is verified here
        asks = Auth()
        asks.nc = gateway
        yield Authorization(asks, nobody, hub, policy), auth


def claims(user: str) -> Claims:
    return Claims(user, "", 0, 900, "")


async def test_gateway_asks_auth_a_few_questions_at_a_time_in_order(stream: NatsServer) -> None:
    async with slow_auth(stream, AskingPolicy(asks_at_once=3)) as (authorization, auth):
        asking = [
            asyncio.create_task(authorization.decide(claims(f"u{number}"), ["campaign:c1"])) for number in range(6)
        ]
        at_first = await auth.asked(3)
        await auth.answer(0)
        then = await auth.asked(4)
        for number in range(1, 6):
            await auth.asked(number + 1)
            await auth.answer(number)
        answers = await asyncio.gather(*asking)

    assert at_first == ["u0", "u1", "u2"]
    assert then == ["u0", "u1", "u2", "u3"]
    assert len(answers) == 6


async def test_question_that_waits_too_long_is_refused_with_a_retry_time_and_never_sent(stream: NatsServer) -> None:
    async with slow_auth(stream, AskingPolicy(asks_at_once=1, wait_s=0.05)) as (authorization, auth):
        first = asyncio.create_task(authorization.decide(claims("u0"), ["campaign:c1"]))
        await auth.asked(1)
        with pytest.raises(AuthUnavailable) as refused:
            await authorization.decide(claims("u1"), ["campaign:c1"])
        await auth.answer(0)
        await first
        third = asyncio.create_task(authorization.decide(claims("u2"), ["campaign:c1"]))
        asked = await auth.asked(2)
        await auth.answer(1)
        await third

    assert refused.value.retry_after_ms == 1000
    assert asked == ["u0", "u2"]


async def test_answers_are_remembered_per_token_and_room(stream: NatsServer) -> None:
    yes = b'"campaign:c%d":{"allowed":true,"root":"campaign:c%d","role":"%s"}'
    async with slow_auth(stream) as (authorization, auth):
        for number in range(2):
            first = asyncio.create_task(authorization.decide(claims("u0"), [f"campaign:c{number}"]))
            await auth.asked(number + 1)
            await auth.answer(number, yes % (number, number, b"viewer"))
            await first
        known = await authorization.decide(claims("u0"), ["campaign:c1", "campaign:c0"])
        other = asyncio.create_task(authorization.decide(Claims("u0", "", 1, 900, ""), ["campaign:c0"]))
        asked = await auth.asked(3)
        await auth.answer(2, yes % (0, 0, b"editor"))
        places = await other
        still = await authorization.decide(claims("u0"), ["campaign:c0"])

    assert asked == ["u0"] * 3
    assert {name: str(place.room.root) for name, place in known.items() if isinstance(place, Subscription)} == {
        "campaign:c1": "campaign:c1",
        "campaign:c0": "campaign:c0",
    }
    assert [getattr(one["campaign:c0"], "role", None) for one in (known, places, still)] == [
        Role.VIEWER,
        Role.EDITOR,
        Role.VIEWER,
    ]


@pytest.mark.parametrize("rooms", [["!"], []])
async def test_revoked_token_is_refused_even_if_no_room_has_to_be_decided(stream: NatsServer, rooms: list[str]) -> None:
    async with slow_auth(stream) as (authorization, auth):
        asking = asyncio.create_task(authorization.decide(claims("u0"), rooms))
        asked = asyncio.create_task(auth.asked(1))
        await asyncio.wait([asking, asked], return_when=asyncio.FIRST_COMPLETED)
        assert not asking.done()
        await asked
        await auth.revoke(0)
        with pytest.raises(BeaconfireError) as refused:
            await asking

    assert refused.value.code is errors.TOKEN_INVALID


async def test_malformed_room_beside_a_remembered_one_is_refused_without_asking_auth(stream: NatsServer) -> None:
    yes = b'"campaign:c1":{"allowed":true,"root":"campaign:c1","role":"viewer"}'
    async with slow_auth(stream) as (authorization, auth):
        first = asyncio.create_task(authorization.decide(claims("u0"), ["campaign:c1"]))
        await auth.asked(1)
        await auth.answer(0, yes)
        await first
        answers = await authorization.decide(claims("u0"), ["campaign:c1", "!"])
        asked = await auth.asked(1)

    assert asked == ["u0"]
    assert isinstance(answers["campaign:c1"], Subscription)
    assert getattr(answers["!"], "code", None) is errors.BAD_ROOM


async def test_remembered_answers_are_asked_again_after_they_were_let_go(stream: NatsServer) -> None:
    yes = b'"campaign:c1":{"allowed":true,"root":"campaign:c1","role":"viewer"}'
    async with slow_auth(stream) as (authorization, auth):
        first = asyncio.create_task(authorization.decide(claims("u0"), ["campaign:c1"]))
        await auth.asked(1)
        await auth.answer(0, yes)
        known = [await first, await authorization.decide(claims("u0"), ["campaign:c1"])]
        at_first = await auth.asked(1)
        authorization.let_go()
        again = asyncio.create_task(authorization.decide(claims("u0"), ["campaign:c1"]))
        then = await auth.asked(2)
        await auth.answer(1, yes)
        known.append(await again)

    assert (at_first, then) == (["u0"], ["u0", "u0"])
    assert known[0] == known[1] == known[2]
