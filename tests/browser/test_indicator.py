"""The connection indicator in a browser: its colours, its texts, and when it is shown. The tests set the clock."""

from playwright.async_api import Page, expect

from tests.browser.conftest import Table

# A client of the test's own with an indicator of its own. The demo's client goes on beside it.
MOUNT = """async () => {
    const { Client } = await import("/client/index.js");
    const { mountIndicator } = await import("/client/indicator.js");
    const { accessToken } = JSON.parse(sessionStorage.getItem("beaconfire-session"));
    const url = location.origin.replace(/^http/, "ws") + "/ws";
    const element = document.createElement("div");
    element.id = "light";
    document.body.append(element);
    window.signedIn = true;
    const client = window.watched = new Client({ url, getToken: async () => accessToken });
    client.on("state", ({ state }) => (element.dataset["state"] = state));
    mountIndicator(element, client, { isSignedIn: () => window.signedIn });
}"""
LONG_PAUSES = "Math.random = () => 0.999;"
PAUSES_S = [1, 2, 4, 8, 16, 32, 32, 32, 32, 32]
COLOUR = "getComputedStyle(document.querySelector('#light .beaconfire-light')).backgroundColor"
CONNECT = "window.watched.connect()"


async def test_light_has_a_colour_for_each_state_counts_attempts_and_hides_three_seconds_after_connecting(
    table: Table,
) -> None:
    viewer = await table.window(script=LONG_PAUSES)
    page, gateway = viewer.page, table.services.gateways[0]
    light, retry = page.locator("#light"), page.locator("#light").get_by_role("button", name="Retry")
    await viewer.sign_in("Viewer")
    await _stop_the_clock(page)
    await page.evaluate(MOUNT)
    await expect(light).to_have_text("Not connected", use_inner_text=True)
    colours = [await _colour(page)]

    await page.evaluate(CONNECT)
    await expect(light).to_have_text("Connected", use_inner_text=True)
    colours.append(await _colour(page))
    await page.clock.run_for(2999)
    await expect(light).to_be_visible()
    await page.clock.run_for(1)
    await expect(light).to_be_hidden()
    await page.clock.run_for(2000)  # the client counts a connection that has lasted 5 s as a success

    gateway.kill()
    try:
        await expect(light).to_have_attribute("data-state", "connecting")
        await expect(light).to_be_hidden()
        await page.clock.run_for(800)
        colours.append(await _colour(page))
        for attempt, pause_s in enumerate(PAUSES_S, 1):
            await expect(light).to_have_text(f"Reconnecting ({attempt} of 10)…", use_inner_text=True)
            await expect(retry).to_be_hidden()
            await page.clock.run_for(1000 * pause_s)
        await expect(light).to_contain_text("Connection lost (max retries reached)")
        colours.append(await _colour(page))
    finally:
        gateway.start()
    await retry.click()
    await expect(light).to_have_text("Connected", use_inner_text=True)

    assert colours == ["grey", "green", "yellow", "red"]


async def test_light_is_hidden_in_every_state_while_nobody_is_signed_in(table: Table) -> None:
    viewer = await table.window()
    page, light = viewer.page, viewer.page.locator("#light")
    await viewer.sign_in("Viewer")
    await page.evaluate(MOUNT)
    await expect(light).to_have_text("Not connected", use_inner_text=True)

    await page.evaluate("window.signedIn = false")
    await page.evaluate(CONNECT)
    await expect(light).to_have_attribute("data-state", "connected")
    await expect(light).to_be_hidden()
    await page.evaluate("window.watched.close()")
    await expect(light).to_have_attribute("data-state", "disconnected")
    await expect(light).to_be_hidden()


async def test_indicator_of_the_page_is_hidden_after_sign_out(table: Table) -> None:
    viewer = await table.window()
    await viewer.sign_in("Viewer")
    await expect(viewer.page.locator("#connection")).to_have_text("Connected", use_inner_text=True)

    await viewer.page.get_by_role("button", name="Sign out").click()

    await expect(viewer.page.get_by_role("heading", name="Continue as")).to_be_visible()
    await expect(viewer.page.locator("#connection")).to_be_hidden()


async def _stop_the_clock(page: Page) -> None:
    """From now on, the page's time passes only in `run_for`."""
    await page.clock.install()
    await page.clock.pause_at(await page.evaluate("Date.now() + 1000"))


async def _colour(page: Page) -> str:
    """The name of the light's colour."""
    text = await page.evaluate(COLOUR)
    red, green, blue = (int(part) for part in text.removeprefix("rgb(").removesuffix(")").split(","))
    if max(red, green, blue) - min(red, green, blue) < 30:
        return "grey"
    if green == max(red, green, blue):
        return "green"
    return "yellow" if green > red / 2 else "red"
