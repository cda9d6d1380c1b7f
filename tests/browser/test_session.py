"""Staying signed in: lost answers, windows with old tokens, and browsers without locks or storage."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page, Request, Route, async_playwright, expect

from beaconfire import demo
from beaconfire.local_services import Plan, Services
from beaconfire.nats_server import free_port
from tests.browser.conftest import ARGUMENTS, CHROMIUM, Table, Window
from tests.forked import all_running

NAME = "beaconfire.test"
"""A host that is this machine for one test's browser: plain HTTP by name has no locks and no cryptography."""
KEPT = "sessionStorage.getItem('beaconfire-session')"
OUTDATE = """() => {
    const session = JSON.parse(sessionStorage.getItem("beaconfire-session"));
    sessionStorage.setItem("beaconfire-session", JSON.stringify({ ...session, renewAt: 0 }));
}"""
RESTORE = "(kept) => sessionStorage.setItem('beaconfire-session', kept)"
AGE_NEWEST = """() => Object.keys(localStorage).forEach((key) =>
    localStorage.setItem(key, JSON.stringify({ ...JSON.parse(localStorage.getItem(key)), at: 0 })))"""
"""The newest tokens look as if they were written long ago."""
FAST = """
    const later = window.setTimeout;
    AbortSignal.timeout = (ms) => {
        const controller = new AbortController();
        later(() => controller.abort(), ms / 10);
        return controller.signal;
    };
"""
"""A page whose requests are given up ten times as soon."""
NO_LOCKS = "delete Navigator.prototype.locks;"


@pytest.fixture(name="demo_services", scope="module")
def _demo_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The whole set; its page may also be opened by a name."""
    port = free_port()
    people = [person.sign_in() for person in demo.PEOPLE]
    plan = Plan(
        tmp_path_factory.mktemp("session"),
        gateway_port=port,
        origins=(f"http://{NAME}:{port}",),
        people=people,
    )
    with all_running(plan) as whole:
        yield whole


@pytest.fixture(name="blocked")
async def _blocked(tmp_path: Path) -> AsyncIterator[BrowserContext]:
    """A browser whose user has blocked cookies: every use of storage and of locks throws."""
    preferences = tmp_path / "Default" / "Preferences"
    preferences.parent.mkdir()
    preferences.write_text(json.dumps({"profile": {"default_content_setting_values": {"cookies": 2}}}))
    executable = next(filter(None, map(shutil.which, CHROMIUM)), None)
    async with async_playwright() as playwright:
        start = playwright.chromium.launch_persistent_context
        context = await start(tmp_path, executable_path=executable, args=list(ARGUMENTS), locale="en-GB")
        expect.set_options(timeout=10_000)
        yield context
        await context.close()


class Refreshes:
    """The requests of a page to `/auth/refresh`. Each answer is passed on, lost, or never comes."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.lost = 0
        """How many of the next answers are lost: auth has given them."""
        self.hung = 0
        """How many of the next ones never come."""
        self.answered = asyncio.Event()

    async def watch(self, page: Page) -> "Refreshes":
        await page.route("**/auth/refresh", self._handle)
        return self

    async def _handle(self, route: Route, request: Request) -> None:
        if request.method != "POST":
            return await route.continue_()
        self.sent.append(json.loads(request.post_data or "{}")["refreshToken"])
        if self.hung:
            self.hung -= 1
            await route.fetch()
            self.answered.set()
            return None  # the page waits
        if self.lost:
            self.lost -= 1
            await route.fetch()
            return await route.abort()
        return await route.continue_()


async def test_page_asks_again_after_a_lost_refresh_answer_and_stays_signed_in(table: Table) -> None:
    owner = await table.seat("Owner")
    refreshes = await Refreshes().watch(owner.page)
    refreshes.lost = 1

    await owner.page.evaluate(OUTDATE)
    await owner.page.reload()

    await _assert_signed_in(owner.page)
    assert len(refreshes.sent) == 2
    assert len(set(refreshes.sent)) == 1


async def test_refresh_that_gets_no_answer_is_repeated_and_serves_every_waiting_call(table: Table) -> None:
    owner = await table.seat("Owner")
    refreshes = await Refreshes().watch(owner.page)
    refreshes.hung = 1

    await owner.page.evaluate(OUTDATE)
    await owner.page.reload()

    await _assert_signed_in(owner.page)
    assert len(refreshes.sent) == 2


