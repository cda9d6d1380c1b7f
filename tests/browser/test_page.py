"""In the demo page in a browser, with the real services, users see each other's changes."""

import asyncio
import json
from typing import Any

import pytest
from playwright.async_api import Locator, Page, Route, expect

from beaconfire import demo
from beaconfire.api import ApiError, call
from tests.browser.conftest import NO_PAUSES, Table, Window
from tests.browser.recording import RECORD, assert_once, heard, publish

OUTDATE = """() => {
    const session = JSON.parse(sessionStorage.getItem("beaconfire-session"));
    sessionStorage.setItem("beaconfire-session", JSON.stringify({ ...session, renewAt: 0 }));
}"""
# The tab goes into the background, and comes back ten seconds later.
HIDE = """() => {
    Object.defineProperty(document, "hidden", { configurable: true, value: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""
SHOW_LATER = """() => {
    delete document.hidden;
    Date.now = ((now) => () => now.call(Date) + 10_000)(Date.now);
    document.dispatchEvent(new Event("visibilitychange"));
}"""
CORS = {"Access-Control-Allow-Origin": "*"}
MALICIOUS = "<img src=x onerror='window.harmed = true'><b>bold</b>"


async def test_change_appears_in_the_other_window_with_its_author(table: Table) -> None:
    owner, editor = await table.seat("Owner"), await table.seat("Editor")
    level = _level(owner.page, "Emberford")
    before = int(await level.inner_text())

    await editor.page.get_by_role("button", name="Raise the level of Emberford").click()

    await expect(level).to_have_text(str(before + 1))
    await expect(_feed(owner.page).first).to_contain_text("Editor changed the level of Emberford")
    await expect(_feed(editor.page).first).to_contain_text("You changed the level of Emberford")
    _assert_untroubled(owner, editor)


async def test_clicks_faster_than_the_service_answers_are_all_counted(table: Table) -> None:
    owner, viewer = await table.seat("Owner"), await table.seat("Viewer")
    before = int(await _level(owner.page, "Saltmere").inner_text())

    for _ in range(5):
        await owner.page.get_by_role("button", name="Raise the level of Saltmere").click()

    await expect(_level(viewer.page, "Saltmere")).to_have_text(str(before + 5))
    await expect(_level(owner.page, "Saltmere")).to_have_text(str(before + 5))


async def test_settlement_that_is_added_edited_and_deleted_follows_in_the_other_window(table: Table) -> None:
    owner, viewer = await table.seat("Owner"), await table.seat("Viewer")
    page, seen = owner.page, viewer.page

    await page.get_by_role("button", name="Settlement", exact=True).click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Name", exact=True).fill("Ashholm")
    await dialog.get_by_label("Population").fill("77")
    await dialog.get_by_role("button", name="Add", exact=True).click()
    await expect(seen.get_by_role("article", name="Ashholm")).to_contain_text("77")

    await page.get_by_role("button", name="Edit Ashholm").click()
    await dialog.get_by_role("button", name="Add a variable").click()
    await dialog.get_by_label("Name", exact=True).last.fill("food")
    await dialog.get_by_label("Value").last.fill("12")
    await dialog.get_by_role("button", name="Save").click()
    await expect(seen.get_by_role("article", name="Ashholm").locator(".variable")).to_contain_text("food12")

    await page.get_by_role("button", name="Delete Ashholm").click()
    await dialog.get_by_role("button", name="Delete").click()
    await expect(seen.get_by_role("article", name="Ashholm")).to_have_count(0)
    await expect(_feed(seen).first).to_contain_text("Owner deleted Ashholm")
    _assert_untroubled(owner, viewer)


async def test_second_editor_chooses_for_each_field_and_other_fields_are_merged(table: Table) -> None:
    """The dialog is used with the keyboard alone."""
    owner, editor = await table.seat("Owner"), await table.seat("Editor")
    for window in (owner, editor):
        await window.page.get_by_role("button", name="Edit Emberford").click()
    mine, theirs = owner.page.get_by_role("dialog"), editor.page.get_by_role("dialog")
    await theirs.get_by_label("Population").fill("4321")
    await theirs.get_by_label("Kind").fill("fort")
    await theirs.get_by_label("Level").fill("33")
    await theirs.get_by_role("button", name="Save").click()
    await expect(theirs).to_have_count(0)

    await mine.get_by_label("Population").fill("99")
    await mine.get_by_label("Kind").fill("city")
    await mine.get_by_role("button", name="Save").click()
    asked = owner.page.get_by_role("dialog", name="Emberford was changed")
    await expect(asked.get_by_role("group", name="kind").get_by_role("radio", name="Yours city")).to_be_focused()
    await owner.page.keyboard.press("Escape")  # is no answer
    await owner.page.keyboard.press("ArrowLeft")
    await owner.page.keyboard.press("Tab")
    await expect(asked.get_by_role("group", name="population").get_by_role("radio", name="Yours 99")).to_be_focused()
    await owner.page.keyboard.press("Tab")
    await owner.page.keyboard.press("Enter")

    await expect(asked).to_have_count(0)
    card = editor.page.get_by_role("article", name="Emberford")
    await expect(card.locator(".kind").first).to_have_text("fort")
    await expect(card.locator(".figure").nth(1)).to_contain_text("99")
    await expect(_level(editor.page, "Emberford")).to_have_text("33")
    values = editor.page.locator(".entries li").first.locator(".change")
    await expect(values).to_have_text(["populationfrom 4,321→ to 99"])


async def test_change_is_shown_as_pending_until_its_event_is_heard(table: Table) -> None:
    owner = await table.seat("Owner")
    card, gateway = owner.page.get_by_role("article", name="Saltmere"), table.services.gateways[0].process
    before = int(await _level(owner.page, "Saltmere").inner_text())
    answer = asyncio.Event()

    async def hold(route: Route) -> None:
        await answer.wait()
        await route.continue_()

    await owner.page.route("**/settlements/*", hold)
    gateway.freeze()
    try:
        await owner.page.get_by_role("button", name="Raise the level of Saltmere").click()
        await expect(_level(owner.page, "Saltmere")).to_have_text(str(before + 1))
        await expect(card).to_have_attribute("aria-busy", "true")
        async with owner.page.expect_response("**/settlements/*") as answered:
            answer.set()
        assert (await answered.value).status == 200
        await expect(card).to_have_attribute("aria-busy", "true")
    finally:
        gateway.thaw()

    await expect(card).not_to_have_attribute("aria-busy", "true")
    await expect(_level(owner.page, "Saltmere")).to_have_text(str(before + 1))
    _assert_untroubled(owner)


async def test_refused_change_is_taken_back_and_its_form_keeps_what_was_typed(table: Table) -> None:
    owner = await table.seat("Owner")
    page, card = owner.page, owner.page.get_by_role("article", name="Emberford")
    before = await card.inner_text()
    message = "description: String should have at most 10000 characters"
    error = {"error": {"code": "bad_request", "message": message}}
    await page.route("**/settlements/*", lambda route: route.fulfill(status=400, json=error, headers=CORS))

    await page.get_by_role("button", name="Raise the level of Emberford").click()
    why = "Your change to Emberford was undone. The service does not accept this description."
    await expect(page.locator("#toasts")).to_contain_text(why)
    await expect(card).to_have_text(before, use_inner_text=True)
    await page.get_by_role("button", name="Edit Emberford").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Population").fill("55555")
    await dialog.get_by_role("button", name="Save").click()

    await expect(page.locator("#toasts")).to_contain_text("Your change to Emberford was undone")
    await expect(dialog.get_by_role("alert")).to_contain_text("The service does not accept this description.")
    await expect(dialog.get_by_label("Population")).to_have_value("55555")
    await expect(card).to_have_text(before, use_inner_text=True)
    await page.unroute("**/settlements/*")
    await dialog.get_by_role("button", name="Save").click()
    await expect(card).to_contain_text("55,555")


async def test_step_and_deletion_from_an_outdated_state_ask_about_the_current_one(table: Table) -> None:
    token, gateway = table.token("Owner"), table.services.gateways[0].process
    url = f"{table.campaign_url}/settlements"
    made = call("POST", url, {"name": "Thornwick", "level": 5}, token=token)["settlement"]
    editor = await table.seat("Editor")
    page, dialog = editor.page, editor.page.get_by_role("dialog")
    gateway.freeze()  # the owner's changes are not heard
    try:
        call("PATCH", f"{url}/{made['id']}", {"level": 9}, token=token)
        await page.get_by_role("button", name="Raise the level of Thornwick").click()
        await dialog.get_by_role("radio", name="Theirs 9").click()
        await dialog.get_by_role("button", name="Save").click()
        await expect(_level(page, "Thornwick")).to_have_text("9")
        call("PATCH", f"{url}/{made['id']}", {"population": 12}, token=token)
        await page.get_by_role("button", name="Delete Thornwick").click()
        await dialog.get_by_role("button", name="Delete").click()
        await expect(dialog).to_contain_text("Population is now “12”.")
        await dialog.get_by_role("button", name="Keep it").click()
        await expect(page.get_by_role("article", name="Thornwick")).not_to_have_attribute("data-fate", "deleted")
        call("PATCH", f"{url}/{made['id']}", {"population": 13}, token=token)
        await page.get_by_role("button", name="Delete Thornwick").click()
        await dialog.get_by_role("button", name="Delete").click()
        await expect(dialog).to_contain_text("Population is now “13”.")
        await dialog.get_by_role("button", name="Delete it").click()
        await expect(page.get_by_role("article", name="Thornwick")).to_have_count(0)
    finally:
        gateway.thaw()


async def test_change_between_snapshot_and_subscription_is_restored_without_a_second_read(table: Table) -> None:
    viewer, token = await table.window(), table.token("Owner")
    await viewer.sign_in("Viewer")
    await expect(viewer.page.locator("#connection")).to_have_text("Connected", use_inner_text=True)
    await expect(viewer.page.get_by_role("link", name=demo.campaign.CAMPAIGN)).to_be_visible()
    gateway = table.services.gateways[0].process
    reads: list[str] = []
    viewer.page.on("request", lambda request: reads.append(request.url))
    settlements = call("GET", f"{table.campaign_url}/settlements", token=token)["settlements"]
    greywatch = next(one for one in settlements if one["name"] == "Greywatch")
    gateway.freeze()
    try:
        await viewer.open_campaign()
        level = greywatch["level"] + 1
        call("PATCH", f"{table.campaign_url}/settlements/{greywatch['id']}", {"level": level}, token=token)
    finally:
        gateway.thaw()

    await expect(_level(viewer.page, "Greywatch")).to_have_text(str(level))
    await expect(_feed(viewer.page).first).to_contain_text("Owner changed the level of Greywatch")
    assert ":" in viewer.sent_of("subscribe")[-1]["cursor"]
    assert [url for url in reads if url.endswith("/settlements")] == [f"{table.campaign_url}/settlements"]


async def test_advanced_world_time_appears_in_the_other_window(table: Table) -> None:
    editor, viewer = await table.seat("Editor"), await table.seat("Viewer")
    clock = viewer.page.locator(".clock-face")
    before = await clock.inner_text()

    await editor.page.get_by_role("button", name="Let 1 day pass").click()

    await expect(clock).not_to_have_text(before)
    await expect(_feed(viewer.page).first).to_contain_text("Editor let 1 day pass")


async def test_running_clock_advances_on_every_screen_and_only_editors_control_it(table: Table) -> None:
    editor, viewer = await table.seat("Editor"), await table.seat("Viewer")
    page, seen = editor.page, viewer.page
    await expect(seen.locator(".clock-running")).to_have_count(0)

    await page.get_by_role("button", name="Start the clock").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Let pass").select_option("6 hours")
    await dialog.get_by_label("Every").select_option("1 second")
    await dialog.get_by_role("button", name="Start").click()
    await expect(seen.locator(".clock-pace")).to_have_text("6 hours pass every second")
    ticks = _feed(seen).filter(has_text="The clock let 6 hours pass")
    await expect(ticks.nth(1)).to_be_visible()
    note = seen.locator(".entries li").filter(has_text="The clock let").first.locator(".entry-note")
    await expect(note).to_have_text("Out of date: income and upkeep")

    await page.get_by_role("button", name="Stop the clock").click()
    await expect(seen.locator(".clock-running")).to_have_count(0)
    await expect(page.get_by_role("button", name="Start the clock")).to_be_visible()
    _assert_untroubled(editor, viewer)


async def test_consequence_of_a_change_is_noted_below_it_in_every_window(table: Table) -> None:
    editor, viewer = await table.seat("Editor"), await table.seat("Viewer")

    await editor.page.get_by_role("button", name="Raise the level of Saltmere").click()

    for window in (editor, viewer):
        entry = window.page.locator(".entries li").filter(has_text="changed the level of Saltmere").first
        await expect(entry.locator(".entry-note")).to_have_text("Out of date: income and defence")


async def test_viewer_has_no_controls_and_a_direct_call_gets_403(table: Table) -> None:
    viewer = await table.seat("Viewer")

    await expect(viewer.page.locator("main button")).to_have_count(0)
    await expect(viewer.page.get_by_text("Read-only")).to_be_visible()
    status = await viewer.page.evaluate(
        """async (url) => {
            const { accessToken } = JSON.parse(sessionStorage.getItem("beaconfire-session"));
            const headers = { Authorization: `Bearer ${accessToken}`, "Content-Type": "application/json" };
            return (await fetch(url, { method: "PATCH", headers, body: '{"name":"mine"}' })).status;
        }""",
        table.campaign_url,
    )
    assert status == 403


async def test_removed_member_is_told_and_returned_to_the_list_at_once(table: Table) -> None:
    owner, editor = await table.seat("Owner"), await table.seat("Editor")

    try:
        await owner.page.get_by_role("button", name="Remove Editor").click()
        await owner.page.get_by_role("dialog").get_by_role("button", name="Remove").click()

        await expect(editor.page.locator("#toasts")).to_contain_text("no longer a member")
        await expect(editor.page.get_by_role("heading", name="Campaigns")).to_be_visible()
        await expect(editor.page.get_by_role("link", name=demo.campaign.CAMPAIGN)).to_have_count(0)
        await expect(_feed(owner.page).first).to_contain_text("You removed Editor")
        _assert_untroubled(owner)
    finally:
        body = {"email": "editor@demo.example", "role": "editor"}
        call("POST", table.members_url, body, token=table.token("Owner"))


async def test_controls_follow_a_change_of_role_in_the_open_window(table: Table) -> None:
    owner, editor = await table.seat("Owner"), await table.seat("Editor")
    role = owner.page.get_by_label("Role of Editor")
    raises = editor.page.get_by_role("button", name="Raise the level of Emberford")
    await expect(raises).to_be_visible()

    await role.select_option("viewer")
    await expect(raises).to_have_count(0)
    await expect(editor.page.locator("#toasts")).to_contain_text("You are now a viewer")

    await role.select_option("editor")
    await expect(raises).to_be_visible()
    _assert_untroubled(owner, editor)


async def test_stranger_sees_a_refusal_and_the_campaign_once_added(table: Table) -> None:
    owner, stranger = await table.seat("Owner"), await table.window()
    await stranger.sign_in("Stranger")
    await expect(stranger.page.get_by_text("You are not in a campaign yet")).to_be_visible()
    await stranger.page.evaluate("(id) => { location.hash = `#/campaign/${id}` }", table.campaign)
    await expect(stranger.page.get_by_role("heading", name="You cannot open this campaign")).to_be_visible()

    await owner.page.get_by_label("E-mail of a user").fill("stranger@demo.example")
    await owner.page.locator(".add-member").get_by_role("button", name="Add").click()
    await expect(owner.page.locator(".member").filter(has_text="Stranger")).to_be_visible()
    await stranger.page.get_by_role("button", name="Try again").click()

    await expect(stranger.page.get_by_role("heading", name="Emberford")).to_be_visible()
    _remove_member(table, "Stranger")


async def test_markup_in_names_and_values_is_shown_as_text(table: Table) -> None:
    token = table.token("Owner")
    viewer = await table.seat("Viewer")
    body = {"name": MALICIOUS, "description": MALICIOUS, "kind": "camp", "variables": {"note": MALICIOUS}}

    settlement = call("POST", f"{table.campaign_url}/settlements", body, token=token)["settlement"]

    card = viewer.page.locator(".settlement").filter(has_text="onerror")
    await expect(card.get_by_role("heading")).to_have_text(MALICIOUS)
    await expect(_feed(viewer.page).first).to_contain_text(MALICIOUS)
    assert await viewer.page.locator("main img, main b").count() == 0
    assert await viewer.page.evaluate("window.harmed") is None
    call("DELETE", f"{table.campaign_url}/settlements/{settlement['id']}", token=token)
    _assert_untroubled(viewer)


async def test_session_survives_a_reload_and_sign_out_ends_it_on_the_page_and_at_auth(table: Table) -> None:
    owner = await table.seat("Owner")
    await owner.page.reload()
    await expect(owner.page.get_by_role("heading", name="Emberford")).to_be_visible()
    kept = json.loads(await owner.page.evaluate("sessionStorage.getItem('beaconfire-session')"))

    async with owner.page.expect_response("**/auth/sign-out"):
        await owner.page.get_by_role("button", name="Sign out").click()
    await expect(owner.page.get_by_role("heading", name="Continue as")).to_be_visible()
    await owner.page.reload()
    await expect(owner.page.get_by_role("heading", name="Continue as")).to_be_visible()

    assert await owner.page.evaluate("sessionStorage.length") == 0
    assert _status("POST", f"{table.services.auth_url}/auth/refresh", {"refreshToken": kept["refreshToken"]}) == 401


async def test_feed_is_restored_after_a_reload_with_what_was_missed_and_erased_by_sign_out(table: Table) -> None:
    owner, token = await table.seat("Owner"), table.token("Editor")
    page = owner.page
    await page.get_by_role("button", name="Raise the level of Emberford").click()
    await expect(_feed(page)).to_have_count(1)
    settlement = await page.get_by_role("article", name="Saltmere").get_attribute("data-key")
    address = page.url

    await page.goto("about:blank")
    call("PATCH", f"{table.campaign_url}/settlements/{settlement}", {"population": 411}, token=token)
    await page.goto(address)

    await expect(_feed(page)).to_have_text(
        ["Editor changed the population of Saltmere", "You changed the level of Emberford"]
    )
    away = page.get_by_role("region", name="While you were away: 1 change")
    await expect(away.locator("li")).to_have_text("Editor changed Saltmerepopulationnow 411")
    await away.get_by_role("button", name="Dismiss").click()
    await expect(away).to_have_count(0)
    await page.evaluate(HIDE)
    call("PATCH", f"{table.campaign_url}/settlements/{settlement}", {"population": 412}, token=token)
    await expect(_feed(page)).to_have_count(3)
    await expect(away).to_have_count(0)
    await page.evaluate(SHOW_LATER)
    await expect(away.locator("li")).to_have_text("Editor changed Saltmerepopulationfrom 411→ to 412")
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Continue as")).to_be_visible()
    assert await page.evaluate("sessionStorage.length") == 0
    _assert_untroubled(owner)


async def test_unknown_address_gets_a_page_for_people_and_json_for_programs(table: Table) -> None:
    window = await table.window()
    for path in ("nothing", "page/nothing.js", "client/", "a/b/<b>c"):
        answer = await window.page.goto(table.url + path)
        assert answer is not None
        assert answer.status == 404
        await expect(window.page.get_by_role("heading", name="This page does not exist")).to_be_visible()
        await expect(window.page.locator("main b")).to_have_count(0)
    await window.page.get_by_role("link", name="Go to the start page").click()
    await expect(window.page.get_by_role("heading", name="Continue as")).to_be_visible()

    with pytest.raises(ApiError) as refused:
        call("GET", f"{table.url}nothing")
    assert (refused.value.status, refused.value.code) == (404, "not_found")


async def test_form_whose_answer_was_lost_is_sent_again_and_creates_nothing_twice(table: Table) -> None:
    owner, token = await table.seat("Owner"), table.token("Owner")
    page, dialog = owner.page, owner.page.get_by_role("dialog")
    lost = 0

    async def lose_the_first(route: Route) -> None:
        nonlocal lost
        if route.request.method != "POST" or lost:
            return await route.continue_()
        lost += 1
        await route.fetch()
        return await route.abort()

    await page.route("**/settlements", lose_the_first)
    await page.get_by_role("button", name="Settlement", exact=True).click()
    await dialog.get_by_label("Name", exact=True).fill("Lostholm")
    await dialog.get_by_role("button", name="Add", exact=True).click()
    await expect(dialog).to_have_count(0)
    await expect(page.get_by_role("button", name="Edit Lostholm")).to_be_visible()
    await expect(page.locator("[aria-busy=true]")).to_have_count(0)

    settlements = call("GET", f"{table.campaign_url}/settlements", token=token)["settlements"]
    made = [one["id"] for one in settlements if one["name"] == "Lostholm"]
    for one in made:
        call("DELETE", f"{table.campaign_url}/settlements/{one}", token=token)
    assert (len(made), lost) == (1, 1)


async def test_things_added_and_deleted_offline_wait_visibly_and_follow_in_the_other_window_once(table: Table) -> None:
    owner, editor = await table.seat("Owner"), await table.seat("Editor")
    page, dialog, seen = editor.page, editor.page.get_by_role("dialog"), owner.page
    token = table.token("Owner")
    for name in ("Elmstead", "Oakstead"):
        call("POST", f"{table.campaign_url}/settlements", {"name": name}, token=token)
        await expect(page.get_by_role("article", name=name)).to_be_visible()

    await editor.context.set_offline(True)
    await expect(page.locator("#connection")).to_contain_text("Reconnecting")
    for name in ("Ashstead", "Mistake"):
        await page.get_by_role("button", name="Settlement", exact=True).click()
        await dialog.get_by_label("Name", exact=True).fill(name)
        await dialog.get_by_role("button", name="Add", exact=True).click()
    await page.get_by_role("article", name="Elmstead").get_by_role("button", name="Structure").click()
    await dialog.get_by_label("Name", exact=True).fill("Lookout")
    await dialog.get_by_role("button", name="Add", exact=True).click()
    for name in ("Oakstead", "Greywatch"):
        await page.get_by_role("button", name=f"Delete {name}").click()
        await dialog.get_by_role("button", name="Delete").click()
    await page.get_by_role("button", name="Discard: Mistake").click()
    await page.get_by_role("button", name="Undo: Greywatch").click()
    await expect(page.get_by_role("article", name="Mistake")).to_have_count(0)
    await expect(page.get_by_role("article", name="Ashstead")).to_contain_text("Waits to be added")
    await expect(page.get_by_role("article", name="Oakstead")).to_contain_text("Waits to be deleted")
    await expect(page.get_by_role("button", name="Edit Oakstead")).to_have_count(0)
    await expect(page.get_by_role("button", name="Edit Greywatch")).to_be_visible()
    await expect(page.locator("#unsent")).to_have_text("3 changes wait")
    await editor.context.set_offline(False)

    await expect(seen.get_by_role("article", name="Ashstead")).to_have_count(1)
    await expect(seen.get_by_role("article", name="Elmstead")).to_contain_text("Lookout")
    await expect(seen.get_by_role("article", name="Oakstead")).to_have_count(0)
    for window in (page, seen):
        await expect(window.locator("[aria-busy=true]")).to_have_count(0)
        await expect(window.get_by_role("article", name="Ashstead")).to_have_count(1)
        await expect(window.get_by_role("article", name="Oakstead")).to_have_count(0)
        await expect(window.get_by_text("Lookout", exact=True)).to_have_count(1)
    deeds = ["Editor deleted Oakstead", "Editor added Lookout in Elmstead", "Editor added Ashstead"]
    assert (await _feed(seen).all_inner_texts())[:3] == deeds
    await expect(page.locator("#unsent")).to_have_text("")
    _assert_untroubled(owner)


async def test_things_added_and_deleted_offline_are_put_back_if_they_are_refused_and_the_page_says_why(
    table: Table,
) -> None:
    owner, editor = await table.seat("Owner"), await table.seat("Editor")
    page, dialog, role = editor.page, editor.page.get_by_role("dialog"), owner.page.get_by_label("Role of Editor")
    await editor.context.set_offline(True)
    await expect(page.locator("#connection")).to_contain_text("Reconnecting")
    await page.get_by_role("button", name="Settlement", exact=True).click()
    await dialog.get_by_label("Name", exact=True).fill("Nowhere")
    await dialog.get_by_role("button", name="Add", exact=True).click()
    await page.get_by_role("button", name="Delete Saltmere").click()
    await dialog.get_by_role("button", name="Delete").click()
    await page.get_by_role("link", name="Campaigns").click()
    try:
        await role.select_option("viewer")
        await expect(_feed(owner.page).first).to_contain_text("You made Editor a viewer")
        await editor.context.set_offline(False)

        toasts = page.locator("#toasts")
        await expect(toasts).to_contain_text("A change that you made earlier was refused. You may not do this.")
        await expect(page.locator("#unsent")).to_have_text("")
        await page.get_by_role("link", name=demo.campaign.CAMPAIGN).click()
        await expect(page.get_by_role("article", name="Saltmere")).not_to_have_attribute("data-fate", "deleted")
        await expect(page.get_by_role("article", name="Nowhere")).to_have_count(0)
    finally:
        await role.select_option("editor")
        await expect(_feed(owner.page).first).to_contain_text("You made Editor an editor")


async def test_refused_sign_in_says_why_and_keeps_what_was_typed(table: Table) -> None:
    window = await table.window()
    await window.page.get_by_label("E-mail").fill("owner@demo.example")
    await window.page.get_by_label("Password").fill("not this one")
    await window.page.get_by_role("button", name="Sign in", exact=True).click()

    await expect(window.page.get_by_role("alert")).to_be_visible()
    await expect(window.page.get_by_label("E-mail")).to_have_value("owner@demo.example")


async def test_new_user_signs_up_and_owns_a_new_campaign_at_once(table: Table) -> None:
    window = await table.window()
    page = window.page
    await page.get_by_role("button", name="Sign up instead").click()
    await page.get_by_label("Your name").fill("Newcomer")
    await page.get_by_label("E-mail").fill(f"newcomer-{table.campaign}@demo.example")
    await page.get_by_label("Password").fill("a long password")
    await page.get_by_role("button", name="Sign up", exact=True).click()
    await page.get_by_role("button", name="New campaign").click()
    await page.get_by_role("dialog").get_by_label("Name").fill("The First Road")
    await page.get_by_role("dialog").get_by_role("button", name="Create").click()

    await expect(page.get_by_role("heading", name="The First Road")).to_be_visible()
    await expect(page.locator(".role-line")).to_contain_text("owner")
    _assert_untroubled(window)

    await window.context.set_offline(True)
    await expect(page.locator("#connection")).to_contain_text("Reconnecting")
    await page.get_by_role("button", name="Delete the campaign").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await page.get_by_role("button", name="New campaign").click()
    await page.get_by_role("dialog").get_by_label("Name").fill("The Second Road")
    await page.get_by_role("dialog").get_by_role("button", name="Create").click()
    await expect(page.locator(".root-link").filter(has_text="The Second Road")).to_contain_text("Waits to be added")
    await window.context.set_offline(False)
    await expect(page.get_by_role("link", name="The Second Road")).to_be_visible()
    await expect(page.locator(".root-link")).to_have_count(1)


async def test_page_recovers_automatically_from_a_killed_gateway(table: Table) -> None:
    viewer = await table.seat("Viewer")
    gateway, token = table.services.gateways[0], table.token("Owner")
    before = int(await _level(viewer.page, "Greywatch").inner_text())

    gateway.kill()
    await expect(viewer.page.locator("#connection")).to_contain_text("Reconnecting")
    await expect(viewer.page.locator("#toasts")).to_contain_text("The connection was lost")
    settlements = call("GET", f"{table.campaign_url}/settlements", token=token)["settlements"]
    greywatch = next(one["id"] for one in settlements if one["name"] == "Greywatch")
    call("PATCH", f"{table.campaign_url}/settlements/{greywatch}", {"level": before + 1}, token=token)
    gateway.start()

    await expect(viewer.page.locator("#toasts")).to_contain_text("Connected again", timeout=40_000)
    await expect(_level(viewer.page, "Greywatch")).to_have_text(str(before + 1))
    await expect(viewer.page.locator("#connection")).to_be_hidden()
    await expect(viewer.page.locator("#toasts > *")).to_have_count(0)


async def test_page_stops_after_ten_failed_attempts_and_retry_works(table: Table) -> None:
    """A client beside the page's own then gets what it missed, once."""
    viewer = await table.seat("Viewer", script=NO_PAUSES)
    gateway, light = table.services.gateways[0], viewer.page.locator("#connection")
    await viewer.page.evaluate(RECORD, [table.room, "websocket"])

    gateway.kill()
    await expect(light).to_contain_text("Connection lost (max retries reached)")
    offsets = await publish(table, 3)
    gateway.start()
    await light.get_by_role("button", name="Retry").click()
    await viewer.page.evaluate("window.client.retry()")
    await expect(light).to_contain_text("Connected")
    offsets += await publish(table, 1)

    assert_once(await heard(viewer.page, offsets), offsets)
    await expect(light).to_be_hidden()


