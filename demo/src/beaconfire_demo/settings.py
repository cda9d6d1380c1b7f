"""Settings of the demo's pages: the addresses of the services, and the sign-ins that they offer."""

import json
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, Field, field_validator
from pydantic_settings import NoDecode

from beaconfire_demo.applications import APPLICATIONS, CAMPAIGN
from beaconfire_kit.setting_types import HTTP, check_address
from beaconfire_kit.settings import Settings


class DemoPerson(BaseModel):
    """A sign-in that the page offers with one click."""

    name: str
    email: str
    password: str
    hint: str = ""


class PageSettings(Settings):
    """The settings that the page is written with. Of the common ones it uses `environment`, as it is not a service."""

    public_auth_url: str = Field("", description="Auth's address for the page; if empty, the page's own address")
    public_publisher_url: str = Field(
        "", description="The publisher's address for the page; if empty, the page's own address"
    )
    public_workspace_url: str = Field(
        "", description="The workspace service's address for its page; if empty, the page's own address"
    )
    public_tracker_url: str = Field(
        "", description="The tracker's address for its page; if empty, the page's own address"
    )
    public_socket_url: str = Field(
        "", description="The socket's address for the page; if empty, `ws` at the page's own address"
    )
    applications: Annotated[tuple[str, ...], NoDecode] = Field(
        (CAMPAIGN.name,), description="The applications to write, separated by commas; the first one is at `/`"
    )
    demo_people: Annotated[tuple[DemoPerson, ...], NoDecode] = Field(
        (), description="Sign-ins that the page offers, as a JSON list; only for development"
    )

    @field_validator("demo_people", mode="before")
    @classmethod
    def _read_people(cls, value: Any) -> Any:
        try:
            return json.loads(value) if isinstance(value, str) else value
        except ValueError:
            raise ValueError("not a JSON list") from None

    @field_validator("applications", mode="before")
    @classmethod
    def _read_applications(cls, value: Any) -> Any:
        names = [part.strip() for part in value.split(",")] if isinstance(value, str) else list(value)
        if unknown := [name for name in names if name not in APPLICATIONS]:
            raise ValueError(f"{unknown[0]!r} is no application: it is one of {', '.join(APPLICATIONS)}")
        if not names:
            raise ValueError(f"names no application: choose among {', '.join(APPLICATIONS)}")
        return tuple(dict.fromkeys(names))

    @field_validator("public_auth_url", "public_publisher_url", "public_workspace_url", "public_tracker_url")
    @classmethod
    def _check_public(cls, value: str) -> str:
        if "?" in value or "#" in value:
            raise ValueError(f"{value!r} has a query or a fragment: paths are put behind it")
        return check_address(value, HTTP).rstrip("/") if value else ""

    @field_validator("public_socket_url")
    @classmethod
    def _check_socket(cls, value: str) -> str:
        return check_address(value, ("ws", "wss")) if value else ""

    def weak_secrets(self) -> Iterator[tuple[str, str]]:
        if self.demo_people:
            yield "demo_people", "shows passwords to every visitor of the page: leave it empty"
