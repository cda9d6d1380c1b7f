"""A browser's own `EventSource`: it comes back by itself, with its cookie and its last id, and misses nothing."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, Page

from beaconfire.nats_server import NatsServer, free_port
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, _auth, _each_transport, on_both_transports, running_gateway, settlement  # noqa: F401
from tests.proxies import proxied
from tests.proxy import Proxy

SCRIPT = """
async ({gateway, token, body}) => {
    window.heard = [];
    window.closes = [];
    const headers = {"Authorization": `Bearer ${token}`, "Content-Type": "application/json"};
    const answer = await fetch(`${gateway}/sse/tickets`, {method: "POST", headers, body: JSON.stringify(body)});
    const {url} = await answer.json();
    window.source = new EventSource(`${gateway}/${url}`, {withCredentials: true});
    source.onmessage = (message) => {
        heard.push(JSON.parse(message.data).offset);
        window.lastId = message.lastEventId;
    };
    source.addEventListener("close", (message) => closes.push(JSON.parse(message.data).code));
    await new Promise((resolve) => source.addEventListener("connection.ack", resolve, {once: true}));
}
"""


@asynccontextmanager
async def window(browser: Browser, address: str) -> AsyncIterator[Page]:
    """A page of an address."""
    context = await browser.new_context(ignore_https_errors=True, bypass_csp=True)
    page = await context.new_page()
    await page.goto(address)
    try:
        yield page
    finally:
        await context.close()


async def listen(page: Page, gateway: str, token: str) -> None:
    """Open an `EventSource` of the campaign, and wait for its ack."""
    await page.evaluate(SCRIPT, {"gateway": gateway, "token": token, "body": {"rooms": ["campaign:c1"]}})


async def heard(page: Page, last: int) -> list[int]:
    """The offsets of all events, once the page has heard the last of them."""
    await page.wait_for_function("(last) => heard.includes(last)", arg=last)
    offsets: list[int] = await page.evaluate("heard")
    return offsets


@on_both_transports
async def test_event_source_comes_back_after_its_gateway_was_replaced_and_hears_every_event_once(
    stream: NatsServer, auth: FakeAuth, chromium: Browser
) -> None:
    """Three times, at the same address. No script of the page does anything."""
    port = free_port()
    offsets = []
    async with running_gateway(stream, auth) as publishing, AsyncExitStack() as stack:
        gateway = AsyncExitStack()
        url = (await gateway.enter_async_context(running_gateway(stream, auth, port=port))).url
        page = await stack.enter_async_context(window(chromium, f"{url}/healthz"))
        await listen(page, url, auth.token("viewer"))
        offsets.append(await publishing.publish(settlement("first")))
        await heard(page, offsets[0])
        for number in range(3):
            await gateway.aclose()
            offsets += [await publishing.publish(settlement(f"s{number}{away}")) for away in range(5)]
            await gateway.enter_async_context(running_gateway(stream, auth, port=port))
            everything = await heard(page, offsets[-1])
            offsets.append(await publishing.publish(settlement(f"live{number}")))
            everything = await heard(page, offsets[-1])
        await page.evaluate("source.close()")
        await gateway.aclose()

    assert everything == offsets


async def test_event_source_of_another_site_comes_back_over_http_2_with_its_cookie(
    tmp_path: Path, stream: NatsServer, auth: FakeAuth, chromium: Browser
) -> None:
    """Through nginx, from a page of another host. The browser sends the cookie although it is a third party's."""
    port = free_port()
    app = f"https://127.0.0.1:{port}"
    async with AsyncExitStack() as stack:
        ends = [AsyncExitStack(), AsyncExitStack()]
        gateways = []
        for end in ends:
            await stack.enter_async_context(end)
            gateways.append(await end.enter_async_context(running_gateway(stream, auth, allowed_origins=app)))
        url = await stack.enter_async_context(proxied("nginx", tmp_path, [one.url for one in gateways], port=port))
        page = await stack.enter_async_context(window(chromium, f"{app}/healthz"))
        await listen(page, url, auth.token("viewer"))
        offsets = [await gateways[0].publish(settlement("first"))]
        await heard(page, offsets[0])
        leaves = 0 if (await gateways[0].stats())["clients"] else 1
        await ends[leaves].aclose()
        offsets += [await gateways[1 - leaves].publish(settlement(f"s{number}")) for number in range(5)]
        everything = await heard(page, offsets[-1])
        protocol = await page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol")
        cookies = await page.context.cookies()
        await page.evaluate("source.close()")

    assert everything == offsets
    assert protocol == "h2"  # of the same proxy
    assert [(cookie["sameSite"], cookie["secure"]) for cookie in cookies] == [("None", True)]


async def test_event_source_behind_a_prefix_of_a_proxy_comes_back_with_its_cookie(
    stream: NatsServer, auth: FakeAuth, chromium: Browser
) -> None:
    """The cookie has no path of its own, so the browser sends it below the prefix that the gateway never sees."""
    port, prefix = free_port(), b"/games/table"
    async with running_gateway(stream, auth) as publishing, AsyncExitStack() as stack:
        gateway = AsyncExitStack()
        await gateway.enter_async_context(running_gateway(stream, auth, port=port))
        proxy = Proxy(port, rewrite=lambda chunk: chunk.replace(b" " + prefix, b" ", 1))
        await stack.enter_async_context(proxy.running())
        url = f"http://127.0.0.1:{proxy.port}{prefix.decode()}"
        page = await stack.enter_async_context(window(chromium, f"{url}/healthz"))
        await listen(page, url, auth.token("viewer"))
        offsets = [await publishing.publish(settlement("first"))]
        await heard(page, offsets[0])
        await gateway.aclose()
        offsets.append(await publishing.publish(settlement("missed")))
        await gateway.enter_async_context(running_gateway(stream, auth, port=port))
        everything = await heard(page, offsets[-1])
        cookies = await page.context.cookies()
        await page.evaluate("source.close()")
        await gateway.aclose()

    assert everything == offsets
    assert [cookie["path"] for cookie in cookies] == ["/games/table/sse"]


async def test_event_source_stops_when_its_token_has_ended(
    stream: NatsServer, auth: FakeAuth, chromium: Browser
) -> None:
    """The stream says why. The next attempt gets 401, after which a browser tries no more."""
    async with running_gateway(stream, auth) as gateway, window(chromium, f"{gateway.url}/healthz") as page:
        await listen(page, gateway.url, auth.token("viewer", ttl_s=2))
        await page.wait_for_function("() => source.readyState === EventSource.CLOSED", timeout=30_000)
        closes = await page.evaluate("closes")

    assert closes == [4401]


async def test_page_cannot_read_the_cookie(stream: NatsServer, auth: FakeAuth, chromium: Browser) -> None:
    async with running_gateway(stream, auth) as gateway, window(chromium, f"{gateway.url}/healthz") as page:
        await listen(page, gateway.url, auth.token("viewer"))
        cookies = await page.context.cookies()
        readable = await page.evaluate("document.cookie")

    assert [cookie["path"] for cookie in cookies] == ["/sse"]
    assert all(cookie["httpOnly"] for cookie in cookies)
    assert readable == ""
