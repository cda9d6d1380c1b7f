"""The tracker's page, with two people: what one of them does is what the other sees."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.async_api import Browser, Page, ViewportSize, expect

from beaconfire import demo
from beaconfire.api import call
from beaconfire.local_services import Plan, Services
from tests.browser.conftest import LAPTOP, PHONE, Table, Window
from tests.browser.looks import WIDTHS, overflow_of, picture, small_targets
from tests.forked import all_running

# How many changes the browser keeps, of any user.
KEPT = """() => new Promise((resolve) => {
    indexedDB.open("beaconfire-offline").onsuccess = ({ target: { result } }) => {
        result.transaction("changes").objectStore("changes").count().onsuccess = ({ target }) => resolve(target.result);
    };
})"""
WICKS, OIL, BOOK = "Trim the wicks on the north slope", "Order oil for the winter", "Write a book of all signals"


@dataclass(frozen=True, slots=True)
class Keepers:
    """The tracker with the demo, and the windows of its users."""

    table: Table
    workspace_id: str

    @property
    def url(self) -> str:
        """The workspace's address for programs."""
        tracker = self.table.services.applications["tracker"].url
        return f"{tracker}/v1/tracker/workspaces/{self.workspace_id}"

    def issue(self, title: str) -> dict[str, Any]:
        """An issue of the demo as it is now."""
        issues = call("GET", f"{self.url}/issues", token=self.table.token("Owner"))["issues"]
        return next(one for one in issues if one["title"] == title)

    def change(self, issue: dict[str, Any], body: dict[str, Any], *, by: str = "Owner") -> None:
        """Change an issue past the pages."""
        path = f"{self.url}/teams/{issue['teamId']}/issues/{issue['id']}"
        call("PATCH", path, body, token=self.table.token(by))

    async def seat(self, name: str, *, viewport: ViewportSize = LAPTOP) -> Window:
        """A window of one of the demo's people, on the board."""
        window = await self.table.window(viewport=viewport)
        await window.sign_in(name)
        await window.page.get_by_role("link", name=demo.tracker.WORKSPACE).click()
        await expect(card(window.page, WICKS)).to_be_visible()
        await expect(window.page.locator(".present-user").first).to_be_visible()
        return window


@pytest.fixture(name="demo_services", scope="module")
def _demo_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    people = [person.sign_in() for person in demo.PEOPLE]
    plan = Plan(tmp_path_factory.mktemp("keepers"), gateways=1, people=people, applications=["tracker"])
    with all_running(plan) as whole:
        yield whole


@pytest.fixture(name="keepers")
async def _keepers(demo_services: Services, chromium: Browser) -> Keepers:
    workspace_id = dict(demo.seed_all(demo_services))["tracker"]
    return Keepers(Table(demo_services, "", chromium), workspace_id)


def card(page: Page, title: str) -> Any:
    return page.locator(".issue-card").filter(has_text=title)


def column(page: Page, status: str) -> Any:
    return page.locator(f"[data-status={status}]")


async def test_issue_moved_by_one_user_moves_on_the_board_of_the_other(keepers: Keepers) -> None:
    owner, editor = await keepers.seat("Owner"), await keepers.seat("Editor")
    identifier = keepers.issue(WICKS)["identifier"]

    await editor.page.get_by_label(f"Status of {identifier}").select_option("review")

    await expect(column(owner.page, "review")).to_contain_text(WICKS)
    await expect(owner.page.locator(".latest")).to_have_text(
        f"Editor moved {identifier} {WICKS}: In progress → In review"
    )
    await expect(card(editor.page, WICKS)).not_to_have_attribute("aria-busy", "true")
    await owner.page.get_by_label(f"Status of {identifier}").focus()
    await owner.page.keyboard.press("ArrowUp")
    await expect(column(editor.page, "started")).to_contain_text(WICKS)
    await expect(owner.page.get_by_label(f"Status of {identifier}")).to_be_focused()
    assert owner.troubles + editor.troubles == []


