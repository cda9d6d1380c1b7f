"""Kingdoms on the demo page: settlements are listed by kingdom, in every window."""

from playwright.async_api import Locator, Page, expect

from beaconfire.api import call
from tests.browser.conftest import Table


async def test_kingdom_is_added_renamed_and_deleted_and_its_settlements_follow_in_the_other_window(
    table: Table,
) -> None:
    owner, viewer = await table.seat("Owner"), await table.seat("Viewer")
    page, seen = owner.page, viewer.page
    dialog = page.get_by_role("dialog")

    await page.get_by_role("button", name="Kingdom", exact=True).click()
    await dialog.get_by_label("Name", exact=True).fill("Northmarch")
    await dialog.get_by_role("button", name="Add", exact=True).click()
    await expect(kingdom(seen, "Northmarch")).to_contain_text("No settlement is in this kingdom.")
    await expect(feed(seen).first).to_contain_text("Owner added Northmarch")
    await expect(seen.get_by_role("button", name="Kingdom", exact=True)).to_have_count(0)

    await page.get_by_role("button", name="Edit Saltmere").click()
    await dialog.get_by_label("Kingdom").select_option("Northmarch")
    await dialog.get_by_role("button", name="Save").click()
    await expect(settlement(kingdom(seen, "Northmarch"), "Saltmere")).to_be_visible()
    await expect(settlement(kingdom(seen, "Without a kingdom"), "Emberford")).to_be_visible()
    await expect(seen.get_by_role("article", name="Saltmere")).to_have_count(1)
    await expect(feed(seen).first).to_contain_text("Owner changed the kingdom of Saltmere")

    await page.get_by_role("button", name="Settlement", exact=True).click()
    await dialog.get_by_label("Name", exact=True).fill("Frosthold")
    await dialog.get_by_label("Kingdom").select_option("Northmarch")
    await dialog.get_by_role("button", name="Add", exact=True).click()
    await expect(settlement(kingdom(seen, "Northmarch"), "Frosthold")).to_be_visible()

    await page.get_by_role("button", name="Edit Northmarch").click()
    await dialog.get_by_label("Name", exact=True).fill("Southmarch")
    await dialog.get_by_role("button", name="Save").click()
    await expect(settlement(kingdom(seen, "Southmarch"), "Frosthold")).to_be_visible()

    await page.get_by_role("button", name="Edit Frosthold").click()
    await dialog.get_by_label("Kingdom").select_option("None")
    await dialog.get_by_role("button", name="Save").click()
    await expect(settlement(kingdom(seen, "Without a kingdom"), "Frosthold")).to_be_visible()

    await page.get_by_role("button", name="Delete Southmarch").click()
    await expect(dialog).to_contain_text("Its settlements stay, without a kingdom.")
    await dialog.get_by_role("button", name="Delete").click()
    await expect(kingdom(seen, "Southmarch")).to_have_count(0)
    await expect(kingdom(seen, "Without a kingdom")).to_have_count(0)
    await expect(seen.get_by_role("article", name="Saltmere")).to_be_visible()
    await page.get_by_role("button", name="Delete Frosthold").click()
    await dialog.get_by_role("button", name="Delete").click()
    await expect(seen.get_by_role("article", name="Frosthold")).to_have_count(0)
    assert owner.troubles + viewer.troubles == []


async def test_second_editor_of_a_settlements_kingdom_chooses_between_the_kingdoms_by_name(table: Table) -> None:
    owner, token = await table.seat("Owner"), table.token("Owner")
    page, dialog = owner.page, owner.page.get_by_role("dialog")
    west, east = (found(table, token, name) for name in ("Westmarch", "Eastmarch"))
    await expect(kingdom(page, "Eastmarch")).to_be_visible()
    saltmere = await page.get_by_role("article", name="Saltmere").get_attribute("data-key")
    await page.get_by_role("button", name="Edit Saltmere").click()
    call("PATCH", f"{table.campaign_url}/settlements/{saltmere}", {"kingdomId": west}, token=token)
    await dialog.get_by_label("Kingdom").select_option("Eastmarch")
    await dialog.get_by_role("button", name="Save").click()

    await expect(dialog.get_by_role("radio", name="Theirs Westmarch")).to_be_visible()
    await expect(dialog.get_by_role("radio", name="Yours Eastmarch")).to_be_checked()
    await dialog.get_by_role("button", name="Save").click()
    await expect(settlement(kingdom(page, "Eastmarch"), "Saltmere")).to_be_visible()
    for id_ in (west, east):
        call("DELETE", f"{table.campaign_url}/kingdoms/{id_}", token=token)
    await expect(kingdom(page, "Eastmarch")).to_have_count(0)


def found(table: Table, token: str, name: str, description: str = "") -> str:
    """Create a kingdom; its id."""
    body = {"name": name, "description": description}
    return str(call("POST", f"{table.campaign_url}/kingdoms", body, token=token)["kingdom"]["id"])


def kingdom(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True)


def settlement(within: Locator, name: str) -> Locator:
    return within.get_by_role("article", name=name)


def feed(page: Page) -> Locator:
    return page.locator(".entry-text")
