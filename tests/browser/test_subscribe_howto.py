"""The code of docs/howto/subscribe.md runs in a browser as it is written, against the real publisher."""

import re

from playwright.async_api import expect

from beaconfire.api import call
from tests.browser.conftest import Table
from tests.docs.tree import blocks

SCRIPTS = [block.text for block in blocks("docs/howto/subscribe.md") if block.language == "js"]
# What the page says that the reader's own page has.
AROUND = """async ([url, campaign]) => {
    const { accessToken } = JSON.parse(sessionStorage.getItem("beaconfire-session"));
    const headers = { Authorization: `Bearer ${accessToken}`, "Content-Type": "application/json" };
    const said = (window.said = []);
    const say = (what) => (value) => said.push([what, value]);
    const [show, takeBack, reload, load, leavePage, setTime] =
        ["show", "takeBack", "reload", "load", "leavePage", "setTime"].map(say);
    const myAccessToken = async () => accessToken;
    const edit = { level: 41 };
    const body = JSON.stringify(edit);
    const element = document.createElement("div");
    element.id = "connection";
    document.querySelector("#connection").replaceWith(element);
    {CODE}
}"""

# Not wait_for_function: it evaluates text, which the page's Content-Security-Policy forbids.
UNTIL_TOLD = """(name) => new Promise((resolve) => {
    const look = () => {
        const found = window.said.find(([what]) => what === name);
        if (found) resolve(found[1]);
        else setTimeout(look, 20);
    };
    look();
})"""


async def test_code_of_the_page_loads_subscribes_narrows_and_waits_for_its_own_change(table: Table) -> None:
    subscribe, only_some_types, change = SCRIPTS
    owner = await table.window()
    await owner.sign_in("Owner")
    token = table.token("Owner")
    settlements = call("GET", f"{table.campaign_url}/settlements", token=token)["settlements"]
    code = f"{subscribe} {only_some_types} {{ {change} }} return said;"
    code = re.sub(r"import (\{.*\}) from (\S+);", r"const \1 = await import(\2);", code)
    code = code.replace('"wss://live.example/ws"', 'location.origin.replace("http", "ws") + "/ws"')
    code = code.replace('"/v1/campaigns/c1/', "`${campaign}/").replace('settlements"', "settlements`")
    code = code.replace('"campaign:c1"', f'"campaign:{table.campaign}"')

    await owner.page.evaluate(
        AROUND.replace("{CODE}", code),
        [f"{table.campaign_url}/settlements/{settlements[0]['id']}", table.campaign_url],
    )
    said = await owner.page.evaluate("window.said")
    loaded, shown = (value for what, value in said if what == "show")
    changes = [value for what, value in said if what == "reload" and "settlementId" in value]
    await expect(owner.page.locator("#connection")).to_have_attribute("data-look", "green")
    call("POST", f"{table.campaign_url}/world-time", {"advanceSeconds": 3600}, token=token)
    new_time = await owner.page.evaluate(UNTIL_TOLD, "setTime")

    assert len(loaded["settlements"]) == len(settlements)
    assert shown == {"level": 41}
    assert [(one["settlementId"], one["changedFields"]) for one in changes] == [(settlements[0]["id"], ["level"])]
    assert new_time == call("GET", table.campaign_url, token=token)["campaign"]["worldTime"]
    assert owner.troubles == []
