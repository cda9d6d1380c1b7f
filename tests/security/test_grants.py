"""Grants in the tokens of an outside issuer: auth decides what counts, and open sockets feel a change."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_kit.authorization import AuthorizeRequest, Newcomer
from tests.asking import authorize
from tests.client import SocketClient, open_socket
from tests.conftest import connected
from tests.databases import on_both_databases
from tests.security.whole import Whole, running_whole

pytestmark = on_both_databases

ISSUER, SECRET = "https://shop.example", "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
ALICE = "shop-alice"


def token(grants: Any = None, user: str = "alice", *, ttl_s: int = 600, **change: Any) -> str:
    """A token of the shop. `grants` by root."""
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": "beaconfire", "sub": user, "iat": now, "exp": now + ttl_s, "beaconfire": grants}
    return jwt.encode({name: value for name, value in {**claims, **change}.items() if value is not None}, SECRET)


def issuers(folder: Path, **change: Any) -> dict[str, Any]:
    path = folder / "shop.secret"
    path.write_text(SECRET)
    shop = {"name": "shop", "issuer": ISSUER, "audience": "beaconfire", "secretFiles": [str(path)]}
    return {"outside_issuers": [{**shop, "grants": {"campaign:*": "editor"}, **change}]}


@pytest.fixture(name="whole")
async def _whole(stream: NatsServer, tmp_path: Path) -> AsyncIterator[Whole]:
    async with running_whole(stream, tmp_path, everywhere=issuers(tmp_path)) as whole:
        yield whole


@pytest.fixture(name="campaign")
async def _campaign(whole: Whole) -> str:
    return await whole.campaign(await whole.sign_up("owner"))


@asynccontextmanager
async def joined(whole: Whole, token: str, *rooms: str) -> AsyncIterator[SocketClient]:
    async with open_socket(whole.gateways[0].url) as client:
        ack = await client.connect(token, rooms)
        assert all(answer["success"] for answer in ack["rooms"].values()), ack
        yield client


async def answer(whole: Whole, token: str, room: str) -> str:
    """How a room is answered when a client connects: `joined`, or the code of the error."""
    async with open_socket(whole.gateways[0].url) as client:
        told = (await client.connect(token, [room]))["rooms"][room]
        return "joined" if told["success"] else str(told["error"]["code"])


async def revoke(whole: Whole, root: str, **more: Any) -> None:
    """Revoke alice's access to a root, as the application's backend does."""
    wanted = {"service": "backend", "publish": ["campaign.*.member.*"]}
    issued = await whole.auth.operate("POST", "service-tokens", wanted)
    body = {"userId": ALICE, "root": root, **more}
    told = await whole.auth.call("POST", "/auth/revocations", body, token=issued.body["token"])
    assert told.status == 200, told


@pytest.mark.parametrize(
    ("role", "reads", "changes", "deletes"),
    [("viewer", 200, 403, 403), ("editor", 200, 200, 403), ("owner", 403, 403, 403)],
)
async def test_granted_role_opens_rooms_and_calls_of_the_publisher_up_to_what_the_issuer_may_grant(
    whole: Whole, campaign: str, role: str, reads: int, changes: int, deletes: int
) -> None:
    room = f"campaign:{campaign}"
    granted = token({room: role})
    api, path = whole.api(granted), f"/v1/campaigns/{campaign}"
    answers = [
        (await api.get(path)).status,
        (await api.patch(path, {"name": "Changed"})).status,
        (await api.delete(path)).status,
    ]

    assert answers == [reads, changes, deletes]
    assert await answer(whole, granted, room) == ("joined" if reads == 200 else "forbidden")
    listed = (await api.get("/v1/campaigns")).body["campaigns"]
    assert [one["id"] for one in listed] == ([campaign] if reads == 200 else [])


@pytest.mark.parametrize(
    ("member_as", "granted", "can_change"),
    [("viewer", "editor", True), ("editor", "viewer", True), ("viewer", "viewer", False)],
)
async def test_higher_of_membership_and_grant_counts(
    whole: Whole, member_as: str, granted: str, can_change: bool
) -> None:
    owner = await whole.sign_up("owner")
    campaign = await whole.campaign(owner)
    alice = token({f"campaign:{campaign}": granted}, email="alice@shop.example", email_verified=True)
    await whole.auth.call("GET", "/auth/me", token=alice)
    body = {"email": "alice@shop.example", "role": member_as}
    added = await whole.auth.call("POST", f"/auth/roots/campaign:{campaign}/members", body, token=owner.token)
    changed = await whole.api(alice).patch(f"/v1/campaigns/{campaign}", {"name": "Changed"})

    assert added.status == 201
    assert changed.status == (200 if can_change else 403)


async def test_refresh_with_a_token_that_grants_less_leaves_rooms_and_one_that_grants_more_can_join(
    whole: Whole, campaign: str
) -> None:
    kept, lost = f"campaign:{campaign}", "campaign:other"
    async with joined(whole, token({kept: "editor", lost: "viewer"}), kept, lost) as client:
        await client.ask("refresh", token=token({kept: "viewer"}))
        changed, left = await client.next("role.changed"), await client.next("room.left")
        refused = await client.ask("subscribe", rooms=[lost])
        await client.ask("refresh", token=token({kept: "viewer", lost: "viewer"}))
        again = await client.ask("subscribe", rooms=[lost])

    assert (left["room"], left["reason"]) == (lost, "membership_removed")
    assert (changed["root"], changed["role"]) == (kept, "viewer")
    assert refused["rooms"][lost]["error"]["code"] == "forbidden"
    assert again["rooms"][lost]["success"]


async def test_permission_of_one_token_is_not_used_for_another_of_the_same_second(whole: Whole, campaign: str) -> None:
    room, now = f"campaign:{campaign}", int(time.time())
    with_grant, without = token({room: "viewer"}, iat=now), token({}, iat=now)

    assert await answer(whole, with_grant, room) == "joined"
    assert await answer(whole, without, room) == "forbidden"
    assert await answer(whole, with_grant, room) == "joined"


async def test_grants_end_with_their_token(whole: Whole, campaign: str) -> None:
    async with joined(whole, token({f"campaign:{campaign}": "viewer"}, ttl_s=1), f"campaign:{campaign}") as client:
        end = await client.closed()

    assert end.code == 4401


async def test_revocation_is_felt_on_open_sockets_and_spares_newer_tokens_and_other_roots(
    whole: Whole, campaign: str
) -> None:
    room, other, now = f"campaign:{campaign}", "campaign:other", int(time.time())
    old = token({room: "viewer", other: "viewer"}, iat=now - 10)
    async with joined(whole, old, room, other) as client:
        await revoke(whole, room, issuedBefore=datetime.fromtimestamp(now - 5, UTC).isoformat())
        left = await client.next("room.left")
        pong = await client.ask("ping")
        again = await client.ask("subscribe", rooms=[room])
        newer = await answer(whole, token({room: "viewer"}, iat=now), room)

    assert (left["room"], left["reason"]) == (room, "membership_removed")
    assert pong["success"]
    assert again["rooms"][room]["error"]["code"] == "forbidden"
    assert [frame["room"] for frame in client.frames if frame["type"] == "room.left"] == [room]
    assert newer == "joined"


async def test_revocation_does_not_end_a_membership(whole: Whole) -> None:
    owner = await whole.sign_up("owner")
    campaign = await whole.campaign(owner)
    room = f"campaign:{campaign}"
    alice = token({room: "editor"}, email="alice@shop.example", email_verified=True)
    await whole.auth.call("GET", "/auth/me", token=alice)
    body = {"email": "alice@shop.example", "role": "viewer"}
    await whole.auth.call("POST", f"/auth/roots/{room}/members", body, token=owner.token)
    async with joined(whole, alice, room) as client:
        await revoke(whole, room)
        changed = await client.next("role.changed")

    assert (changed["root"], changed["role"]) == (room, "viewer")


async def test_revocation_survives_a_restart_of_auth(stream: NatsServer, tmp_path: Path) -> None:
    old = token({"campaign:c1": "viewer"})
    async with running_whole(stream, tmp_path, everywhere=issuers(tmp_path)) as whole:
        assert await answer(whole, old, "campaign:c1") == "joined"
        await revoke(whole, "campaign:c1")
    async with running_whole(stream, tmp_path, everywhere=issuers(tmp_path)) as whole:
        assert await answer(whole, old, "campaign:c1") == "forbidden"


@pytest.mark.parametrize("shown", ["nothing", "another user's", "expired", "signed by a stranger", "too old"])
async def test_broker_password_without_the_users_token_gives_no_grant(
    whole: Whole, stream: NatsServer, shown: str
) -> None:
    """Auth reads grants from the token itself, so a gateway cannot invent them."""
    grants, now = {"campaign:c1": "viewer"}, int(time.time())
    good = token(grants)
    given = {
        "nothing": "",
        "another user's": token(grants, "bob"),
        "expired": token(grants, iat=now - 900, exp=now - 600),
        "signed by a stranger": good[:-8] + "AAAAAAAA",
        "too old": good + "x",
    }[shown]
    async with connected(stream, "gateway") as nc:
        question = AuthorizeRequest(user_id=ALICE, rooms=("campaign:c1",), newcomer=Newcomer(token=good))
        honest = await authorize(nc, question)
        forged = await authorize(nc, question.model_copy(update={"newcomer": Newcomer(token=given)}))

    assert honest.rooms["campaign:c1"].allowed
    assert not forged.rooms["campaign:c1"].allowed


@pytest.mark.parametrize(
    ("change", "grants"),
    [
        ({"grants": {}}, {"campaign:c1": "viewer"}),
        ({"grants": {"campaign:c2": "owner"}}, {"campaign:c1": "viewer"}),
        ({}, {"user:shop-bob": "owner", "user:other": "viewer"}),
        ({"grants": {"settlement:*": "owner"}}, {"settlement:s1": "viewer"}),
        ({}, {"campaign:c1": "boss"}),
    ],
)
async def test_grant_that_the_issuer_may_not_give_opens_nothing(
    stream: NatsServer, tmp_path: Path, change: dict[str, Any], grants: dict[str, str]
) -> None:
    async with running_whole(stream, tmp_path, everywhere=issuers(tmp_path, **change)) as whole:
        for room in grants:
            assert await answer(whole, token(grants), room) == "forbidden"


async def test_grants_are_known_while_the_broker_is_away(whole: Whole, campaign: str, stream: NatsServer) -> None:
    """Auth is asked over HTTP then, with the token itself."""
    room = f"campaign:{campaign}"
    async with joined(whole, token({room: "editor"}), room):
        stream.kill()
        async with asyncio.timeout(20):
            found = await whole.api(token({room: "viewer"})).get(f"/v1/campaigns/{campaign}")
        refused = await whole.api(token({})).get(f"/v1/campaigns/{campaign}")
        stream.start()

    assert found.status == 200
    assert refused.status == 403
