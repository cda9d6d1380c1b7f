"""Create the campaign's demo over the public HTTP interfaces."""

from collections.abc import Mapping
from typing import Any

from beaconfire.api import call
from beaconfire.demo.people import add_members

CAMPAIGN = "The Vale of Embers"

SETTLEMENTS: tuple[dict[str, Any], ...] = (
    {
        "name": "Emberford",
        "kind": "town",
        "level": 3,
        "population": 1240,
        "description": "The ford, the market and the only bridge for two days' ride.",
        "variables": {"food": 40, "morale": 7, "walled": True},
        "structures": [
            {"name": "Old Mill", "type": "mill", "level": 2, "variables": {"output": 12}},
            {"name": "Smithy", "type": "smithy", "level": 1, "variables": {"output": 3}},
            {"name": "Market Hall", "type": "market", "level": 2},
        ],
    },
    {
        "name": "Greywatch",
        "kind": "fort",
        "level": 2,
        "population": 180,
        "description": "A garrison that watches the northern pass.",
        "variables": {"food": 15, "morale": 5, "walled": True},
        "structures": [{"name": "Watchtower", "type": "tower", "level": 3, "variables": {"range": 20}}],
    },
    {
        "name": "Saltmere",
        "kind": "village",
        "level": 1,
        "population": 410,
        "description": "Salt pans, fishing boats, rumours.",
        "variables": {"food": 60, "morale": 8},
        "structures": [{"name": "Harbour", "type": "harbour", "level": 1, "variables": {"boats": 9}}],
    },
)
ENTITIES: tuple[dict[str, Any], ...] = (
    {"type": "location", "name": "The Sunken Shrine", "data": {"explored": False, "danger": 4}},
    {"type": "encounter", "name": "Wolves on the north road", "data": {"wolves": 6, "resolved": False}},
)


def seed(auth_url: str, publisher_url: str, tokens: Mapping[str, str]) -> str:
    """Create the missing parts. Return the campaign's id. Raises ApiError. It can be repeated."""
    owner = tokens["Owner"]
    campaigns = f"{publisher_url}/v1/campaigns"
    known = call("GET", campaigns, token=owner)["campaigns"]
    campaign = next((one for one in known if one["name"] == CAMPAIGN), None)
    if campaign is None:
        description = "Created by beaconfire up. Change something and watch the other window."
        campaign = call("POST", campaigns, {"name": CAMPAIGN, "description": description}, token=owner)["campaign"]
    add_members(auth_url, f"campaign:{campaign['id']}", owner)
    _add_world(f"{campaigns}/{campaign['id']}", owner)
    return str(campaign["id"])


def _add_world(campaign_url: str, token: str) -> None:
    for wanted in SETTLEMENTS:
        settlement = _ensure(f"{campaign_url}/settlements", "settlement", wanted, token)
        for structure in wanted["structures"]:
            _ensure(f"{campaign_url}/settlements/{settlement['id']}/structures", "structure", structure, token)
    for entity in ENTITIES:
        _ensure(f"{campaign_url}/entities", "entity", entity, token)


def _ensure(url: str, kind: str, wanted: dict[str, Any], token: str) -> dict[str, Any]:
    """Return the thing with this name. Create it if it is missing."""
    plural = "entities" if kind == "entity" else f"{kind}s"
    for one in call("GET", url, token=token)[plural]:
        if one["name"] == wanted["name"]:
            return dict(one)
    body = {name: value for name, value in wanted.items() if name != "structures"}
    return dict(call("POST", url, body, token=token)[kind])