async def test_dragged_issue_moves_for_everyone_and_viewers_cannot_move_any(keepers: Keepers) -> None:
    owner, viewer = await keepers.seat("Owner"), await keepers.seat("Viewer")

    await card(owner.page, OIL).drag_to(column(owner.page, "done"))

    await expect(column(viewer.page, "done")).to_contain_text(OIL)
    await expect(viewer.page.locator(".status-choice")).to_have_count(0)
    await expect(viewer.page.locator("[draggable=true]")).to_have_count(0)
    keepers.change(keepers.issue(OIL), {"status": "todo"})
    await expect(column(viewer.page, "todo")).to_contain_text(OIL)


async def test_comment_appears_after_the_other_user_was_seen_typing_on_the_same_issue(keepers: Keepers) -> None:
    owner, editor = await keepers.seat("Owner"), await keepers.seat("Editor")
    await owner.page.get_by_role("link", name=BOOK).click()
    await expect(owner.page.get_by_role("heading", name=BOOK)).to_be_visible()
    await expect(owner.page.locator(".issue [data-user=Editor]")).to_have_count(0)

    await editor.page.get_by_role("link", name=BOOK).click()
    await expect(owner.page.locator(".issue [data-user=Editor]")).to_be_visible()
    await editor.page.get_by_label("Comment", exact=True).press_sequentially("I have it")
    await expect(owner.page.locator(".typing")).to_have_text("Editor is typing…")
    await editor.page.keyboard.press("Control+Enter")

    await expect(owner.page.locator(".comment-body").last).to_have_text("I have it")
    await expect(owner.page.locator(".typing")).to_have_text("")
    await expect(editor.page.get_by_label("Comment", exact=True)).to_have_value("")
    await expect(owner.page.locator(".history").last).to_contain_text("Editor commented on this")
    await editor.page.get_by_role("link", name="Board").first.click()
    await expect(owner.page.locator(".issue [data-user=Editor]")).to_have_count(0)
    assert owner.troubles + editor.troubles == []


async def test_second_editor_of_a_title_sees_both_values_and_decides_which_stays(keepers: Keepers) -> None:
    owner, editor = await keepers.seat("Owner"), await keepers.seat("Editor")
    issue = keepers.issue(WICKS)
    for window in (owner, editor):
        await window.page.get_by_role("link", name=WICKS).click()
        await window.page.get_by_role("button", name="Edit the title and the description").click()
    title = editor.page.get_by_role("dialog").get_by_label("Title")
    await title.fill("Trim all wicks")
    await editor.page.get_by_role("button", name="Save").click()
    await expect(editor.page.get_by_role("dialog")).to_have_count(0)
    await expect(owner.page.locator("#issue-title")).to_have_text("Trim all wicks")

    await owner.page.get_by_role("dialog").get_by_label("Title").fill("Replace the wicks")
    await owner.page.get_by_role("button", name="Save").click()
    asked = owner.page.get_by_role("dialog", name=f"{issue['identifier']} was changed")

    await expect(asked.get_by_role("radio", name="Theirs Trim all wicks")).to_be_visible()
    await expect(asked.get_by_role("radio", name="Yours Replace the wicks")).to_be_checked()
    await asked.get_by_role("button", name="Save").click()
    await expect(editor.page.get_by_role("heading", name="Replace the wicks")).to_be_visible()
    history = editor.page.locator(".history li").first
    await expect(history.locator("del")).to_have_text("Trim all wicks")
    await expect(history.locator("ins")).to_have_text("Replace the wicks")
    keepers.change(keepers.issue("Replace the wicks"), {"title": WICKS})
    await expect(owner.page.get_by_role("heading", name=WICKS)).to_be_visible()


