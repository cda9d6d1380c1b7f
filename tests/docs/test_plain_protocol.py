"""The chapter of PROTOCOL.md on the plain protocol: its examples are what gateways accept and send."""

import json
import re
from typing import Any

from beaconfire_gateway.wire.plain import Plain
from tests.architecture.sources import ROOT
from tests.client import SocketClient, open_plain
from tests.gateway.conftest import Gateway, _auth, _gateway  # noqa: F401  (its fixtures)
from tests.gateway.events import raw_publish

CHAPTER = (ROOT / "PROTOCOL.md").read_text().split("\n## 10. ")[1]
LINES = [line for block in re.findall(r"^```json\n(.*?)^```$", CHAPTER, re.M | re.S) for line in block.splitlines()]
EXAMPLES = [json.loads(line) for line in LINES]
REQUESTS = [one for one in EXAMPLES if "userId" not in one]
SENT = {one["type"]: one for one in EXAMPLES if "userId" in one}


def fields(message: dict[str, Any]) -> dict[str, set[str]]:
    """The fields of a message, in the order of the page, and those of its payload."""
    return {"message": set(message), "payload": set(message["payload"])}


def test_examples_of_clients_messages_are_what_the_dialect_reads() -> None:
    read = [Plain(resumes=False).decode(json.dumps(one).encode()) for one in REQUESTS]

    assert [one.TYPE for one in read] == [one["type"].removeprefix("user.") for one in REQUESTS]
    assert {"subscribe", "unsubscribe", "refresh", "ping", "typing", "select"} == {one.TYPE for one in read}


async def test_examples_of_the_gateways_messages_have_the_fields_that_are_sent(gateway: Gateway) -> None:
    gateway.auth.members["viewer"]["workspace:w1"] = "viewer"
    async with open_plain(gateway.url, gateway.auth.token("viewer"), query={"cursor": ""}) as client:
        sent = await provoked(gateway, client)

    assert sent.keys() == SENT.keys()
    assert {type_: fields(one) for type_, one in sent.items()} == {type_: fields(one) for type_, one in SENT.items()}
    event, shown = sent["issue.updated"], SENT["issue.updated"]
    assert {**event, "offset": 42, "cursor": shown["cursor"]} == shown
    assert sent["connection.ack"]["payload"]["limits"] == SENT["connection.ack"]["payload"]["limits"]


async def provoked(gateway: Gateway, client: SocketClient) -> dict[str, dict[str, Any]]:
    """The messages of the page's examples, as a gateway sends them."""
    ack = await client.next("connection.ack")
    await client.socket.send_json({"type": "subscribe", "payload": ["workspace:w1", "workspace:w2"], "id": 1})
    joined = await client.next("subscribe.ack")
    shown = SENT["issue.updated"]
    metadata = {"timestamp": shown["timestamp"], "userId": shown["userId"], "source": "tracker"}
    body = {"id": shown["id"], "type": shown["type"], "version": 1, "payload": shown["payload"], "metadata": metadata}
    await raw_publish(gateway, "workspace.w1.team.t1.issue.i1", json.dumps(body).encode())
    event = await client.next("issue.updated")
    await client.socket.send_json({"type": "wave"})
    error = await client.next("error")
    return {one["type"]: one for one in (ack, joined, event, error)}
