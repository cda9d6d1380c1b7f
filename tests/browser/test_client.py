"""The browser client in a real browser, over a real socket."""

import asyncio
import json

from playwright.async_api import expect

from beaconfire.api import call
from tests.browser.conftest import Table, Window
from tests.browser.recording import UNTIL_HEARD
from tests.cursors import cursor_of

# As a React component in StrictMode: mounted, unmounted and mounted again in one turn.
MOUNT_TWICE = """async (room) => {
    const { Client } = await import("/client/index.js");
    const { accessToken } = JSON.parse(sessionStorage.getItem("beaconfire-session"));
    const url = location.origin.replace(/^http/, "ws") + "/ws";
    window.heard = [];
    // What the rules engine makes of a change arrives when it does; this is about the changes.
    const hear = (word) => (event) => event.type === "settlement_updated" && window.heard.push(word);
    window.sent = [];
    class Recorded extends WebSocket {
        send(text) {
            window.sent.push(JSON.parse(text).type);
            super.send(text);
        }
    }
    const client = window.second = new Client({ url, getToken: async () => accessToken, WebSocket: Recorded });
    await new Promise((resolve) => {
        client.on("state", ({ state }) => state === "connected" && resolve());
        client.connect();
    });
    await new Promise((onReady) => client.subscribe(room, { onReady, onEvent: hear("first") }));
    const again = client.subscribe(room, { onEvent: hear("second") });
    again.unsubscribe();
    const last = client.subscribe(room, { onEvent: hear("old handler") });
    last.setHandlers({ onEvent: hear("new handler") });
}"""
# Not wait_for_function: it evaluates text, which the page's Content-Security-Policy forbids.
# A client that goes on after a reload from where it was; it says what it has heard.
RESUME = """async ([room, user]) => {
    const { Client } = await import("/client/index.js");
    const { keepCursor } = await import("/client/storage.js");
    const { accessToken } = JSON.parse(sessionStorage.getItem("beaconfire-session"));
    const url = location.origin.replace(/^http/, "ws") + "/ws";
    const heard = (window.heard = []);
    const storage = keepCursor("session", { url, user });
    const client = new Client({ url, getToken: async () => accessToken, storage });
    await new Promise((onReady) => {
        const onEvent = (event) => heard.push(event.id);
        client.subscribe(room, { onReady, onEvent }, { types: ["settlement_updated"] });
        client.connect();
    });
}"""
SEEN = """async ([room, place, level]) => {
    const { Client } = await import("/client/index.js");
    const { accessToken } = JSON.parse(sessionStorage.getItem("beaconfire-session"));
    const url = location.origin.replace(/^http/, "ws") + "/ws";
    const client = new Client({ url, getToken: async () => accessToken });
    const heard = [];
    const onEvent = (event) => heard.push(event.id);
    await new Promise((onReady) => (client.subscribe(room, { onReady, onEvent }), client.connect()));
    const headers = { Authorization: `Bearer ${accessToken}`, "Content-Type": "application/json" };
    const answer = await fetch(place, { method: "PATCH", headers, body: JSON.stringify({ level }) });
    await client.seen(answer.headers.get("X-Beaconfire-Offset") ?? answer.headers.get("X-Beaconfire-Pending"));
    const count = heard.length;
    client.close();
    return [count, await client.seen("e:1").catch((error) => error.code)];
}"""
HUNDRED = """async (rooms) => {
    const { Client } = await import("/client/index.js");
    const { accessToken } = JSON.parse(sessionStorage.getItem("beaconfire-session"));
    const url = location.origin.replace(/^http/, "ws") + "/ws";
    const client = new Client({ url, getToken: async () => accessToken });
    window.heard = [];
    window.errors = [];
    const types = ["settlement_updated", "structure_updated", "state_invalidated"];
    const joined = rooms.map((room) => new Promise((onReady) => {
        const onEvent = ({ type }) => type === "settlement_updated" && window.heard.push(room);
        client.subscribe(room, { onReady, onEvent, onError: (error) => window.errors.push(error) }, { types });
    }));
    client.on("state", ({ error }) => error && window.errors.push(error));
    client.connect();
    await Promise.all(joined);
}"""
# What asks for rooms after the ack cannot be loaded at first.
NOT_LOADED = """async ([room, accessToken]) => {
    const { Client } = await import("/client/index.js");
    const url = location.origin.replace(/^http/, "ws") + "/ws";
    const problems = (window.problems = []);
    const onError = ({ kind, error }) => problems.push(`${kind}: ${error.message}`);
    const client = new Client({ url, getToken: () => accessToken, onError, random: () => 0.05 });
    await new Promise((resolve) => {
        client.on("state", ({ state }) => state === "connected" && resolve());
        client.connect();
    });
    window.subscription = client.subscribe(room);
}"""
UNTIL_STATUS = """(state) => new Promise((resolve) => {
    const { status } = window.subscription;
    const look = () => status.getSnapshot().state === state && resolve(status.getSnapshot());
    status.subscribe(look);
    look();
})"""
ONE_BY_ONE = """async (campaign) => {
    const { Client } = await import("/client/index.js");
    const { accessToken } = JSON.parse(sessionStorage.getItem("beaconfire-session"));
    const url = location.origin.replace(/^http/, "ws") + "/ws";
    const client = new Client({ url, getToken: async () => accessToken });
    client.connect();
    const join = (name) => new Promise((resolve) => {
        const one = client.subscribe(`${campaign}/settlement:${name}`, { onReady: () => resolve(one) });
    });
    const joined = [];
    for (let number = 0; number < 60; number++) joined.push(await join(`a${number}`));
    for (const one of joined) {
        one.unsubscribe();
        await new Promise((resolve) => setTimeout(resolve));
    }
    const others = await Promise.all(Array.from({ length: 100 }, (_, number) => join(`b${number}`)));
    client.close();
    return others.length;
}"""
USER = "() => JSON.parse(sessionStorage.getItem('beaconfire-session')).user.id"
RAISE = "Raise the level of Emberford"


