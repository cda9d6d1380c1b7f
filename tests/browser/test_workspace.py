"""The workspace's page, as two people use it at once."""

import asyncio
from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, Locator, Page, Route, ViewportSize, expect

from beaconfire import demo
from beaconfire.api import call
from beaconfire.local_services import Plan, Services
from tests.browser.conftest import LAPTOP, Table, Window
from tests.browser.looks import FAINT, WIDTHS, overflow_of, picture, small_targets
from tests.forked import all_running


class Desk(Table):
    """The services with the workspace, and the windows of its users. `campaign` is the workspace's id."""

    @property
    def workspace_url(self) -> str:
        return f"{self.services.applications['workspace'].url}/v1/workspaces/{self.campaign}"

    async def seat(self, name: str, *, viewport: ViewportSize = LAPTOP, script: str = "") -> Window:
        """A window of one of the demo's people, in the workspace."""
        window = await self.window(viewport=viewport, script=script)
        await window.sign_in(name)
        await window.page.get_by_role("link", name=demo.workspace.WORKSPACE).click()
        await expect(window.page.get_by_role("heading", name="Approvals")).to_be_visible()
        await expect(window.page.locator(".present-user").first).to_be_visible()  # the room was joined
        return window

    def request(self, title: str, *, by: str = "Editor") -> str:
        """Request an approval over HTTP. Return its id."""
        return str(
            call("POST", f"{self.workspace_url}/approvals", {"title": title}, token=self.token(by))["approval"]["id"]
        )


@pytest.fixture(name="workspace_services", scope="module")
def _workspace_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Everything that the workspace needs, its page offering the demo's people."""
    people = [person.sign_in() for person in demo.PEOPLE]
    plan = Plan(tmp_path_factory.mktemp("desk"), applications=("workspace",), people=people)
    with all_running(plan) as whole:
        yield whole


@pytest.fixture(name="workspace_id", scope="module")
def _workspace_id(workspace_services: Services) -> str:
    return dict(demo.seed_all(workspace_services))["workspace"]


@pytest.fixture(name="desk")
async def _desk(workspace_services: Services, workspace_id: str, chromium: Browser) -> Desk:
    return Desk(workspace_services, workspace_id, chromium)


def card(page: Page, title: str) -> Locator:
    """The card of an approval, waiting or decided."""
    return page.locator(".approval").filter(has_text=title)


async def waiting_count(page: Page) -> int:
    """What the badge of waiting approvals says."""
    return int((await page.locator(".waiting-count .unseen").inner_text()).split()[0])


async def test_request_appears_with_animation_and_badges_and_the_decision_in_both_windows(desk: Desk) -> None:
    owner, editor = await desk.seat("Owner"), await desk.seat("Editor")
    before = await waiting_count(owner.page)
    await editor.page.get_by_role("button", name="Request").click()
    dialog = editor.page.get_by_role("dialog")
    await dialog.get_by_label("What should be approved?").fill("Paint the tower")
    await dialog.get_by_role("button", name="Request").click()

    appeared = card(owner.page, "Paint the tower")
    await expect(appeared).to_have_class("card approval arrived")
    await expect(owner.page.locator(".waiting-count .badge")).to_have_text(str(before + 1))
    await expect(owner.page).to_have_title(f"({before + 1}) {demo.workspace.WORKSPACE} · Beaconfire")
    await expect(owner.page.get_by_role("button", name="Notifications")).to_contain_text(str(before + 1))
    await owner.page.get_by_role("button", name="Approve Paint the tower").click()
    for window, who in ((owner, "You"), (editor, "Owner")):
        await expect(card(window.page, "Paint the tower")).to_contain_text(f"{who} approved it")
        await expect(window.page.locator(".waiting-count .badge")).to_have_text(str(before))
    await expect(editor.page.get_by_role("button", name="Notifications, 1 unread")).to_be_visible()
    await expect(owner.page.get_by_role("button", name="Notifications")).to_contain_text(str(before))  # it was answered
    assert owner.troubles == editor.troubles == []


async def test_keyboard_goes_on_with_the_next_approval_after_a_decision(desk: Desk) -> None:
    editor = await desk.seat("Editor")
    for title in ("Mend the roof", "Paint the roof"):
        desk.request(title, by="Owner")
        await expect(card(editor.page, title)).to_be_visible()
    await editor.page.get_by_role("button", name="Approve Paint the roof").focus()
    await editor.page.keyboard.press("Enter")
    await expect(card(editor.page, "Paint the roof")).to_contain_text("You approved it")
    first = await editor.page.evaluate("document.activeElement.className")
    await editor.page.get_by_role("button", name="Reject Mend the roof").focus()
    await editor.page.keyboard.press("Space")

    await expect(card(editor.page, "Mend the roof")).to_contain_text("You rejected it")
    assert "approval" in first


