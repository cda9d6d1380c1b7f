"""The program of PROTOCOL.md's chapter on the plain protocol, as it stands there, in a browser."""

import re

from playwright.async_api import Browser

from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.events.tracker import IssueUpdated
from tests.architecture.sources import ROOT
from tests.conftest import connected
from tests.fakes import FakeAuth
from tests.gateway.conftest import _auth, running_gateway

__all__ = ["_auth"]

CHAPTER = (ROOT / "PROTOCOL.md").read_text().split("\n## 10. ")[1]
AROUND = """(token) => {{
    const shown = [];
    let looks = [];
    const show = (payload) => note(payload.changes.status);
    const signIn = () => note("sign in");
    const note = (word) => {{
        shown.push(word);
        looks.splice(0).forEach((look) => look());
    }};
    window.shown = (count) => new Promise((done) => {{
        const look = () => (shown.length >= count ? done(shown) : looks.push(look));
        look();
    }});
    {program}
    connect();
    window.connected = new Promise((done) => {{
        const look = () => (cursor ? done() : setTimeout(look, 10));
        look();
    }});
}}"""


def program() -> str:
    """The page's program, for rooms and an address of this test."""
    found = re.search(r"^```js\n(.*?)^```$", CHAPTER, re.MULTILINE | re.DOTALL)
    assert found is not None
    return (
        found[1]
        .replace("wss://live.example/ws", "ws://${location.host}/ws")
        .replace("team:t1,issue:i1", "workspace:w1/team:t1")
    )


def issue(status: str) -> IssueUpdated:
    return IssueUpdated.model_validate({"workspaceId": "w1", "teamId": "t1", "id": "i1", "changes": {"status": status}})


async def publish(stream: NatsServer, event: IssueUpdated) -> None:
    envelope = Envelope(event, Metadata(source="tracker"))
    async with connected(stream, "publisher") as nc:
        await broker.publish(nc, envelope.subject, envelope.encode(), message_id=envelope.id)


async def test_program_of_the_protocol_page_shows_events_and_resumes_at_a_restarted_gateway(
    stream: NatsServer, auth: FakeAuth, chromium: Browser
) -> None:
    auth.members["viewer"]["workspace:w1"] = "viewer"
    page = await chromium.new_page()
    async with running_gateway(stream, auth) as gateway:
        await page.goto(f"{gateway.url}/healthz")
        await page.evaluate(AROUND.format(program=program()), auth.token("viewer"))
        port = int(gateway.url.rpartition(":")[2])
        await page.evaluate("window.connected")
        await publish(stream, issue("begun"))
        await page.evaluate("window.shown(1)")
    await publish(stream, issue("done"))
    async with running_gateway(stream, auth, port=port):
        await page.evaluate("window.shown(2)")
        await publish(stream, issue("checked"))
        shown = await page.evaluate("window.shown(3)")
    await page.close()

    assert shown == ["begun", "done", "checked"]


async def test_program_of_the_protocol_page_asks_for_another_token_when_its_own_is_invalid(
    stream: NatsServer, auth: FakeAuth, chromium: Browser
) -> None:
    async with running_gateway(stream, auth) as gateway:
        page = await chromium.new_page()
        await page.goto(f"{gateway.url}/healthz")
        await page.evaluate(AROUND.format(program=program()), "nonsense")
        shown = await page.evaluate("window.shown(1)")
        await page.close()

    assert shown == ["sign in"]
