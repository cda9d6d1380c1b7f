"""T8: a room that is named without its root stays with its root, even if others publish events for its id."""

from pathlib import Path
from typing import Any

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.process.app import Tuning
from beaconfire_gateway.sessions.authorization import AskingPolicy
from tests.client import SocketClient, open_socket
from tests.people import Person
from tests.security.whole import Whole, running_whole


async def publish(whole: Whole, person: Person, campaign: str, settlement: str, correlation: str) -> None:
    """Publish an event of a settlement in a campaign of their own."""
    payload = {"campaignId": campaign, "settlementId": settlement, "operation": "update", "changedFields": ["level"]}
    answer = await whole.api(person.token).post(
        "/v1/events", {"type": "settlement_updated", "payload": payload}, X_Correlation_Id=correlation
    )
    assert answer.status == 201, answer


async def invite(whole: Whole, owner: Person, campaign: str, person: Person) -> None:
    body = {"email": person.email, "role": "viewer"}
    answer = await whole.auth.call("POST", f"/auth/roots/campaign:{campaign}/members", body, token=owner.token)
    assert answer.status == 201, answer


async def joined(client: SocketClient, room: str) -> dict[str, Any]:
    """Ask for a room until auth has learnt it; the answer."""
    while True:
        answer: dict[str, Any] = (await client.ask("subscribe", rooms=[room]))["rooms"][room]
        if answer["success"] or answer["error"]["code"] != "forbidden":
            return answer


async def correlation_of_next(client: SocketClient) -> str:
    return str((await client.next("event"))["event"]["metadata"]["correlationId"])


async def test_stranger_cannot_take_over_a_bare_room(stream: NatsServer, tmp_path: Path) -> None:
    """T8: a stranger invites the victim and publishes an event for the same id.

    The victim is in the bare room, and still hears only the true root, also after its lease was renewed. The bare name
    is now refused with both long forms, and the long form works.
    """
    tuning = Tuning(asking=AskingPolicy(renew_after_s=0.0, renew_every_s=0.05))
    limits = ("rooms_per_minute", "messages_per_minute")
    roomy = {f"{limit}{of}": 100_000 for limit in limits for of in ("", "_per_user")}
    async with (
        running_whole(stream, tmp_path, everywhere=roomy, tuning=tuning) as whole,
        open_socket(whole.gateways[0].url) as client,
    ):
        owner, stranger, victim = [await whole.sign_up(name) for name in ("owner", "stranger", "victim")]
        mine, theirs = await whole.campaign(owner), await whole.campaign(stranger)
        await invite(whole, owner, mine, victim)
        await publish(whole, owner, mine, "s1", "true-1")
        await client.connect(victim.token)
        first = await joined(client, "settlement:s1")
        await invite(whole, stranger, theirs, victim)
        await publish(whole, stranger, theirs, "s1", "forged-1")
        async with open_socket(whole.gateways[0].url) as other:
            await other.connect(victim.token)
            assert (await joined(other, f"campaign:{theirs}/settlement:s1"))["success"]
            while (refused := await joined(other, "settlement:s1"))["success"]:
                await other.ask("unsubscribe", rooms=["settlement:s1"])  # until auth has learnt the stranger's
            long = await joined(other, f"campaign:{mine}/settlement:s1")
        await publish(whole, owner, mine, "s1", "true-2")
        heard = [await correlation_of_next(client)]
        while heard[-1] != "true-2":
            heard.append(await correlation_of_next(client))

    assert first == {"success": True, "room": f"campaign:{mine}/settlement:s1"}
    assert refused["error"]["code"] == "bad_room"
    assert f"campaign:{mine}/settlement:s1" in refused["error"]["message"]
    assert f"campaign:{theirs}/settlement:s1" in refused["error"]["message"]
    assert long["success"]
    assert set(heard) <= {"true-1", "true-2"}
    assert [frame for frame in client.frames if frame["type"] == "room.left"] == []