async def test_second_decision_is_undone_and_says_whose_counts(desk: Desk) -> None:
    """The second one is shown at once, while the service has not answered."""
    owner, editor = await desk.seat("Owner"), await desk.seat("Editor")
    desk.request("Sell the bell")
    go_on = asyncio.Event()

    async def hold(route: Route) -> None:
        await go_on.wait()
        await route.continue_()

    await editor.page.route("**/decision", hold)
    await editor.page.get_by_role("button", name="Reject Sell the bell").click()
    await expect(card(editor.page, "Sell the bell")).to_contain_text("You rejected it")
    async with owner.page.expect_response("**/decision") as first:  # the page shows it before it is answered
        await owner.page.get_by_role("button", name="Approve Sell the bell").click()
        await expect(card(owner.page, "Sell the bell")).to_contain_text("You approved it")
    await first.value
    go_on.set()

    await expect(
        editor.page.locator(".beaconfire-toast").filter(has_text="Owner approved Sell the bell before you")
    ).to_be_visible()
    await expect(card(editor.page, "Sell the bell")).to_contain_text("Owner approved it")
    await expect(card(owner.page, "Sell the bell")).to_contain_text("You approved it")


async def test_typing_and_presence_are_seen_by_the_other_and_a_message_ends_the_typing(desk: Desk) -> None:
    owner, viewer = await desk.seat("Owner"), await desk.seat("Viewer")
    await expect(viewer.page.locator(".present-user")).to_have_count(2)
    await owner.page.get_by_label("Your status").select_option("busy")
    await expect(viewer.page.get_by_role("group", name="Here now: you, Owner (busy)")).to_be_visible()
    await owner.page.get_by_role("textbox", name="Message").press_sequentially("Good mor")
    await expect(viewer.page.locator(".typing")).to_have_text("Owner is typing…")
    await owner.page.get_by_role("textbox", name="Message").press_sequentially("ning")
    await owner.page.keyboard.press("Enter")

    await expect(viewer.page.locator(".message").filter(has_text="Good morning")).to_have_count(1)
    await expect(viewer.page.locator(".typing")).to_have_text("")
    await expect(owner.page.locator(".message.mine").filter(has_text="Good morning")).to_have_count(1)
    await expect(owner.page.get_by_role("textbox", name="Message")).to_have_value("")
    await owner.context.close()
    await expect(viewer.page.locator(".present-user")).to_have_count(1, timeout=30_000)


async def test_window_that_was_offline_gets_everything_once_and_its_messages_and_decisions_are_sent_in_order(
    desk: Desk,
) -> None:
    """Another user was faster with one of the decisions. Markup in a message is text."""
    owner, editor = await desk.seat("Owner"), await desk.seat("Editor")
    page, dialog, box = (
        editor.page,
        editor.page.get_by_role("dialog"),
        editor.page.get_by_role("textbox", name="Message"),
    )
    gate, _ = desk.request("Close the gate", by="Owner"), desk.request("Ring the bell", by="Owner")
    for title in ("Close the gate", "Ring the bell"):
        await expect(card(page, title)).to_be_visible()
    await editor.context.set_offline(True)
    await expect(page.locator("#connection")).to_contain_text("Reconnecting")
    for text in ("Can you hear me?", "A mistake", "I decide alone."):
        await box.fill(text)
        await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Discard: A mistake").click()
    for title in ("Close the gate", "Ring the bell"):
        await page.get_by_role("button", name=f"Approve {title}").click()
        await expect(card(page, title)).to_contain_text("You approved it")
        await expect(card(page, title)).to_contain_text("Waits to be sent")
    await page.get_by_role("button", name="Request").click()
    await dialog.get_by_label("What should be approved?").fill("Buy a longer rope")
    await dialog.get_by_role("button", name="Request").click()
    await expect(card(page, "Buy a longer rope")).to_contain_text("Waits to be added")
    await expect(page.locator(".draft")).to_have_count(2)
    call("POST", f"{desk.workspace_url}/approvals/{gate}/decision", {"status": "rejected"}, token=desk.token("Owner"))
    await owner.page.get_by_role("textbox", name="Message").fill("Anyone <b>there</b>?")
    await owner.page.keyboard.press("Enter")
    await expect(owner.page.locator(".message").filter(has_text="Anyone <b>there</b>?")).to_have_count(1)
    await editor.context.set_offline(False)

    await expect(page.locator("#toasts")).to_contain_text("Owner rejected Close the gate before you.")
    await expect(card(page, "Close the gate")).to_contain_text("Owner rejected it")
    await expect(card(owner.page, "Ring the bell")).to_contain_text("Editor approved it")
    await expect(card(owner.page, "Buy a longer rope")).to_have_count(1)
    words = ["Anyone <b>there</b>?", "Can you hear me?", "I decide alone."]
    for window in (owner, editor):
        await expect(window.page.locator(".draft")).to_have_count(0)
        await expect(window.page.locator("[aria-busy=true]")).to_have_count(0)
        assert (await window.page.locator(".message > p").all_inner_texts())[-3:] == words
        await expect(card(window.page, "Buy a longer rope")).to_have_count(1)