async def test_page_that_was_offline_sends_its_changes_and_says_what_happened_meanwhile(keepers: Keepers) -> None:
    owner, editor = await keepers.seat("Owner"), await keepers.seat("Editor")
    oil, wicks = keepers.issue(OIL), keepers.issue(WICKS)

    await owner.context.set_offline(True)
    await expect(owner.page.locator("#connection")).to_contain_text("Reconnecting")
    await owner.page.get_by_label(f"Status of {wicks['identifier']}").select_option("done")
    await owner.page.get_by_label(f"Status of {oil['identifier']}").select_option("review")
    await expect(column(owner.page, "done")).to_contain_text(WICKS)
    await expect(card(owner.page, WICKS)).to_have_attribute("aria-busy", "true")
    await editor.page.get_by_label(f"Status of {oil['identifier']}").select_option("started")
    await expect(column(editor.page, "started")).to_contain_text(OIL)
    await owner.page.get_by_role("button", name="Sign out").click()
    question = owner.page.get_by_role("dialog", name="Sign out now?")
    await expect(question).to_contain_text("2 changes are not sent yet.")
    await question.get_by_role("button", name="Cancel").click()
    await owner.page.get_by_role("button", name="New issue").click()
    await owner.page.get_by_role("dialog").get_by_label("Title").fill("Sweep the stairs")
    await owner.page.get_by_role("dialog").get_by_role("button", name="Create").click()
    await expect(card(owner.page, "Sweep the stairs")).to_contain_text("Waits to be added")
    await owner.page.get_by_role("link", name=BOOK).click()
    await owner.page.get_by_label("Comment", exact=True).fill("Written on the road")
    await owner.page.keyboard.press("Control+Enter")
    await expect(owner.page.locator(".comment")).to_contain_text("Waits to be added")
    await owner.page.get_by_role("link", name="Board").first.click()
    await owner.context.set_offline(False)

    asked = owner.page.get_by_role("dialog", name=f"{oil['identifier']} was changed")
    await asked.get_by_role("radio", name="Theirs In progress").click()
    await asked.get_by_role("button", name="Save").click()
    await expect(column(owner.page, "started")).to_contain_text(OIL)
    await expect(column(editor.page, "done")).to_contain_text(WICKS)
    for window in (owner, editor):
        await expect(card(window.page, "Sweep the stairs")).to_have_count(1)
        await expect(card(window.page, "Sweep the stairs")).not_to_contain_text("New")
        await expect(window.page.locator("[aria-busy=true]")).to_have_count(0)
    await editor.page.get_by_role("link", name=BOOK).click()
    await expect(editor.page.locator(".comment-body").last).to_have_text("Written on the road")
    await editor.page.get_by_role("link", name="Board").first.click()
    away = owner.page.get_by_role("region", name="While you were away: 1 change")
    await expect(away.locator("li")).to_contain_text(f"Editor changed {oil['identifier']} {OIL}")
    await expect(away.locator(".change")).to_have_text("statusfrom To do→ to In progress")
    await expect(away).to_contain_text(re.compile(r"The page resumed \d+ events? in \d+ ms."))
    await away.get_by_role("button", name="Dismiss").click()
    await expect(away).to_have_count(0)
    await owner.page.get_by_label("Connection details").click()
    details = re.compile(r"gateway-1 · .*offset \d+ · WebSocket")
    await expect(owner.page.locator("#freshness")).to_contain_text(details)
    for title, status in ((OIL, "todo"), (WICKS, "started")):
        keepers.change(keepers.issue(title), {"status": status})
        await expect(column(owner.page, status)).to_contain_text(title)
    assert editor.troubles == []
    swept = keepers.issue("Sweep the stairs")
    call("DELETE", f"{keepers.url}/teams/{swept['teamId']}/issues/{swept['id']}", token=keepers.table.token("Owner"))

    await owner.context.set_offline(True)
    await expect(owner.page.locator("#connection")).to_contain_text("Reconnecting")
    await owner.page.get_by_label(f"Status of {wicks['identifier']}").select_option("done")
    await owner.page.get_by_role("button", name="Sign out").click()
    await question.get_by_role("button", name="Sign out").click()
    await expect(owner.page.get_by_role("heading", name="Continue as")).to_be_visible()
    assert await owner.page.evaluate(KEPT) == 0


async def test_progress_and_old_and_new_values_follow_the_other_users_changes(keepers: Keepers) -> None:
    owner = await keepers.seat("Owner")
    await owner.page.get_by_role("link", name="Plans").click()
    project = owner.page.get_by_role("article", name=demo.tracker.COAST)
    await expect(project.locator(".progress-words")).to_have_text("1 of 5 done, 3 in progress")

    keepers.change(keepers.issue(WICKS), {"status": "done"}, by="Editor")
    await expect(project.locator(".progress-words")).to_have_text("2 of 5 done, 2 in progress")
    await expect(project.get_by_role("progressbar")).to_have_attribute("value", "2")
    keepers.change(keepers.issue(WICKS), {"status": "started", "priority": "urgent"}, by="Editor")
    await owner.page.get_by_role("link", name="Activity").click()

    entry = owner.page.locator(".feed-panel li").first
    await expect(entry).to_contain_text(f"Editor changed {keepers.issue(WICKS)['identifier']} {WICKS}")
    await expect(entry.locator(".change")).to_have_text(
        [re.compile("status.*Done.*→.*In progress"), re.compile("priority.*High.*→.*Urgent")]
    )
    keepers.change(keepers.issue(WICKS), {"priority": "high"})
    assert owner.troubles == []


