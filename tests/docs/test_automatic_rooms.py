"""The settings on the page about automatic rooms are accepted, and its templates mean what its table says."""

import json

from beaconfire_gateway.process.settings import Settings
from beaconfire_kit.outside_issuer import OutsideIssuer
from beaconfire_kit.room_templates import RoomTemplate
from tests.docs.tree import ROOT, blocks

PAGE = "docs/howto/automatic_rooms.md"


def test_settings_of_the_page_are_accepted_and_its_default_is_that_of_the_setting() -> None:
    [setting] = [block.text.split("='")[1].rstrip("'\n") for block in blocks(PAGE) if block.language == "sh"]
    [issuer] = [block.text for block in blocks(PAGE) if block.language == "json"]
    chosen = Settings(environment="development", automatic_rooms=json.loads(setting))
    default = Settings(environment="development").automatic_rooms

    assert chosen.automatic_rooms.items() >= default.items()
    assert OutsideIssuer.model_validate_json(issuer).automatic_rooms == ("workspace:{claims.workspaceId}",)


def test_every_template_in_the_table_of_the_page_can_be_used() -> None:
    rows = [line for line in (ROOT / PAGE).read_text().splitlines() if line.startswith("| `")]
    templates = [RoomTemplate.parse(row.split("`")[1]) for row in rows]
    made = {one.text: list(one.rooms("u1", {"workspaceId": ["w1", "w2"]})) for one in templates}

    assert made == {
        "user:{sub}": ["user:u1"],
        "workspace:{claims.workspaceId}": ["workspace:w1", "workspace:w2"],
        "workspace:*": [],
        "workspace:lobby": ["workspace:lobby"],
    }
