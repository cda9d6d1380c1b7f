"""The page behind a proxy that serves it below a path of its own."""

from collections.abc import Iterator

import pytest
from playwright.async_api import expect

from beaconfire import demo
from beaconfire.local_services import Plan, Services
from beaconfire.nats_server import free_port
from tests.browser.conftest import Table
from tests.forked import all_running
from tests.proxy import Proxy

PREFIX = "/games/table"
PORT = free_port()


@pytest.fixture(name="demo_services", scope="module")
def _demo_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The whole set; its services answer pages of the proxy."""
    people = [person.sign_in() for person in demo.PEOPLE]
    folder = tmp_path_factory.mktemp("prefix")
    origins = (f"http://127.0.0.1:{PORT}",)
    with all_running(Plan(folder, origins=origins, people=people)) as whole:
        yield whole


def _stripped(chunk: bytes) -> bytes:
    """Pass a request on as a proxy does: without the prefix. Requests outside it are for another service."""
    method, space, target = chunk.partition(b" ")
    if method not in {b"GET", b"HEAD"}:
        return chunk  # frames of a socket
    prefix = PREFIX.encode()
    if target.startswith(prefix + b" "):
        return method + space + b"/" + target.removeprefix(prefix)
    return (
        method + space + (target.removeprefix(prefix) if target.startswith(prefix + b"/") else b"/elsewhere" + target)
    )


async def test_page_below_a_path_prefix_loads_signs_in_and_is_live(table: Table) -> None:
    async with Proxy(table.services.gateways[0].port, port=PORT, rewrite=_stripped).running():
        window = await table.window()
        await window.page.goto(f"http://127.0.0.1:{PORT}{PREFIX}/")
        await window.sign_in("Owner")
        await window.open_campaign()
        await window.page.get_by_role("button", name="Raise the level of Emberford").click()
        await expect(window.page.locator(".entry-text").first).to_contain_text("You changed the level of Emberford")
        assert window.sockets[-1].url == f"ws://127.0.0.1:{PORT}{PREFIX}/ws"
        assert window.troubles == []

        await window.page.goto(f"http://127.0.0.1:{PORT}{PREFIX}/no/such/page")
        await window.page.get_by_role("link", name="Go to the start page").click()
        await expect(window.page.get_by_role("link", name=demo.campaign.CAMPAIGN)).to_be_visible()


async def test_page_below_a_prefix_explains_a_missing_slash_at_the_end_of_its_address(table: Table) -> None:
    async with Proxy(table.services.gateways[0].port, port=PORT, rewrite=_stripped).running():
        window = await table.window()
        await window.page.goto(f"http://127.0.0.1:{PORT}{PREFIX}")
        hint = window.page.get_by_text("its address must end with a slash")
        await expect(hint).to_be_visible()

        await window.page.goto(f"http://127.0.0.1:{PORT}{PREFIX}/")
        await expect(window.page.get_by_role("heading", name="Continue as")).to_be_visible()
        await expect(hint).to_have_count(0)


async def test_hint_about_slow_loading_appears_with_reduced_motion_too(table: Table) -> None:
    window = await table.window()
    await window.page.emulate_media(reduced_motion="reduce")
    await window.page.route("**/main.js", lambda route: route.abort())
    await window.page.goto(f"http://127.0.0.1:{table.services.gateways[0].port}/")

    await window.page.evaluate("for (const one of document.getAnimations()) one.finish()")
    style = "getComputedStyle(document.querySelector('.loading'), '::after').visibility"
    assert await window.page.evaluate(style) == "visible"
    await expect(window.page.get_by_text("its address must end with a slash")).to_be_hidden()
