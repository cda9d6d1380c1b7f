"""The admin page in a browser, with two gateways, auth, the publisher and the broker."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, Page, ViewportSize, expect

from beaconfire import demo
from beaconfire.api import call
from beaconfire.local_services import Plan, Services
from beaconfire.nats_server import free_port
from beaconfire_kit import broker
from beaconfire_kit.catalogue_store import CatalogueStore
from tests.admin_page import READER, admin_page, of_services
from tests.browser.conftest import PHONE, Window, _chromium
from tests.browser.looks import FAINT, WIDTHS, are_pictures_kept, overflow_of, picture, small_targets
from tests.client import SocketClient, open_socket
from tests.conftest import connected
from tests.forked import all_running
from tests.gateway.catalogues import siege
from tests.gateway.events import BODY

__all__ = ["_chromium"]

HARM = "<img src=x onerror='window.harmed=1'>"
VIEWS = ("overview", "sessions", "rooms", "events", "letters", "outboxes", "keys")


@pytest.fixture(name="demo_services", scope="module")
def _demo_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with all_running(Plan(tmp_path_factory.mktemp("admin"), gateways=2)) as whole:
        yield whole


@pytest.fixture(name="campaign", scope="module")
def _campaign(demo_services: Services) -> str:
    return dict(demo.seed_all(demo_services))["campaign"]


@asynccontextmanager
async def opened(
    browser: Browser,
    services: Services,
    *,
    viewport: ViewportSize | None = None,
    gateways: Sequence[str] = (),
    every_s: float = 1.0,
) -> AsyncIterator[Window]:
    """A window with the admin page, without a token. It also asks `gateways`, which do not run."""
    context = await browser.new_context(viewport=viewport, locale="en-GB")
    context.set_default_timeout(10_000)
    page = await context.new_page()
    window = Window(page, context)
    page.on("pageerror", window.note_error)
    page.on("console", window.note_message)
    async with admin_page(services.nats, every_s=every_s, **of_services(services, others=gateways)) as url:
        await page.goto(url)
        yield window
        await context.close()


async def enter(window: Window, services: Services) -> None:
    """Sign in with the address that `beaconfire admin` prints."""
    await window.page.evaluate(f"location.hash = '#token={services.operator_token}'")
    await expect(window.page.get_by_text("may act")).to_be_visible()


async def go(window: Window, view: str) -> None:
    await window.page.get_by_role("link", name=view, exact=True).click()
    await expect(window.page.get_by_role("heading", name=view, exact=True)).to_be_visible()


@asynccontextmanager
async def listener(services: Services, gateway: int, campaign: str, name: str) -> AsyncIterator[SocketClient]:
    """A client of a gateway, in the room of the campaign."""
    credentials = {"email": f"{name}@demo.example", "password": demo.PASSWORD}
    token = call("POST", f"{services.auth_url}/auth/sign-in", credentials)["accessToken"]
    async with open_socket(services.gateways[gateway].url) as client:
        await client.connect(token, [f"campaign:{campaign}"])
        yield client


async def begin_siege(services: Services, campaign: str, event_id: str) -> None:
    """Publish an event of a type that the catalogue does not have at first, with a hostile text."""
    body = {**BODY, "id": event_id, "type": "siege.begun", "payload": {"force": 1, "note": HARM}}
    async with connected(services.nats, "publisher") as nc:
        await broker.publish(nc, f"campaign.{campaign}.siege.x1", json.dumps(body).encode(), message_id=event_id)


async def test_operator_finds_sessions_disconnects_one_and_replays_or_drops_dead_letters(
    demo_services: Services, campaign: str, chromium: Browser
) -> None:
    """Texts of clients and publishers are shown as text."""
    services, room = demo_services, f"campaign:{campaign}"
    async with (
        opened(chromium, services) as window,
        listener(services, 0, campaign, "owner") as owner,
        listener(services, 1, campaign, "viewer") as viewer,
    ):
        page = window.page
        await begin_siege(services, campaign, "e1")
        await enter(window, services)
        assert "token" not in page.url
        await expect(page.get_by_text("Everything answers and is ready.")).to_be_visible()
        await expect(page.get_by_role("table", name="Gateways").get_by_role("row")).to_have_count(3)

        await go(window, "Rooms")
        await expect(page.get_by_role("row", name=room)).to_contain_text("2")
        await page.get_by_role("link", name=room).click()
        await expect(page.get_by_text("2 sessions.")).to_be_visible()
        await page.get_by_label("User").fill("viewer@demo.example")
        await page.get_by_role("button", name="Find").click()
        await expect(page.get_by_text("1 session.")).to_be_visible()
        await page.get_by_role("button", name="Reset the user's limits").click()
        await page.get_by_role("button", name="Really reset them").click()
        await expect(page.get_by_text("start from zero, for 1 client.")).to_be_visible()
        row = page.get_by_role("row", name=viewer.ack["sessionId"])
        await row.get_by_text("1", exact=True).click()
        await expect(row.get_by_text("viewer")).to_be_visible()
        await row.get_by_role("button", name="Reset limits").click()
        await row.get_by_role("button", name="Really reset").click()
        await expect(page.get_by_text("of this client and its user start from zero")).to_be_visible()
        await row.get_by_role("button", name="Disconnect").click()
        await row.get_by_role("button", name="Really disconnect").click()
        assert (await viewer.closed()).code == 4503
        await expect(page.get_by_text("No session matches.")).to_be_visible()

        await go(window, "Dead letters")
        await page.get_by_role("button", name="Replay dead letter 1").click()
        await expect(page.get_by_text("0 replayed, 1 not.")).to_be_visible()
        await expect(page.get_by_text("still invalid")).to_be_visible()
        async with connected(services.nats, "catalogue") as nc:
            await CatalogueStore(nc).push([siege()], by="test")
        await page.get_by_role("button", name="Replay all").click()
        await page.get_by_role("button", name="Really replay all").click()
        await expect(page.get_by_text("1 replayed, 0 not.")).to_be_visible()
        await expect(page.get_by_text("There are no dead letters.")).to_be_visible()
        assert (await owner.next("event"))["event"]["type"] == "siege.begun"
        async with connected(services.nats, "publisher") as nc:
            for number in range(2):
                await broker.publish(nc, f"campaign.{campaign}.siege.x1", b"garbage", message_id=f"garbage-{number}")
        await page.get_by_role("button", name="Drop dead letter").first.click()
        await page.get_by_label("Why do you drop dead letter").fill("sent by a test")
        await page.get_by_role("button", name="Drop", exact=True).and_(page.locator(".danger")).click()
        await expect(page.get_by_text("1 dropped, 0 not.")).to_be_visible()
        await page.get_by_role("button", name="Drop all").click()
        await page.get_by_label("Why do you drop all dead letters?").fill("sent by a test")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("There are no dead letters.")).to_be_visible()

        await page.goto(f"{page.url.partition('#')[0]}#/events?room={room}&type=siege.begun")
        await expect(page.get_by_text("live", exact=True)).to_be_visible()
        await begin_siege(services, campaign, "e2")
        entry = page.get_by_role("listitem").filter(has_text="siege.begun")
        await entry.locator("summary").click()
        await expect(entry.locator("pre")).to_contain_text(HARM)
        assert await page.evaluate("window.harmed") is None
        assert window.troubles == []


async def test_reader_sees_everything_and_no_button_that_acts_and_a_missing_gateway_is_named(
    demo_services: Services, campaign: str, chromium: Browser
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    async with (
        opened(chromium, demo_services, gateways=[nobody]) as window,
        listener(demo_services, 0, campaign, "owner") as owner,
    ):
        page = window.page
        await page.get_by_label("Token").fill("not that one")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_text("This token is missing or wrong.")).to_be_visible()
        await page.get_by_label("Token").fill(READER)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_text("read only")).to_be_visible()
        await expect(page.get_by_text(f"{nobody} does not answer")).to_be_visible()
        await go(window, "Sessions")
        await expect(page.get_by_role("row", name=owner.ack["sessionId"])).to_be_visible()
        assert await page.get_by_role("button", name="Disconnect").count() == 0
        await go(window, "Keys")
        await expect(page.get_by_role("table", name="Signing keys")).to_contain_text("signing")
        await go(window, "Outboxes")
        await expect(page.get_by_role("heading", name="publisher")).to_be_visible()
        await page.reload()
        await expect(page.get_by_text("read only")).to_be_visible()
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_label("Token")).to_be_visible()
        assert [one for one in window.troubles if "401" not in one] == []


@WIDTHS
async def test_admin_page_fits_the_window_and_its_controls_are_large_enough_for_a_thumb(
    demo_services: Services, campaign: str, chromium: Browser, viewport: ViewportSize, request: pytest.FixtureRequest
) -> None:
    async with (
        opened(chromium, demo_services, viewport=viewport, every_s=0.5) as window,
        listener(demo_services, 0, campaign, "owner"),
        listener(demo_services, 1, campaign, "editor"),
    ):
        page = window.page
        async with connected(demo_services.nats, "publisher") as nc:
            await nc.publish(f"campaign.{campaign}.siege.x1", b"garbage")
        await enter(window, demo_services)
        if are_pictures_kept():
            await make_traffic(demo_services, campaign)
            for view in ("letters", "sessions", "overview"):
                await show(page, view)
                await picture(page, request, f"admin-{view}")
        await page.emulate_media(color_scheme="dark" if viewport == PHONE else "light")
        found = {}
        for view in VIEWS:
            await show(page, view)
            small = await small_targets(page) if viewport == PHONE else []
            found[view] = (await overflow_of(page) <= 0, small, await page.evaluate(FAINT))

    assert found == dict.fromkeys(VIEWS, (True, [], []))


async def show(page: Page, view: str) -> None:
    """Open a view, and wait until it has its data."""
    await page.evaluate(f"location.hash = '#/{view}'")
    await expect(page.locator("main h1")).to_be_visible()
    await expect(page.locator(".loading")).to_have_count(0)


async def make_traffic(services: Services, campaign: str) -> None:
    """Fill the charts of a picture."""
    async with connected(services.nats, "publisher") as nc:
        for number in range(450):
            body = {**BODY, "id": f"t{number}", "payload": {**BODY["payload"], "campaignId": campaign}}
            subject = f"campaign.{campaign}.settlement.s1"
            for copy in range(1 + round(4 + 3 * math.sin(number / 25))):
                body["id"] = f"t{number}-{copy}"
                await nc.publish(subject, json.dumps(body).encode())
            await asyncio.sleep(0.05)
