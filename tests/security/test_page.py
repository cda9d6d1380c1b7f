"""T20: the page shows users' text as text, in headless Chromium."""

import pytest
from playwright.async_api import expect

from beaconfire.api import call
from tests.browser.conftest import Table, _chromium, _demo_campaign, _demo_services, _table

__all__ = ["_chromium", "_demo_campaign", "_demo_services", "_table"]

HARMS = [
    "<img src=x onerror='window.harmed=1'>",
    "<script>window.harmed=1</script>",
    "\"><svg onload='window.harmed=1'>",
    "javascript:window.harmed=1",
    "{{constructor.constructor('window.harmed=1')()}}",
]


@pytest.mark.parametrize("harm", HARMS)
async def test_markup_in_every_text_field_is_shown_as_text(table: Table, harm: str) -> None:
    """T20: markup stands in a member's name, and in names, descriptions, kinds and variables of everything.

    It is shown in the list, in the feed and in messages.
    """
    owner = await table.seat("Owner")
    token = await owner.page.evaluate("JSON.parse(sessionStorage.getItem('beaconfire-session')).accessToken")
    place = {"name": harm, "description": harm, "kind": harm[:64], "variables": {"note": harm}}
    made = call("POST", f"{table.campaign_url}/settlements", place, token=token)["settlement"]
    built = {"name": harm, "type": harm[:64], "variables": {"note": harm}}
    call("POST", f"{table.campaign_url}/settlements/{made['id']}/structures", built, token=token)
    entity = {"type": "location", "name": harm, "data": {"note": harm}}
    thing = call("POST", f"{table.campaign_url}/entities", entity, token=token)["entity"]
    before = await owner.page.locator("main img, main script, main svg[onload]").count()

    await expect(owner.page.locator(".settlement").filter(has_text=harm).get_by_role("heading").first).to_have_text(
        harm
    )
    await owner.page.reload()
    await expect(owner.page.locator(".settlement").filter(has_text=harm).first).to_be_visible()

    assert await owner.page.evaluate("window.harmed") is None
    assert await owner.page.locator("main img, main script, main svg[onload]").count() == before
    assert owner.troubles == []
    call("DELETE", f"{table.campaign_url}/settlements/{made['id']}", token=token)
    call("DELETE", f"{table.campaign_url}/entities/location/{thing['id']}", token=token)