async def test_refused_message_stays_with_the_reason_until_it_is_sent_again(desk: Desk) -> None:
    viewer = await desk.seat("Viewer")
    error = {"error": {"code": "bad_request", "message": "text: String should have at most 4000 characters"}}
    headers = {"Access-Control-Allow-Origin": "*"}
    await viewer.page.route("**/messages", lambda route: route.fulfill(status=400, json=error, headers=headers))
    await viewer.page.get_by_role("textbox", name="Message").fill("Not lost")
    await viewer.page.keyboard.press("Enter")

    draft = viewer.page.locator(".draft")
    await expect(draft).to_contain_text("Not sent. The service does not accept this text.")
    await viewer.page.unroute("**/messages")
    await draft.get_by_role("button", name="Send again").click()
    await expect(draft).to_have_count(0)
    await expect(viewer.page.locator(".message").filter(has_text="Not lost")).to_have_count(1)


async def test_status_that_an_agent_reports_over_http_is_seen_at_once(desk: Desk) -> None:
    viewer = await desk.seat("Viewer")
    token = desk.token("Editor")
    agents = {one["name"]: one["id"] for one in call("GET", f"{desk.workspace_url}/agents", token=token)["agents"]}
    report = {"status": "failed", "detail": "Lost the map"}
    call("PUT", f"{desk.workspace_url}/agents/{agents['Scout']}/status", report, token=token)

    scout = viewer.page.locator(".agent").filter(has_text="Scout")
    await expect(scout).to_contain_text("Lost the map")
    await expect(scout).to_contain_text("Failed")
    await expect(viewer.page.get_by_role("button", name="Approve")).to_have_count(0)  # a viewer decides nothing


async def test_notification_that_is_read_in_one_window_is_read_in_the_users_other_window(desk: Desk) -> None:
    one, other = await desk.seat("Owner"), await desk.seat("Owner")
    desk.request("Feed the owl")
    for window in (one, other):
        await window.page.get_by_role("button", name="Notifications").click()
        await expect(window.page.locator(".note-new").filter(has_text="Feed the owl")).to_be_visible()
    await one.page.get_by_role("button", name="Mark as read: Approval wanted: Feed the owl").click()

    await expect(other.page.locator(".note").filter(has_text="Feed the owl")).to_be_visible()
    await expect(other.page.locator(".note-new").filter(has_text="Feed the owl")).to_have_count(0)
    await one.page.get_by_role("button", name="Mark all as read").click()
    await expect(other.page.locator(".bell .badge")).to_have_count(0)


async def test_removed_member_leaves_the_page_and_a_stranger_sees_nothing(desk: Desk) -> None:
    viewer, owner = await desk.seat("Viewer"), await desk.seat("Owner")
    await owner.page.get_by_role("button", name="Remove Viewer").click()
    await owner.page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    await expect(owner.page.get_by_role("dialog")).to_have_count(0)
    await expect(viewer.page.get_by_role("heading", name="Workspaces")).to_be_visible()
    await expect(viewer.page.get_by_role("link", name=demo.workspace.WORKSPACE)).to_have_count(0)
    await owner.page.get_by_label("E-mail of a user").fill("viewer@demo.example")
    await owner.page.get_by_role("button", name="Add", exact=True).last.click()
    await expect(owner.page.locator(".member").filter(has_text="viewer@demo.example")).to_be_visible()

    stranger = await desk.window()
    await stranger.sign_in("Stranger")
    await stranger.page.goto(f"{desk.url}#/workspace/{desk.campaign}")
    await expect(stranger.page.get_by_role("heading", name="You cannot open this workspace")).to_be_visible()


@WIDTHS
async def test_workspace_page_fits_the_window_and_its_controls_are_large_enough_for_a_thumb(
    desk: Desk, viewport: ViewportSize, request: pytest.FixtureRequest
) -> None:
    owner, editor = await desk.seat("Owner", viewport=viewport), await desk.seat("Editor")
    await editor.page.get_by_role("textbox", name="Message").press_sequentially("Let me")
    await expect(owner.page.locator(".typing")).to_have_text("Editor is typing…")
    await expect(owner.page.locator("#connection")).to_be_hidden()

    await picture(owner.page, request, "workspace")
    await owner.page.get_by_role("button", name="Notifications").click()
    await expect(owner.page.get_by_role("heading", name="Notifications")).to_be_visible()
    assert await overflow_of(owner.page) <= 0
    assert await small_targets(owner.page) == []
    assert await owner.page.evaluate(FAINT) == []
