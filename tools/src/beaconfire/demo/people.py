"""The demo's users: they sign up once, and become members of each application's root."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from beaconfire.api import ApiError, call

PASSWORD = "beaconfire"  # noqa: S105  (of demo people, printed on the screen)


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
    Person("Editor", "editor", "can change everything except the members"),
    Person("Viewer", "viewer", "sees everything, but cannot change it"),
    Person("Stranger", None, "is not a member, so it cannot see it"),
)


def tokens_of_people(auth_url: str) -> Mapping[str, str]:
    """Sign everyone up, or in. Return an access token of each, by name. Raises ApiError."""
    return {person.name: _sign_up_or_in(auth_url, person) for person in PEOPLE}


def add_members(auth_url: str, root: str, token: str) -> None:
    """Make the people members of a root of the owner, whose token this is. Raises ApiError."""
    for person in PEOPLE:
        if person.role in (None, "owner"):
            continue
        try:
            body = {"email": person.email, "role": person.role}
            call("POST", f"{auth_url}/auth/roots/{root}/members", body, token=token)
        except ApiError as error:
            if error.status != 409:  # a member already
                raise


def _sign_up_or_in(auth_url: str, person: Person) -> str:
    credentials = {"email": person.email, "password": PASSWORD}
    try:
        session = call("POST", f"{auth_url}/auth/sign-up", {**credentials, "name": person.name})
    except ApiError as error:
        if error.status != 409:
            raise
        session = call("POST", f"{auth_url}/auth/sign-in", credentials)
    return str(session["accessToken"])