async def test_read_that_gets_no_answer_is_repeated_without_a_reload(table: Table) -> None:
    hung = 0

    async def hang_once(route: Route) -> None:
        nonlocal hung
        hung += 1
        if hung > 1:
            await route.continue_()

    window = await table.window(script=FAST)
    await window.page.route("**/v1/campaigns", hang_once)
    await window.sign_in("Owner")

    await expect(window.page.get_by_role("link", name=demo.campaign.CAMPAIGN)).to_be_visible()
    assert hung == 2


async def test_page_reloaded_during_a_refresh_stays_signed_in_with_its_used_token(table: Table) -> None:
    owner = await table.seat("Owner")
    refreshes = await Refreshes().watch(owner.page)
    refreshes.hung = 1
    await owner.page.evaluate(OUTDATE)
    await owner.page.reload(wait_until="commit")
    await refreshes.answered.wait()

    await owner.page.reload()

    await _assert_signed_in(owner.page)


@pytest.mark.parametrize("script", ["", NO_LOCKS], ids=["locks", "no locks"])
async def test_two_windows_that_renew_at_once_stay_signed_in_with_and_without_web_locks(
    table: Table, script: str
) -> None:
    owner = await table.seat("Owner", script=script)
    twin = await _restored(owner, await owner.page.evaluate(KEPT), script=script)

    for _ in range(3):
        await asyncio.gather(*(page.evaluate(OUTDATE) for page in (owner.page, twin)))
        await asyncio.gather(*(page.reload() for page in (owner.page, twin)))
        await asyncio.gather(*map(_assert_signed_in, (owner.page, twin)))


async def test_window_restored_from_disk_never_sends_its_old_tokens(table: Table) -> None:
    owner = await table.seat("Owner")
    old = await owner.page.evaluate(KEPT)
    for _ in range(3):
        async with owner.page.expect_response("**/auth/refresh"):
            await owner.page.evaluate(OUTDATE)
            await owner.page.reload()
        await _assert_signed_in(owner.page)

    outdated = json.dumps({**json.loads(old), "renewAt": 0})
    sent: list[str] = []
    owner.context.on(
        "request", lambda request: sent.append(request.post_data or "") if "/refresh" in request.url else None
    )
    restored = await _restored(owner, outdated)

    await _assert_signed_in(restored)
    await owner.page.reload()
    await _assert_signed_in(owner.page)
    assert not [body for body in sent if json.loads(old)["refreshToken"] in body]


async def test_newest_tokens_outlive_the_window_that_got_them_for_its_duplicates_only(table: Table) -> None:
    owner = await table.seat("Owner")
    old = await owner.page.evaluate(KEPT)
    async with owner.page.expect_response("**/auth/refresh"):
        await owner.page.evaluate(OUTDATE)
        await owner.page.reload()
    await _assert_signed_in(owner.page)
    newest = json.loads(await owner.page.evaluate(KEPT))
    shared = await owner.page.evaluate("JSON.stringify(localStorage)")

    restored = await _restored(owner, json.dumps({**json.loads(old), "renewAt": 0}), close=owner.page)

    await _assert_signed_in(restored)
    assert newest["refreshToken"] not in shared, "sealed"
    assert newest["accessToken"] not in shared


async def test_session_survives_a_gateway_that_refuses_good_tokens(table: Table) -> None:
    window = await table.window()
    await window.page.route_web_socket("**/ws", lambda socket: socket.close(code=4401, reason="the token has expired"))

    await window.sign_in("Owner")

    await expect(window.page.locator("#connection")).to_contain_text("lost: Your sign-in is no longer valid.")
    await expect(window.page.get_by_role("link", name=demo.campaign.CAMPAIGN)).to_be_visible()
    await window.page.reload()
    await _assert_signed_in(window.page)


async def test_campaign_loads_once_the_publisher_knows_auths_new_key(table: Table) -> None:
    refused = 0

    async def refuse_some(route: Route, request: Request) -> None:
        nonlocal refused
        if request.method != "GET" or refused == 4:
            return await route.continue_()
        refused += 1
        error = {"code": "token_invalid", "message": "the token is missing, invalid or expired"}
        headers = {"Access-Control-Allow-Origin": "*"}
        return await route.fulfill(status=401, json={"error": error}, headers=headers)

    owner = await table.seat("Owner")
    await owner.page.route("**/v1/campaigns/*", refuse_some)

    await owner.page.reload()

    await expect(owner.page.get_by_role("heading", name="Emberford")).to_be_visible()
    await _assert_signed_in(owner.page)
    assert refused == 4


