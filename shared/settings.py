"""Settings every service has, and how they are read: once, in `__main__`, from `BEACONFIRE_…` variables.

Each field has a unit in its name, a default that runs locally and a one-line reason. A wrong value stops the start
with the variable's name, and so does a default or weak secret anywhere but in development.
"""

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic.alias_generators import to_camel
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.strength import MIN_PASSWORD, weakness

ENV_PREFIX = "BEACONFIRE_"
_BROKER_SCHEMES = ("nats", "tls", "ws", "wss")

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

    environment: Literal["production", "development"] = Field(
        "production",
        description="development starts with default and weak secrets too; for machines nobody else reaches",
    )

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

    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        (),
        description="Networks of the proxies whose X-Forwarded-For is believed, comma-separated (10.0.0.0/8)",
    )
    outside_issuers: Annotated[tuple[OutsideIssuer, ...], NoDecode] = Field(
        (),
        description="Other issuers whose users are believed, as a JSON list",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged")
    log_format: Literal["json", "console"] = Field("json", description="json for machines, console for people")

    @field_validator("allowed_origins", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return _parts(value) if isinstance(value, str) else value

    @field_validator("nats_url")
    @classmethod
    def _check_addresses(cls, value: str) -> str:
        if not all(_is_broker_address(one) for one in _parts(value)) or not _parts(value):
            raise ValueError("has to be addresses like nats://broker.example:4222, comma-separated")
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
        return list(_parts(self.nats_url))

    def weak_secrets(self) -> Iterator[tuple[str, str]]:
        """The settings that only development may have: the field's name, and what is wrong with it and to do."""
        if not self.nats_user:
            yield "nats_user", "is empty: connect as one of the broker's users (deploy/nats/single.conf)"
        if weak := weakness(self.nats_password.get_secret_value(), min_length=MIN_PASSWORD):
            yield "nats_password", f"{weak}: set the broker user's password, `openssl rand -hex 24` makes one"
        for issuer in self.outside_issuers:
            if not issuer.jwks_url.startswith("https://"):
                yield "outside_issuers", f"the keys of {issuer.name} come over plain HTTP: use its https:// address"


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _is_broker_address(text: str) -> bool:
    try:
        parts = urlsplit(text if "://" in text else f"nats://{text}")
        return bool(parts.hostname) and parts.scheme in _BROKER_SCHEMES and parts.port != 0
    except ValueError:
        return False


def weak_database_password(url: str) -> Iterator[tuple[str, str]]:
    """What is wrong with the password in a database's URL. A file has none, nor has a database on a local socket."""
    try:
        host, password = urlsplit(url).hostname, urlsplit(url).password
    except ValueError:
        return  # no URL: what opens it says so
    if host and (weak := weakness(unquote(password or ""), min_length=MIN_PASSWORD)):
        yield "database_url", f"its password {weak}: give the database user another, and put it here"


class DatabaseSettings(Settings):
    """What every service with a database needs; each says where its own is by default."""

    database_url: str
    migrate_on_start: bool | None = Field(
        None, description="Bring the database's tables up to date at start; empty: only if it is SQLite"
    )
    database_connections: int = Field(10, ge=2, le=500, description="Connections to PostgreSQL at most, each process")

    def weak_secrets(self) -> Iterator[tuple[str, str]]:
        yield from super().weak_secrets()
        yield from weak_database_password(self.database_url)


def read_settings(cls: type[S], **chosen: Any) -> S:
    """Read settings from the environment; those that were `chosen` on the command line count before it.

    A wrong value, or a weak secret outside development, ends the process with exit code 2 and a sentence each.
    """
    try:
        settings = cls(**chosen)
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            name = ".".join(str(step) for step in problem["loc"])
            print(f"{ENV_PREFIX}{name.upper()}: {problem['msg']}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None
    weak = list(settings.weak_secrets()) if settings.environment == "production" else []
    for name, why in weak:
        print(f"{ENV_PREFIX}{name.upper()}: {why}", file=sys.stderr)  # noqa: T201
    if weak:
        print(_HINT, file=sys.stderr)  # noqa: T201
        raise SystemExit(2)
    return settings


_HINT = (
    f"Not started: outside development every secret must be set and strong. {ENV_PREFIX}ENVIRONMENT=development "
    "starts all the same, on a machine that nobody else reaches."
)
