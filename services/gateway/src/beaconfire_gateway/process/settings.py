"""Settings of the gateway."""

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from beaconfire_gateway.sessions.limits import Limits
from beaconfire_kit.settings import HTTP, AsksAuth, check_address


class DemoPerson(BaseModel):
    """A sign-in that the demo page offers with one click."""

    name: str
    email: str
    password: str
    hint: str = ""


class Settings(Limits, AsksAuth):
    """What a gateway needs to know, with the limits on its clients. Nothing of it is state."""

    port: int = Field(8080, ge=0, le=65535, description="Port for clients; 0 takes a free one")
    reuse_port: bool = Field(False, description="Share the port with other gateway processes (SO_REUSEPORT)")

    workers: int = Field(
        1, ge=1, le=64, description="Processes that share the port, one for each core; see deploy.md. Linux only"
    )

    public_auth_url: str = Field("", description="Auth as the page reaches it; empty: where the page is")
    public_publisher_url: str = Field("", description="The publisher as the page reaches it; empty: where the page is")
    public_socket_url: str = Field("", description="The socket as the page reaches it; empty: `ws` where the page is")
    demo_people: Annotated[tuple[DemoPerson, ...], NoDecode] = Field(
        (), description="Sign-ins the page offers, as a JSON list; development only"
    )

    max_buffer_bytes: int = Field(
        262_144,
        ge=16_384,
        description="Where sockets are aiohttp's: memory for a stuck one, bytes; it has to catch up from a quarter on",
    )
    transport: Literal["handover", "aiohttp"] = Field(
        "handover",
        description="Who serves sockets: we, once aiohttp has done the handshake, or aiohttp, at ten times the memory",
    )
    compression: bool = Field(False, description="Compress messages for clients that can take it (permessage-deflate)")
    ring_bytes: int = Field(67_108_864, ge=1_048_576, description="Memory for the newest events, bytes")
    ring_age_s: int = Field(60, ge=1, description="Age of the oldest event kept in memory, seconds")
    stop_timeout_s: int = Field(5, ge=0, le=300, description="Seconds clients have to leave when the gateway stops")
    stop_accept_s: int = Field(
        2,
        ge=0,
        le=300,
        description="Seconds a gateway that stops accepts connections, at least, within STOP_TIMEOUT_S: "
        "as long as a load balancer may go on sending them",
    )

    @field_validator("demo_people", mode="before")
    @classmethod
    def _read_people(cls, value: Any) -> Any:
        try:
            return json.loads(value) if isinstance(value, str) else value
        except ValueError:
            raise ValueError("not a JSON list") from None

    @field_validator("public_auth_url", "public_publisher_url")
    @classmethod
    def _check_public(cls, value: str) -> str:
        if "?" in value or "#" in value:
            raise ValueError(f"{value!r} has a query or a fragment: paths are put behind it")
        return check_address(value, HTTP).rstrip("/") if value else ""

    @field_validator("public_socket_url")
    @classmethod
    def _check_socket(cls, value: str) -> str:
        return check_address(value, ("ws", "wss")) if value else ""

    @field_validator("compression")
    @classmethod
    def _check_compression(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("transport") == "aiohttp":
            raise ValueError("needs the transport handover: aiohttp would compress for each connection by itself")
        return value

    @property
    def limits(self) -> Limits:
        """The limits on clients alone."""
        return Limits.model_validate({name: getattr(self, name) for name in Limits.model_fields})

    def weak_secrets(self) -> Iterator[tuple[str, str]]:
        yield from super().weak_secrets()
        if self.demo_people:
            yield "demo_people", "shows passwords to everybody who opens the page: leave it empty"
