"""Changes that are made without a network, in a real browser with its IndexedDB, and a real service."""

from typing import Any

from playwright.async_api import Page

from beaconfire.api import call
from tests.browser.conftest import Table, Window
from tests.browser.recording import UNTIL_HEARD

# `heard` has what became of the changes. A conflict is solved by sending the change again, on top of what is there.
OPEN_QUEUE = """async ([token, user]) => {
    const { connect } = await import("/client/index.js");
    const { openQueue } = await import("/client/offline.js");
    const client = connect({ url: location.origin.replace(/^http/, "ws") + "/ws", getToken: () => token });
    const heard = (window.heard = []);
    window.queue = await openQueue({
        client,
        user,
        headers: () => ({ Authorization: `Bearer ${token}` }),
        onSent: ({ body }) => heard.push(["sent", body.level]),
        onConflict: async ({ body }, response) => {
            const { current } = (await response.json()).error;
            heard.push(["conflict", body.level, current.level]);
            return { ifMatch: `"${current.revision}"` };
        },
    });
    return window.queue.isLasting;
}"""
ADD = """async ([url, ifMatch, levels]) => {
    for (const level of levels) {
        await window.queue.add({ method: "PATCH", url, body: { level }, ifMatch, thing: "settlement" });
    }
    return window.queue.pending.getSnapshot().length;
}"""
PENDING = "() => window.queue.pending.getSnapshot().length"


async def test_changes_made_offline_are_sent_in_order_after_a_conflict_with_another_user_is_solved(
    table: Table,
) -> None:
    owner = await table.seat("Owner")
    token, url, tag = await _settlement(table, owner)
    assert await owner.page.evaluate(OPEN_QUEUE, [token, await _user(owner.page)])

    await owner.context.set_offline(True)
    assert await owner.page.evaluate(ADD, [url, tag, [41, 42]]) == 2
    call("PATCH", url, {"level": 40}, token=table.token("Editor"))
    assert await owner.page.evaluate("window.heard") == []
    await owner.context.set_offline(False)
    await owner.page.evaluate(UNTIL_HEARD, 3)

    assert await owner.page.evaluate("window.heard") == [["conflict", 41, 40], ["sent", 41], ["sent", 42]]
    assert call("GET", url, token=token)["settlement"]["level"] == 42


async def test_changes_outlive_the_page_and_wait_for_their_own_user(table: Table) -> None:
    owner = await table.seat("Owner")
    token, url, tag = await _settlement(table, owner)
    user = await _user(owner.page)
    await owner.page.evaluate(OPEN_QUEUE, [token, user])
    await owner.context.set_offline(True)
    await owner.page.evaluate(ADD, [url, tag, [51]])
    await owner.page.close()
    await owner.context.set_offline(False)

    other = await owner.context.new_page()
    await other.goto(table.url)
    await other.evaluate(OPEN_QUEUE, [table.token("Editor"), "somebody else"])
    assert await other.evaluate(PENDING) == 0
    await other.evaluate(OPEN_QUEUE, [token, user])
    await other.evaluate(UNTIL_HEARD, 1)

    assert await other.evaluate("window.heard") == [["sent", 51]]


async def test_queue_goes_on_after_the_user_has_deleted_the_sites_data(table: Table) -> None:
    """The browser then closes the database of the open page."""
    owner = await table.seat("Owner")
    token, url, tag = await _settlement(table, owner)
    await owner.page.evaluate(OPEN_QUEUE, [token, await _user(owner.page)])
    browser = await owner.context.new_cdp_session(owner.page)

    data = {"origin": table.url.rstrip("/"), "storageTypes": "indexeddb"}
    await browser.send("Storage.clearDataForOrigin", data)
    await owner.page.evaluate(ADD, [url, tag, [61, 62]])
    await owner.page.evaluate(UNTIL_HEARD, 2)

    assert await owner.page.evaluate("window.heard") == [["sent", 61], ["sent", 62]]
    assert owner.troubles == []


async def test_queue_of_a_browser_whose_database_never_opens_keeps_changes_in_memory(table: Table) -> None:
    """As in some versions of Safari."""
    owner = await table.seat("Owner", script="indexedDB.open = () => ({});")
    token, url, tag = await _settlement(table, owner)

    assert not await owner.page.evaluate(OPEN_QUEUE, [token, await _user(owner.page)])
    await owner.page.evaluate(ADD, [url, tag, [71]])
    await owner.page.evaluate(UNTIL_HEARD, 1)

    assert await owner.page.evaluate("window.heard") == [["sent", 71]]
    assert owner.troubles == []


async def _settlement(table: Table, window: Window) -> tuple[str, str, str]:
    """Return the owner's token, and the address and revision of a settlement."""
    token = table.token("Owner")
    settlement = await window.page.get_by_role("article", name="Emberford").get_attribute("data-key")
    url = f"{table.campaign_url}/settlements/{settlement}"
    revision = call("GET", url, token=token)["settlement"]["revision"]
    return token, url, f'"{revision}"'


async def _user(page: Page) -> Any:
    return await page.evaluate("() => JSON.parse(sessionStorage.getItem('beaconfire-session')).user.id")