async def test_page_has_one_socket_from_sign_in_to_sign_out(table: Table) -> None:
    owner = await table.window()
    assert owner.sockets == []
    await owner.sign_in("Owner")
    for _ in range(3):
        await owner.open_campaign()
        await owner.page.get_by_role("link", name="Campaigns").click()
    assert len(owner.sockets) == 1

    await owner.page.get_by_role("button", name="Sign out").click()
    await expect(owner.page.get_by_role("heading", name="Continue as")).to_be_visible()
    await _until_closed(owner)


async def test_subscriptions_to_one_room_share_it_on_the_wire_and_hear_each_event_once(table: Table) -> None:
    owner = await table.seat("Owner")
    await owner.page.evaluate(MOUNT_TWICE, f"campaign:{table.campaign}")
    await owner.page.get_by_role("button", name=RAISE).click()
    await owner.page.evaluate(UNTIL_HEARD, 2)
    await owner.page.get_by_role("button", name=RAISE).click()
    await owner.page.evaluate(UNTIL_HEARD, 4)

    assert await owner.page.evaluate("window.heard") == ["first", "new handler"] * 2
    assert await owner.page.evaluate("window.sent") == ["connect", "subscribe"]


async def test_reconnecting_client_restores_rooms_and_cursor_in_connect_alone(table: Table) -> None:
    owner = await table.seat("Owner")
    gateway = table.services.gateways[0]
    await owner.page.get_by_role("button", name=RAISE).click()
    await expect(owner.page.locator(".entry-text")).to_have_count(1)
    before = len(owner.sent_of("subscribe"))

    gateway.kill()
    gateway.start()
    await expect(owner.page.locator("#connection")).to_have_text("Connected", use_inner_text=True, timeout=40_000)
    await owner.page.get_by_role("button", name=RAISE).click()
    await expect(owner.page.locator(".entry-text")).to_have_count(2)

    connect = owner.sent_of("connect")[-1]
    assert connect["rooms"] == [f"campaign:{table.campaign}"]
    assert cursor_of(connect["cursor"]).offset > 0
    assert len(owner.sent_of("subscribe")) == before


async def test_page_with_storage_resumes_after_a_reload_without_loss_or_repetition(table: Table) -> None:
    owner = await table.seat("Owner")
    room, user = f"campaign:{table.campaign}", await owner.page.evaluate(USER)
    await owner.page.evaluate(RESUME, [room, user])
    for count in (1, 2):
        await owner.page.get_by_role("button", name=RAISE).click()
        await owner.page.evaluate(UNTIL_HEARD, count)
    before = await owner.page.evaluate("window.heard")

    await owner.page.reload()
    await owner.page.get_by_role("button", name=RAISE).click()
    await expect(owner.page.locator(".entry-text")).to_have_count(3)
    await owner.page.evaluate(RESUME, [room, user])
    await owner.page.evaluate(UNTIL_HEARD, 1)

    after = await owner.page.evaluate("window.heard")
    assert len(after) == 1
    assert after[0] not in before