async def test_connection_indicator_is_hidden_while_signed_out_and_green_while_connected(table: Table) -> None:
    window = await table.window()
    await expect(window.page.locator("#connection")).to_be_hidden()

    await window.sign_in("Viewer")
    await expect(window.page.locator("#connection")).to_have_text("Connected", use_inner_text=True)
    assert await window.page.locator("#connection").get_attribute("data-look") == "green"
    await expect(window.page.locator("#connection")).to_be_hidden()


async def test_duplicated_windows_renew_their_tokens_without_signing_each_other_out(table: Table) -> None:
    owner = await table.seat("Owner")
    twin = await owner.context.new_page()
    await twin.goto(table.url)
    kept = await owner.page.evaluate("sessionStorage.getItem('beaconfire-session')")
    await twin.evaluate("(kept) => sessionStorage.setItem('beaconfire-session', kept)", kept)
    await twin.reload()
    await expect(twin.get_by_role("link", name=demo.campaign.CAMPAIGN)).to_be_visible()

    for page in (owner.page, twin, owner.page):
        async with page.expect_response("**/auth/refresh") as renewal:
            await page.evaluate(OUTDATE)
            await page.reload()
        assert (await renewal.value).status == 200
        await expect(page.locator("#account")).to_contain_text("Owner")
    await expect(owner.page.get_by_role("heading", name="Emberford")).to_be_visible()
    await expect(twin.get_by_role("link", name=demo.campaign.CAMPAIGN)).to_be_visible()


def _level(page: Page, settlement: str) -> Locator:
    return page.get_by_role("article", name=settlement).locator(".figures .level-value")


def _feed(page: Page) -> Locator:
    return page.locator(".entries .entry-text")


def _assert_untroubled(*windows: Window) -> None:
    """No exception, and nothing that the browser had to complain of: no refused script, no broken address."""
    for window in windows:
        assert window.troubles == []


def _remove_member(table: Table, name: str) -> None:
    token = table.token("Owner")
    members: list[dict[str, Any]] = call("GET", table.members_url, token=token)["members"]
    user = next(one["userId"] for one in members if one["name"] == name)
    call("DELETE", f"{table.members_url}/{user}", token=token)


def _status(method: str, url: str, body: dict[str, Any]) -> int:
    try:
        call(method, url, body)
    except ApiError as error:
        return error.status
    return 200