async def test_issue_is_opened_assigned_and_deleted_and_its_assignee_is_told(keepers: Keepers) -> None:
    owner, editor = await keepers.seat("Owner"), await keepers.seat("Editor")
    await owner.page.get_by_role("button", name="New issue").click()
    form = owner.page.get_by_role("dialog")
    await form.get_by_label("Title").fill("<b>Light</b> the beacon")
    await form.get_by_label("Team").select_option("Signals")
    await form.get_by_role("button", name="Create").click()

    await expect(column(editor.page, "todo")).to_contain_text("<b>Light</b> the beacon")
    await card(owner.page, "the beacon").get_by_role("link").click()
    await owner.page.get_by_label("Assignee").select_option("Editor")
    await expect(editor.page.locator(".beaconfire-toast")).to_contain_text("Owner assigned to Editor")
    await owner.page.get_by_role("button", name="Delete the issue").click()
    await owner.page.get_by_role("dialog").get_by_role("button", name="Delete").click()

    await expect(card(editor.page, "the beacon")).to_have_count(0)
    await expect(owner.page.get_by_role("group", name="Board")).to_be_visible()
    await expect(card(owner.page, "the beacon")).to_have_count(0)


async def test_new_role_changes_what_a_member_can_do_at_once_and_a_removed_member_leaves_the_page(
    keepers: Keepers,
) -> None:
    viewer, owner = await keepers.seat("Viewer"), keepers.table.token("Owner")
    members = f"{keepers.table.services.auth_url}/auth/roots/workspace:{keepers.workspace_id}/members"
    user_id = next(one["userId"] for one in call("GET", members, token=owner)["members"] if one["name"] == "Viewer")
    await expect(viewer.page.locator(".status-choice")).to_have_count(0)

    call("PUT", f"{members}/{user_id}", {"role": "editor"}, token=owner)
    await expect(viewer.page.locator(".beaconfire-toast")).to_contain_text("You are now an editor")
    await expect(viewer.page.get_by_role("button", name="New issue")).to_be_visible()
    call("DELETE", f"{members}/{user_id}", token=owner)

    await expect(viewer.page.get_by_role("heading", name="Workspaces")).to_be_visible()
    await expect(viewer.page.get_by_role("link", name=demo.tracker.WORKSPACE)).to_have_count(0)
    call("POST", members, {"email": "viewer@demo.example", "role": "viewer"}, token=owner)


@WIDTHS
async def test_each_part_fits_the_window_and_its_controls_are_large_enough(
    keepers: Keepers, viewport: ViewportSize, request: pytest.FixtureRequest
) -> None:
    owner, editor = await keepers.seat("Owner", viewport=viewport), await keepers.seat("Editor")
    page, found = owner.page, {}
    await editor.page.get_by_role("link", name=BOOK).click()

    for part in ("Board", "Plans", "Activity", "Members", "issue"):
        if part == "issue":
            await page.get_by_role("link", name="Board").click()
            await page.get_by_role("link", name=BOOK).click()
            await expect(page.locator(".issue [data-user=Editor]")).to_be_visible()
            await editor.page.get_by_label("Comment", exact=True).press_sequentially("Found")
            await expect(page.locator(".typing")).to_contain_text("Editor")
        else:
            await page.get_by_role("link", name=part, exact=True).click()
            await expect(page.locator("[aria-current=page]").last).to_have_text(part)
        if part in ("Board", "issue", "Plans"):
            await picture(page, request, f"tracker-{part.lower()}")
        found[part] = (await overflow_of(page), await small_targets(page) if viewport == PHONE else [])

    assert found == {part: (0, []) for part in found}
