"""Settings of the gateway."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from beaconfire_gateway.process.static_files import check_folder
from beaconfire_gateway.sessions.limits import Limits
from beaconfire_kit.settings import AsksAuth


class Settings(Limits, AsksAuth):
    """What a gateway needs to know, with the limits on its clients. Nothing of it is state."""

    port: int = Field(8080, ge=0, le=65535, description="Port for clients; 0 takes a free one")
    reuse_port: bool = Field(False, description="Share the port with other gateway processes (SO_REUSEPORT)")

    workers: int = Field(
        1, ge=1, le=64, description="Processes that share the port, one for each core; see deploy.md. Linux only"
    )

    static_dir: Path | None = Field(
        None, description="Folder of files that are served to browsers, such as the demo's page; empty: none"
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

    @field_validator("static_dir", mode="before")
    @classmethod
    def _check_static_dir(cls, value: Path | str | None) -> Path | None:
        return check_folder(Path(value)) if value else None

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
