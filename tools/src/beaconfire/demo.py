"""Create the demo over the public HTTP interfaces: four users and a campaign."""

from dataclasses import asdict, dataclass
from typing import Any

from beaconfire.api import ApiError, call

PASSWORD = "beaconfire"  # noqa: S105  (of demo people, printed on the screen)
CAMPAIGN = "The Vale of Embers"


class NotSeeded(Exception):
    """The demo could not be created. The text names the failed call and the reason."""


@dataclass(frozen=True, slots=True)
class Person:
    """A demo user."""

    name: str
    role: str | None
    hint: str

    @property
    def email(self) -> str:
        return f"{self.name.lower()}@demo.example"

    def sign_in(self) -> dict[str, str]:
        """Return what the demo page needs to offer this sign-in."""
        row = asdict(self) | {"email": self.email, "password": PASSWORD}
        return {name: row[name] for name in ("name", "email", "password", "hint")}


PEOPLE = (
    Person("Owner", "owner", "can change everything, including the members"),
    Person("Editor", "editor", "can change everything in the campaign"),
    Person("Viewer", "viewer", "sees everything, but cannot change it"),
    Person("Stranger", None, "is not a member, so it cannot see it"),
)

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


def seed(auth_url: str, publisher_url: str) -> str:
    """Create the missing parts of the demo. Return the campaign's id. Raises NotSeeded. It can be repeated."""
    try:
        return _seed(auth_url, publisher_url)
    except ApiError as error:
        raise NotSeeded(f"the demo could not be created: {error}. `--no-demo` starts without it") from error


def _seed(auth_url: str, publisher_url: str) -> str:
    tokens = {person.name: _sign_up_or_in(auth_url, person) for person in PEOPLE}
    owner = tokens["Owner"]
    campaigns = f"{publisher_url}/v1/campaigns"
    known = call("GET", campaigns, token=owner)["campaigns"]
    campaign = next((one for one in known if one["name"] == CAMPAIGN), None)
    if campaign is None:
        description = "Created by beaconfire up. Change something and watch the other window."
        campaign = call("POST", campaigns, {"name": CAMPAIGN, "description": description}, token=owner)["campaign"]
    _add_members(auth_url, campaign["id"], owner)
    _add_world(f"{campaigns}/{campaign['id']}", owner)
    return str(campaign["id"])


def _sign_up_or_in(auth_url: str, person: Person) -> str:
    credentials = {"email": person.email, "password": PASSWORD}
    try:
        session = call("POST", f"{auth_url}/auth/sign-up", {**credentials, "name": person.name})
    except ApiError as error:
        if error.status != 409:
            raise
        session = call("POST", f"{auth_url}/auth/sign-in", credentials)
    return str(session["accessToken"])


def _add_members(auth_url: str, campaign: str, token: str) -> None:
    for person in PEOPLE:
        if person.role in (None, "owner"):
            continue
        try:
            body = {"email": person.email, "role": person.role}
            call("POST", f"{auth_url}/auth/roots/campaign:{campaign}/members", body, token=token)
        except ApiError as error:
            if error.status != 409:  # a member already
                raise


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