async def test_clock_that_jumps_by_weeks_ends_no_session(table: Table) -> None:
    """A window opened after the jump deletes the stored tokens as too old; the window that comes back keeps its own."""
    owner = await table.seat("Owner")
    old = json.loads(await owner.page.evaluate(KEPT))
    async with owner.page.expect_response("**/auth/refresh"):
        await owner.page.evaluate(OUTDATE)
        await owner.page.reload()
    await _assert_signed_in(owner.page)
    await owner.page.evaluate(AGE_NEWEST)

    sent: list[str] = []
    owner.context.on(
        "request", lambda request: sent.append(request.post_data or "") if "/refresh" in request.url else None
    )
    restored = await owner.context.new_page()
    await restored.add_init_script(f"({RESTORE})({json.dumps(json.dumps({**old, 'renewAt': 0}))})")
    await restored.goto(owner.page.url)
    await _assert_signed_in(restored)
    assert not [body for body in sent if old["refreshToken"] in body]

    await owner.page.evaluate(AGE_NEWEST)
    other = await owner.context.new_page()
    await other.goto(owner.page.url)
    await expect(other.get_by_role("heading", name="Continue as")).to_be_visible()
    assert await other.evaluate("localStorage.length") == 0, "swept"
    await owner.page.evaluate("fetch('config.json').then((answer) => answer.text())")  # it is done
    await _assert_signed_in(owner.page)


async def test_signing_out_ends_the_session_in_duplicate_windows_and_leaves_nothing_behind(table: Table) -> None:
    owner = await table.seat("Owner")
    twin = await _restored(owner, await owner.page.evaluate(KEPT))

    await owner.page.get_by_role("button", name="Sign out").click()

    for page in (owner.page, twin):
        await expect(page.get_by_role("heading", name="Continue as")).to_be_visible()
        assert await page.evaluate("sessionStorage.length + localStorage.length") == 0


async def test_windows_stay_signed_in_over_plain_http_without_locks_and_cryptography(table: Table) -> None:
    executable = next(filter(None, map(shutil.which, CHROMIUM)), None)
    address = table.url.replace("127.0.0.1", NAME)
    async with async_playwright() as playwright:
        mapping = f"--host-resolver-rules=MAP {NAME} 127.0.0.1"
        browser = await playwright.chromium.launch(executable_path=executable, args=[*ARGUMENTS, mapping])
        context = await browser.new_context(locale="en-GB")
        page = await context.new_page()
        await page.goto(address)
        assert await page.evaluate("[isSecureContext, 'locks' in navigator]") == [False, False]
        await page.locator(".person").filter(has_text="Owner").click()
        await _assert_signed_in(page)
        window = Window(page, context)
        old = json.dumps({**json.loads(await page.evaluate(KEPT)), "renewAt": 0})
        async with page.expect_response("**/auth/refresh"):
            await page.evaluate(OUTDATE)
            await page.reload()
        await _assert_signed_in(page)

        twin = await _restored(window, old)

        for each in (twin, page, twin):
            await each.evaluate(OUTDATE)
            await each.reload()
            await _assert_signed_in(each)
        await browser.close()


async def test_sign_in_works_for_the_life_of_the_page_when_storage_is_blocked(
    table: Table, blocked: BrowserContext
) -> None:
    page = await blocked.new_page()
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    await page.goto(table.url)
    assert (
        await page.evaluate("(() => { try { return localStorage } catch (error) { return error.name } })()")
        == "SecurityError"
    )

    await page.locator(".person").filter(has_text="Owner").click()
    await page.get_by_role("link", name=demo.campaign.CAMPAIGN).click()
    await expect(page.get_by_role("heading", name="Emberford")).to_be_visible()
    async with page.expect_response("**/auth/refresh"):
        await page.evaluate("Date.now = ((now) => () => now.call(Date) + 3_600_000)(Date.now)")
        await page.get_by_role("button", name="Raise the level of Emberford").click()
    await expect(page.locator(".entry-text").first).to_contain_text("You changed the level of Emberford")
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Continue as")).to_be_visible()

    assert troubles == []


async def _restored(window: Window, kept: str, *, script: str = "", close: Page | None = None) -> Page:
    """Another window of the same browser, with a session as it was kept."""
    page = await window.context.new_page()
    if script:
        await page.add_init_script(script)
    await page.goto(window.page.url.partition("#")[0])
    if close:
        await close.close()
    await page.evaluate(RESTORE, kept)
    await page.reload()
    return page


async def _assert_signed_in(page: Page) -> None:
    await expect(page.locator("#account")).to_contain_text("Owner")
    campaign, link = (
        page.get_by_role("heading", name="Emberford"),
        page.get_by_role("link", name=demo.campaign.CAMPAIGN),
    )
    await expect(campaign.or_(link)).to_be_visible()