async def test_hundred_rooms_with_long_names_and_types_are_restored_after_a_lost_connection(table: Table) -> None:
    owner = await table.seat("Owner")
    gateway, token = table.services.gateways[0], table.token("Owner")
    url = f"{table.campaign_url}/settlements"
    settlements = [one["id"] for one in call("GET", url, token=token)["settlements"]]
    others = [f"{number}".rjust(60, "s") for number in range(100 - len(settlements))]
    # Last, so that they are among those that do not fit into `connect`.
    rooms = [f"campaign:{table.campaign}/settlement:{one}" for one in [*others, *settlements]]

    await owner.page.evaluate(HUNDRED, rooms)
    gateway.kill()
    for one in settlements:
        call("PATCH", f"{url}/{one}", {"population": 1}, token=token)
        call("PATCH", f"{url}/{one}", {"population": 2}, token=token)
    gateway.start()
    await owner.page.evaluate(UNTIL_HEARD, 2 * len(settlements))

    assert sorted(await owner.page.evaluate("window.heard")) == sorted(rooms[-len(settlements) :] * 2)
    assert await owner.page.evaluate("window.errors") == []


async def test_joining_and_leaving_sixty_rooms_one_by_one_strands_none(table: Table) -> None:
    """A hundred other rooms can be joined after that."""
    owner = await table.seat("Owner")

    assert await owner.page.evaluate(ONE_BY_ONE, f"campaign:{table.campaign}") == 100


async def test_room_says_why_it_is_not_joined_if_a_module_does_not_load_and_is_joined_once_it_does(
    table: Table,
) -> None:
    """This is how it is in Chromium. Firefox does not load a module again that has failed once (docs/adr/0070)."""
    page = (await table.window()).page
    await page.route("**/requests.js", lambda route: route.abort())
    await page.evaluate(NOT_LOADED, [table.room, await asyncio.to_thread(table.token, "Owner")])
    status = await page.evaluate(UNTIL_STATUS, "retrying")
    await page.unroute("**/requests.js")
    await page.evaluate(UNTIL_STATUS, "joined")

    assert status["error"]["code"] == "unavailable"
    assert "requests.js" in status["error"]["message"]
    assert (await page.evaluate("window.problems"))[0].startswith("room: ")


async def test_seen_resolves_once_the_handlers_got_the_event_and_rejects_after_close(table: Table) -> None:
    owner = await table.seat("Owner")
    room = f"campaign:{table.campaign}"
    settlement = await owner.page.get_by_role("article", name="Emberford").get_attribute("data-key")
    url = f"{table.campaign_url}/settlements/{settlement}"

    count, refusal = await owner.page.evaluate(SEEN, [room, url, 77])

    assert count >= 1
    assert refusal == "closed"


async def test_page_reconnects_when_its_gateway_does_not_answer_within_five_seconds_after_sleep(table: Table) -> None:
    viewer = await table.seat("Viewer")
    process, light = table.services.gateways[0].process, viewer.page.locator("#connection")
    await expect(light).to_be_hidden()

    process.freeze()
    await viewer.page.evaluate("dispatchEvent(new Event('pageshow'))")
    await expect(light).to_contain_text("Reconnecting", timeout=8000)
    process.thaw()

    await expect(light).to_have_text("Connected", use_inner_text=True, timeout=40_000)
    assert [message["type"] for message in viewer.sent].count("ping") >= 1


async def test_debug_flag_logs_every_frame_and_no_token(table: Table) -> None:
    loud, quiet = await table.window(query="?debug"), await table.seat("Viewer")
    await loud.sign_in("Viewer")
    await loud.open_campaign()
    kept = json.loads(await loud.page.evaluate("sessionStorage.getItem('beaconfire-session')"))
    lines = "\n".join(loud.debug_lines)

    assert "connection.ack" in lines
    assert "(hidden)" in lines
    assert kept["accessToken"] not in lines
    assert quiet.debug_lines == []


async def _until_closed(window: Window) -> None:
    for socket in window.sockets:
        if not socket.is_closed():
            await socket.wait_for_event("close")
