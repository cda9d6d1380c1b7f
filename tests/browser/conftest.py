"""The whole set with the demo's people, and a browser in which each of them has a window."""

import json
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    Page,
    ViewportSize,
    WebSocket,
    async_playwright,
    expect,
)

from beaconfire import demo
from beaconfire.api import call
from beaconfire.local_services import Plan, Services
from tests.browser.firefox import Firefox
from tests.browser.tabs import ChromiumTab, Tab
from tests.forked import all_running

LAPTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")

# Pauses between attempts are random; without any, ten attempts are over in a moment.
NO_PAUSES = "Math.random = () => 0;"


@dataclass  # no slots: Playwright keeps its wrapper of a handler on the handler's object
class Window:
    """One person's window: its page, and everything that went wrong in it."""

    page: Page
    context: BrowserContext
    troubles: list[str] = field(default_factory=list)
    debug_lines: list[str] = field(default_factory=list)
    sockets: list[WebSocket] = field(default_factory=list)
    sent: list[dict[str, Any]] = field(default_factory=list)
    """The messages of all sockets, oldest first."""

    def note_error(self, error: Error) -> None:
        self.troubles.append(str(error))

    def note_message(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.troubles.append(message.text)

        if message.type == "debug":
            self.debug_lines.append(message.text)

    def note_socket(self, socket: WebSocket) -> None:
        self.sockets.append(socket)
        if "/socket.io/" not in socket.url:  # its frames are no messages
            socket.on("framesent", lambda text: self.sent.append(json.loads(text)))

    def sent_of(self, kind: str) -> list[dict[str, Any]]:
        """Return the sent messages of one type."""
        return [message for message in self.sent if message["type"] == kind]

    async def sign_in(self, name: str) -> None:
        """Be one of the demo's people."""
        await self.page.locator(".person").filter(has_text=name).click()
        await expect(self.page.locator("#account")).to_contain_text(name)

    async def open_campaign(self) -> None:
        """From the list into the demo's campaign, and wait until it is heard."""
        await self.page.get_by_role("link", name=demo.campaign.CAMPAIGN).click()
        await expect(self.page.get_by_role("heading", name="Emberford")).to_be_visible()


class Table:
    """The services with the demo, and the windows of its users."""

    def __init__(self, services: Services, campaign: str, browser: Browser | None = None) -> None:
        """Without a browser there are no windows: the test opens tabs of its own."""
        self.services = services
        self.campaign = campaign
        self._browser = browser

    @property
    def url(self) -> str:
        return f"{self.services.gateways[0].url}/"

    @property
    def room(self) -> str:
        return f"campaign:{self.campaign}"

    @property
    def campaign_url(self) -> str:
        return f"{self.services.publisher_url}/v1/campaigns/{self.campaign}"

    @property
    def members_url(self) -> str:
        return f"{self.services.auth_url}/auth/roots/campaign:{self.campaign}/members"

    def token(self, name: str) -> str:
        """An access token of one of the demo's people."""
        credentials = {"email": f"{name.lower()}@demo.example", "password": demo.PASSWORD}
        return str(call("POST", f"{self.services.auth_url}/auth/sign-in", credentials)["accessToken"])

    async def window(self, *, viewport: ViewportSize = LAPTOP, script: str = "", query: str = "") -> Window:
        """Open a separate window, as on another computer, without a user signed in."""
        assert self._browser is not None
        context = await self._browser.new_context(viewport=viewport, locale="en-GB")
        context.set_default_timeout(10_000)
        page = await context.new_page()
        window = Window(page, context)
        page.on("pageerror", window.note_error)
        page.on("console", window.note_message)
        page.on("websocket", window.note_socket)
        if script:
            await page.add_init_script(script)
        await page.goto(self.url + query)
        return window

    async def seat(self, name: str, *, viewport: ViewportSize = LAPTOP, script: str = "") -> Window:
        """A window of one of the demo's people, in the campaign."""
        window = await self.window(viewport=viewport, script=script)
        await window.sign_in(name)
        await window.open_campaign()
        return window


@pytest.fixture(name="demo_services", scope="module")
def _demo_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The whole set, its page offering the demo's people."""
    people = [person.sign_in() for person in demo.PEOPLE]
    with all_running(Plan(tmp_path_factory.mktemp("table"), gateways=1, people=people)) as whole:
        yield whole


@pytest.fixture(name="demo_campaign", scope="module")
def _demo_campaign(demo_services: Services) -> str:
    """The demo's campaign. A test that removes a member adds it again."""
    return dict(demo.seed_all(demo_services))["campaign"]


def chromium_executable() -> str:
    """The program that `make browser` installs."""
    executable = next(filter(None, map(shutil.which, CHROMIUM)), None)
    assert executable, "Chromium is missing: `make browser` installs it"
    return executable


@asynccontextmanager
async def _running_chromium() -> AsyncIterator[Browser]:
    executable = chromium_executable()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        expect.set_options(timeout=10_000)
        yield browser
        await browser.close()


@pytest.fixture(name="chromium")
async def _chromium() -> AsyncIterator[Browser]:
    """A browser without a window open."""
    async with _running_chromium() as browser:
        yield browser


@pytest.fixture(name="firefox", scope="session")
def _firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    """Firefox, which starts when it is used first."""
    firefox = Firefox(tmp_path_factory.mktemp("firefox"))
    yield firefox
    firefox.kill()


@pytest.fixture(name="tab")
async def _tab(request: pytest.FixtureRequest, firefox: Firefox) -> AsyncIterator[Tab]:
    """A tab of the browser that the test names as its parameter: `chromium`, `phone` or `firefox`."""
    if request.param == "firefox":
        async with firefox.tab(**LAPTOP) as tab:
            yield tab
        return
    is_phone = request.param == "phone"
    viewport = PHONE if is_phone else LAPTOP
    async with (
        _running_chromium() as browser,
        ChromiumTab.opened(browser, viewport=viewport, has_touch=is_phone, is_mobile=is_phone) as chromium_tab,
    ):
        yield chromium_tab


@pytest.fixture(name="table")
async def _table(demo_services: Services, demo_campaign: str, chromium: Browser) -> Table:
    """The table, ready to sit down at."""
    return Table(demo_services, demo_campaign, chromium)
