"""Settings every service has, and how they are read: once, in `__main__`, from `BEACONFIRE_…` variables.

Each field has a unit in its name, a default that runs locally and a one-line reason. A wrong value stops the start
with the variable's name.
"""

import hashlib
import json
import re
import sys
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic.alias_generators import to_camel
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ENV_PREFIX = "BEACONFIRE_"

S = TypeVar("S", bound="Settings")


class OutsideIssuer(BaseModel):
    """Somebody else whose access tokens are believed: an identity provider with a JWKS."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )

    name: str = Field(pattern=r"^[a-z0-9]{1,20}$")
    """Ours for it, and the beginning of its users' ids."""
    issuer: str = Field(min_length=1, max_length=500)
    jwks_url: str = Field(pattern=r"^https?://")
    audience: str = Field(min_length=1, max_length=500)
    algorithms: tuple[Literal["EdDSA", "RS256", "ES256"], ...] = Field(("RS256",), min_length=1)
    types: tuple[str, ...] = Field(("at+jwt", "JWT"), min_length=1)
    user_claim: str = Field("sub", min_length=1)
    name_claim: str = "name"
    max_lifetime_s: int = Field(3_600, ge=60, le=86_400)

    def user_id(self, claim: str) -> str:
        """The id of the user that `user_claim` names so, the same every time and nobody else's."""
        plain = f"{self.name}-{claim}"
        if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", plain):
            return plain
        return f"{self.name}_{hashlib.sha256(claim.encode()).hexdigest()[:40]}"


class Settings(BaseSettings):
    """What every service needs; each service's own class adds to it."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="ignore", frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 in a container")
    port: int = Field(0, ge=0, le=65535, description="Port for clients; 0 takes a free one")
    ops_host: str = Field("127.0.0.1", description="Address of the operations port; reachable for operators alone")
    ops_port: int = Field(0, ge=0, le=65535, description="Port for /metrics, /healthz, /readyz; never public")

    nats_url: str = Field("nats://127.0.0.1:4222", description="Broker addresses, comma-separated")
    nats_user: str = Field("", description="Broker user; empty where the broker asks for none")
    nats_password: SecretStr = Field(SecretStr(""), description="Broker password")

    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Browser origins that may use this service, comma-separated; a service's own is always allowed",
    )

    outside_issuers: Annotated[tuple[OutsideIssuer, ...], NoDecode] = Field(
        (),
        description="Other issuers whose users are believed, as a JSON list",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged")
    log_format: Literal["json", "console"] = Field("json", description="json for machines, console for people")

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("outside_issuers", mode="before")
    @classmethod
    def _read_issuers(cls, value: Any) -> Any:
        try:
            return json.loads(value) if isinstance(value, str) and value.strip() else value or ()
        except ValueError:
            raise ValueError("not a JSON list") from None

    @field_validator("outside_issuers")
    @classmethod
    def _check_issuers(cls, value: tuple[OutsideIssuer, ...]) -> tuple[OutsideIssuer, ...]:
        for what in ("name", "issuer"):
            if len({getattr(one, what) for one in value}) < len(value):
                raise ValueError(f"two outside issuers with the same {what}")
        return value

    @property
    def nats_servers(self) -> list[str]:
        return [url.strip() for url in self.nats_url.split(",") if url.strip()]


def read_settings(cls: type[S]) -> S:
    """Read settings from the environment. A wrong value ends the process with exit code 2 and a sentence each."""
    try:
        return cls()
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            name = ".".join(str(step) for step in problem["loc"])
            print(f"{ENV_PREFIX}{name.upper()}: {problem['msg']}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None
