"""Settings of the gateway."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import NoDecode

from beaconfire_gateway.process.static_files import check_folder
from beaconfire_gateway.sessions.automatic_rooms import AutomaticRooms
from beaconfire_gateway.sessions.limits import Limits
from beaconfire_gateway.wire import msgpack, native, plain, socketio
from beaconfire_kit.room_templates import RoomTemplateText
from beaconfire_kit.settings import AnswersOperators, AsksAuth, BehindProxies, variable

_DIALECTS = (native.SUBPROTOCOL, msgpack.SUBPROTOCOL, plain.NAME, socketio.NAME)
_NAMESPACE = re.compile(r"/[^\s,?]{1,100}")


def _check_dialect(name: str) -> str:
    dialect, colon, namespace = name.partition(":")
    if name in _DIALECTS or (dialect == socketio.NAME and colon and _NAMESPACE.fullmatch(namespace)):
        return name
    raise ValueError(f"{name[:80]!r} is not a dialect: use {', '.join(_DIALECTS)} or {socketio.NAME}:/namespace")


def _check_namespace(name: str) -> str:
    if _NAMESPACE.fullmatch(name) is None:
        raise ValueError(f"{name[:80]!r} is not a namespace: use a name like /realtime; the main one is always there")
    return name


DialectName = Annotated[str, AfterValidator(_check_dialect)]
"""`Dialect.name` of a dialect of this gateway."""
NamespaceName = Annotated[str, AfterValidator(_check_namespace)]


class Settings(Limits, AsksAuth, AnswersOperators, BehindProxies):
    """The settings of a gateway, with the limits on its clients. They are read once and never change."""

    port: int = Field(8080, ge=0, le=65535, description="The port for clients; 0 uses a free one")
    reuse_port: bool = Field(False, description="Whether to share the port with other gateway processes (SO_REUSEPORT)")

    gateway_name: str = Field(
        "",
        max_length=64,
        description="The gateway's name in the first message to each client; if empty, the message has none",
    )
    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="The number of processes that share the port, one per core; Linux only; see operate.md",
    )

    static_dir: Annotated[tuple[Path, ...], NoDecode] = Field(
        (),
        description="Folders with files to serve to browsers, joined by `:`. If several have a file, the first one "
        "counts. If empty, none are served",
    )

    max_buffer_bytes: int = Field(
        262_144,
        ge=16_384,
        description="With BEACONFIRE_TRANSPORT=aiohttp: bytes that may wait for a client. If a quarter of "
        "them wait, the "
        "client gets no live events until it reads",
    )
    transport: Literal["handover", "aiohttp"] = Field(
        "handover",
        description="`handover`: the gateway takes sockets over from aiohttp after the handshake. `aiohttp`: aiohttp "
        "keeps them, and needs ten times the memory",
    )
    socketio_namespaces: Annotated[tuple[NamespaceName, ...], NoDecode] = Field(
        ("/realtime",),
        description="Namespaces that Socket.IO clients may connect to besides the main one, comma-separated",
    )
    automatic_rooms: Annotated[Mapping[DialectName, tuple[RoomTemplateText, ...]], NoDecode] = Field(
        {"socketio:/realtime": ("user:{sub}", "workspace:*")},
        description="Rooms that sessions join at connect without asking, for each protocol (dialect), as a JSON object "
        "of lists; see automatic_rooms.md",
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

    @field_validator("socketio_namespaces", mode="before")
    @classmethod
    def _split_namespaces(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(dict.fromkeys(one.strip() for one in value.split(",") if one.strip()))

    @field_validator("automatic_rooms", mode="before")
    @classmethod
    def _read_automatic_rooms(cls, value: object) -> object:
        try:
            return json.loads(value) if isinstance(value, str) else value
        except ValueError:
            raise ValueError('not a JSON object like {"plain": ["user:{sub}"]}') from None

    @field_validator("compression")
    @classmethod
    def _check_compression(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("transport") == "aiohttp":
            raise ValueError("needs the transport handover: aiohttp would compress separately for each connection")
        return value

    @property
    def rooms_at_connect(self) -> AutomaticRooms:
        """The rooms that sessions join at connect without asking."""
        return AutomaticRooms(self.automatic_rooms, {one.name: one.automatic_rooms for one in self.outside_issuers})

    @model_validator(mode="after")
    def _check_namespaces(self) -> Self:
        """Refuse rooms for a namespace that no client can connect to. The default's namespace may be missing."""
        chosen = self.automatic_rooms if "automatic_rooms" in self.model_fields_set else ()
        for dialect in chosen:
            _, _, namespace = dialect.partition(":")
            if namespace and namespace not in self.socketio_namespaces:
                rooms, namespaces = variable("automatic_rooms"), variable("socketio_namespaces")
                raise ValueError(f"{rooms}: has {dialect!r}, but {namespaces} does not have {namespace}")
        return self

    @property
    def limits(self) -> Limits:
        """The limits on clients alone."""
        return Limits.model_validate({name: getattr(self, name) for name in Limits.model_fields})
