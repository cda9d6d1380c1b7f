"""Settings of the gateway."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from beaconfire_gateway.process.static_files import check_folder
from beaconfire_gateway.sessions.limits import Limits
from beaconfire_kit.settings import AsksAuth, BehindProxies


class Settings(Limits, AsksAuth, BehindProxies):
    """The settings of a gateway, with the limits on its clients. They are read once and never change."""

    port: int = Field(8080, ge=0, le=65535, description="The port for clients; 0 uses a free one")
    reuse_port: bool = Field(False, description="Whether to share the port with other gateway processes (SO_REUSEPORT)")

    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="The number of processes that share the port, one per core; Linux only; see operate.md",
    )

    static_dir: Annotated[tuple[Path, ...], NoDecode] = Field(
        (),
        description="A folder of files to serve to browsers, for example the demo's page; if empty, none. "
        "Of several folders, joined by `:`, the first that has a file counts",
    )

    max_buffer_bytes: int = Field(
        262_144,
        ge=16_384,
        description="With aiohttp's sockets: bytes that may wait for a client; it must catch up from a quarter on",
    )
    transport: Literal["handover", "aiohttp"] = Field(
        "handover",
        description="`handover`: after its handshake, aiohttp hands sockets over; `aiohttp` needs ten times the memory",
    )
    compression: bool = Field(
        False, description="Whether to compress messages for clients that support it (permessage-deflate)"
    )
    ring_bytes: int = Field(67_108_864, ge=1_048_576, description="Memory for recent events, in bytes")
    ring_age_s: int = Field(60, ge=1, description="The age of the oldest event in memory, in seconds")
    stop_timeout_s: int = Field(5, ge=0, le=300, description="Seconds in which clients must leave a gateway that stops")
    stop_accept_s: int = Field(
        2,
        ge=0,
        le=300,
        description="Seconds for which a gateway that stops still accepts connections, within STOP_TIMEOUT_S: "
        "the time that a load balancer needs to notice",
    )

    @field_validator("static_dir", mode="before")
    @classmethod
    def _check_static_dir(cls, value: Path | str | None) -> tuple[Path, ...]:
        if not value:
            return ()
        whole = Path(value)
        folders = [whole] if whole.is_dir() else [Path(one) for one in str(value).split(os.pathsep) if one]
        return tuple(check_folder(one) for one in folders)

    @field_validator("compression")
    @classmethod
    def _check_compression(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("transport") == "aiohttp":
            raise ValueError("needs the transport handover: aiohttp would compress separately for each connection")
        return value

    @property
    def limits(self) -> Limits:
        """The limits on clients alone."""
        return Limits.model_validate({name: getattr(self, name) for name in Limits.model_fields})
