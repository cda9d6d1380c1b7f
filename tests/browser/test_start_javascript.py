"""docs/start/javascript.md, followed from an empty folder: its page shows what happens in another window."""

from collections.abc import Iterator

import pytest
from playwright.async_api import expect

from beaconfire import demo
from beaconfire.local_services import Plan, Services
from tests.browser.conftest import Table
from tests.docs.tree import write_blocks
from tests.forked import all_running

PAGE = "docs/start/javascript.md"


@pytest.fixture(name="demo_services", scope="module")
def _demo_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The services with the page's two files, which name the ports of these services."""
    folder = tmp_path_factory.mktemp("live")
    write_blocks(PAGE, folder)
    plan = Plan(tmp_path_factory.mktemp("start"), page=folder, people=[person.sign_in() for person in demo.PEOPLE])
    with all_running(plan) as whole:
        script = folder / "live.js"
        text = script.read_text()
        for usual, url in (("http://127.0.0.1:8081", whole.auth_url), ("http://127.0.0.1:8082", whole.publisher_url)):
            assert usual in text
            text = text.replace(usual, url)
        script.write_text(text)
        yield whole


async def test_page_shows_what_another_window_changed_and_catches_up_after_it_was_offline(table: Table) -> None:
    first, second = await table.window(), await table.window()
    line, light = first.page.get_by_text("Emberford: level"), first.page.locator("#connection")
    raise_level = second.page.get_by_role("button", name="Raise Emberford")
    await expect(line).to_be_visible()
    before = await line.inner_text()
    await raise_level.click()
    await expect(line).not_to_have_text(before, use_inner_text=True)
    before = await line.inner_text()
    assert first.troubles == []

    await first.context.set_offline(True)
    await expect(light).to_contain_text("Reconnecting")
    await raise_level.click()
    await first.context.set_offline(False)
    await expect(line).not_to_have_text(before, use_inner_text=True)
    await expect(light).to_have_attribute("data-look", "green")
