"""`beaconfire catalogue docs`: the page of any catalogue in a real browser. Hostile texts stay texts."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from playwright.async_api import Browser, Page, expect

from beaconfire.derived.html import html
from beaconfire.derived.markdown import markdown
from beaconfire.derived.reference import sections
from tests.browser.conftest import _chromium
from tests.tools.derived.catalogues import builtin_catalogue, hostile_catalogue, logistics_catalogue

__all__ = ["_chromium"]

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(name="requests")
def _requests() -> list[str]:
    """The addresses that the page has asked for, besides its own."""
    return []


@pytest.fixture(name="errors")
def _errors() -> list[str]:
    return []


@pytest.fixture(name="page")
async def _page(chromium: Browser, requests: list[str], errors: list[str]) -> AsyncIterator[Page]:
    page = await chromium.new_page()
    page.on("request", lambda one: requests.append(one.url) if not one.url.startswith("file:") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield page
    await page.close()


async def test_page_shows_each_event_with_its_subject_rooms_fields_and_example(
    page: Page, tmp_path: Path, requests: list[str], errors: list[str]
) -> None:
    path = tmp_path / "events.html"
    path.write_text(html(logistics_catalogue()))
    await page.goto(path.as_uri())
    moved = page.locator("article", has=page.get_by_role("heading", name="parcel.moved"))

    await expect(moved).to_contain_text("A parcel was scanned, loaded or delivered.")
    await expect(moved).to_contain_text("depot.{depotId}.parcel.{parcelId}")
    await expect(moved).to_contain_text("parcel:{parcelId}")
    await expect(moved.get_by_role("row", name="status")).to_contain_text("in_transit")
    await expect(moved.get_by_role("row", name="location.latitude")).to_contain_text("number from -90 to 90")
    await expect(moved.locator("pre")).to_contain_text('"type": "parcel.moved"')
    assert (requests, errors) == ([], [])


async def test_search_shows_only_the_events_that_it_finds_and_a_link_shows_a_hidden_one_again(
    page: Page, tmp_path: Path
) -> None:
    path = tmp_path / "events.html"
    path.write_text(html(builtin_catalogue()))
    await page.goto(path.as_uri())
    await page.keyboard.press("/")
    await page.keyboard.type("elapsedSeconds")

    await expect(page.locator("article:visible")).to_have_count(1)
    await expect(page.get_by_role("navigation").get_by_role("link")).to_have_text(["world_time_changed"])

    await page.evaluate("location.hash = 'event-comment.created'")

    await expect(page.get_by_role("heading", name="comment.created")).to_be_in_viewport()


async def test_texts_of_a_hostile_fragment_run_nothing_and_fetch_nothing(
    page: Page, tmp_path: Path, requests: list[str], errors: list[str]
) -> None:
    path = tmp_path / "events.html"
    path.write_text(html(hostile_catalogue()))
    await page.goto(path.as_uri())
    ours = await page.locator("script, style").count()
    hacked = await page.evaluate("window.hacked ?? null")

    await expect(page.locator("article").first).to_be_visible()
    await expect(page.locator("img, a[href^=javascript], a[href^=http]")).to_have_count(0)
    await expect(page.locator("#event-nasty\\.enums")).to_contain_text("<script>window.hacked = 1</script>")
    assert (ours, hacked, requests, errors) == (2, None, [], [])


async def test_page_follows_the_readers_colours_and_can_be_switched(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "events.html"
    path.write_text(html(builtin_catalogue()))

    async def paper() -> str:
        return str(await page.evaluate("getComputedStyle(document.body).backgroundColor"))

    await page.emulate_media(color_scheme="dark")
    await page.goto(path.as_uri())
    dark = await paper()
    await page.get_by_role("button", name="Dark or light").click()
    switched = await paper()
    await page.emulate_media(color_scheme="light")
    await page.reload()

    assert await paper() == switched != dark


async def test_page_of_a_hostile_fragment_fits_a_phone(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "events.html"
    path.write_text(html(hostile_catalogue()))
    await page.set_viewport_size({"width": 390, "height": 800})
    await page.goto(path.as_uri())

    assert await page.evaluate("document.documentElement.scrollWidth") <= 390


def test_markdown_page_has_a_heading_a_table_and_an_example_for_each_event() -> None:
    text = markdown(logistics_catalogue())

    assert "\n### parcel.moved\n\nA parcel was scanned, loaded or delivered.\n" in text
    assert "| [`parcel.moved`](#parcelmoved) | `depot.{depotId}.parcel.{parcelId}` |" in text
    assert "* rooms: `depot:{depotId}`, `parcel:{parcelId}`" in text
    assert "| `status` | one of `in_depot`, `in_transit`, `delivered` |  |" in text
    assert '"type": "parcel.moved"' in text


def test_markdown_of_a_hostile_fragment_renders_no_markup_of_its_texts() -> None:
    ours = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(markdown(builtin_catalogue()))
    rendered = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(markdown(hostile_catalogue()))

    for tag in ("<img", "<script", "<h1", 'href="javascript', 'href="http'):
        assert rendered.count(tag) == ours.count(tag), tag
    assert rendered.count("<h2") == ours.count("<h2") + 1
    sections_ = [one for one in sections(hostile_catalogue()) if one.entries]
    assert rendered.count("<table") == len(sections_) + sum(
        bool(one.fields) for each in sections_ for one in each.entries
    )
