"""Read settings from `BEACONFIRE_…` variables, once, in `__main__`. The settings that every service has are here.

Each field has a unit in its name, a default that runs locally and a one-line reason. With a wrong value the service
does not start, and names the variable. Outside development the same holds for a default or weak secret. A secret may
also be in a file (`setting_files`).
"""

import difflib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, Literal, NoReturn, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import NoDecode, SettingsConfigDict

from beaconfire_kit.origins import normal_origin
from beaconfire_kit.outside_issuer import OutsideIssuer
from beaconfire_kit.secret_files import read_secrets
from beaconfire_kit.setting_files import SUFFIX, FileSettings, FilesUnusable, MayContainPassword, may_be_in_file
from beaconfire_kit.setting_types import HttpAddress, OptionalHttpAddress, check_ends
from beaconfire_kit.weak_secrets import MIN_KEY, MIN_PASSWORD, weakness

ENV_PREFIX = "BEACONFIRE_"
DEVELOPMENT_SERVICE_TOKEN = "for development only"  # noqa: S105  (refused elsewhere)
_BROKER_SCHEMES = ("nats", "tls", "ws", "wss")

_MISSPELT = 0.9
"""How similar two names must be for one to count as a misspelling of the other (difflib's ratio)."""

S = TypeVar("S", bound="Settings")


def _is_no_other(issuer: str, info: ValidationInfo) -> str:
    if any(one.issuer == issuer for one in info.data.get("outside_issuers", ())):
        raise ValueError(f"{issuer!r} is an outside issuer, too (BEACONFIRE_OUTSIDE_ISSUERS): name it once")
    return issuer


OwnIssuer = Annotated[str, Field(min_length=1), AfterValidator(_is_no_other)]
"""`iss` of auth's own tokens. An outside issuer of the same name would be asked for the keys of these tokens."""


class Settings(FileSettings):
    """The settings that every service has. Each service's own class adds to them."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="ignore", frozen=True)

    environment: Literal["production", "development"] = Field(
        "production",
        description="`development` also starts with weak secrets; only for machines that others cannot reach",
    )

    host: str = Field("127.0.0.1", min_length=1, description="The address to listen on; 0.0.0.0 in a container")
    port: int = Field(0, ge=0, le=65535, description="The port for clients; 0 uses a free one")
    ops_host: str = Field(
        "127.0.0.1", min_length=1, description="The address of the operations port; only operators may reach it"
    )
    ops_port: int = Field(
        0, ge=0, le=65535, description="The port for /metrics, /healthz and /readyz; never make it public"
    )

    nats_url: MayContainPassword = Field("nats://127.0.0.1:4222", description="The broker's addresses, comma-separated")
    nats_user: str = Field("", description="The broker user; empty if the broker needs none")
    nats_password: SecretStr = Field(SecretStr(""), description="The broker user's password")

    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Allowed browser origins, comma-separated (https://app.example.com); the service's own origin is "
        "always allowed",
    )

    outside_issuers: Annotated[tuple[OutsideIssuer, ...], NoDecode] = Field(
        (),
        description="Other issuers whose tokens are accepted, as a JSON list; see use_your_own_users.md",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The lowest level that is logged"
    )
    access_log: bool = Field(
        False, description="Whether to log each HTTP request: route, status, duration, and no id, address or token"
    )
    log_format: Literal["json", "console"] = Field("json", description="`json` for machines, `console` for people")

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_stray_space(cls, value: object, info: ValidationInfo) -> object:
        """Refuse white space at the ends. A text from a file often ends with a line break, and then never matches."""
        is_text = cls.model_fields[info.field_name or ""].annotation in (str, SecretStr)
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if is_text and isinstance(text, str):
            check_ends(text)
        return value

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return _parts(value) if isinstance(value, str) else value

    @field_validator("allowed_origins")
    @classmethod
    def _normalise_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(normal_origin(one) for one in value))

    @field_validator("nats_url")
    @classmethod
    def _check_addresses(cls, value: str) -> str:
        if not all(_is_broker_address(one) for one in _parts(value)) or not _parts(value):
            raise ValueError("has to be addresses like nats://broker.example:4222, comma-separated")
        return value

    @field_validator("outside_issuers", mode="before")
    @classmethod
    def _read_issuers(cls, value: Any) -> Any:
        return read_json_list(value)

    @field_validator("outside_issuers")
    @classmethod
    def _check_issuers(cls, value: tuple[OutsideIssuer, ...]) -> tuple[OutsideIssuer, ...]:
        for what in ("name", "issuer"):
            if len({getattr(one, what) for one in value}) < len(value):
                raise ValueError(f"two outside issuers with the same {what}")
        names = {one.name: one for one in value}
        for one in value:  # backends name an issuer either way
            if names.get(one.issuer, one) is not one:
                raise ValueError(f"{one.issuer} is the name of one outside issuer and the iss of {one.name}: rename it")
        return value

    @property
    def nats_servers(self) -> list[str]:
        return list(_parts(self.nats_url))

    def weak_secrets(self) -> Iterator[tuple[str, str]]:
        """Yield settings that only development may have: the field's name, what is wrong with it, and what to do."""
        if not self.nats_user:
            yield "nats_user", "is empty: connect as one of the broker's users (deploy/nats/single.conf)"
        if weak := weakness(self.nats_password.get_secret_value(), min_length=MIN_PASSWORD):
            yield "nats_password", f"{weak}: set the broker user's password, `openssl rand -hex 24` makes one"
        for issuer in self.outside_issuers:
            if issuer.jwks_url and not issuer.jwks_url.startswith("https://"):
                yield "outside_issuers", f"the keys of {issuer.name} come over plain HTTP: use its https:// address"
            for secret in read_secrets(issuer.secret_files, issuer.secret_encoding):
                if weak := weakness(secret.as_text, min_length=MIN_KEY):
                    yield "outside_issuers", f"a secret of {issuer.name} {weak}: agree on another with the issuer"


def read_json_list(value: Any) -> Any:
    """Return a setting's list, which is written as JSON or was chosen in code. Raises ValueError."""
    try:
        return json.loads(value) if isinstance(value, str) and value.strip() else value or ()
    except ValueError:
        raise ValueError("not a JSON list") from None


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(text)
    except ValueError:
        pass
    else:
        return _as_compared(network, text)
    try:
        whole = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not a network: write 10.0.0.0/8, or an address alone") from None
    raise ValueError(f"{text!r} is an address within a network: write {whole} or {text.partition('/')[0]}")


def _as_compared(network: IPv4Network | IPv6Network, text: str) -> IPv4Network | IPv6Network:
    """Return the network in the form that addresses are compared with: IPv4 networks as IPv4, even if mapped into IPv6.

    Raises ValueError for the unspecified address, because no client has it.
    """
    if network.num_addresses == 1 and network.network_address.is_unspecified:
        raise ValueError(f"{text!r} is not a proxy's address: write {network.network_address}/0 to trust every address")
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    return IPv4Network((mapped, network.prefixlen - 96)) if mapped and network.prefixlen >= 96 else network


def _is_broker_address(text: str) -> bool:
    try:
        parts = urlsplit(text if "://" in text else f"nats://{text}")
        return bool(parts.hostname) and parts.scheme in _BROKER_SCHEMES and parts.port != 0
    except ValueError:
        return False


class BehindProxies(Settings):
    """The settings of a service that counts clients by their address."""

    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        (),
        description="Networks of trusted proxies, which may name the client's address, comma-separated (10.0.0.0/8)",
    )
    forwarded_header: Literal["X-Forwarded-For", "Forwarded"] = Field(
        "X-Forwarded-For",
        description="The header in which trusted proxies give the client's address; the other is ignored, because "
        "clients can forge it",
    )

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _read_networks(cls, value: object) -> object:
        return tuple(_network(one) for one in _parts(value)) if isinstance(value, str) else value


class AsksAuth(Settings):
    """The settings of a service that verifies tokens and asks auth about their users."""

    jwks_url: HttpAddress = Field(
        "http://127.0.0.1:8081/.well-known/jwks.json", description="The address of the keys of access tokens"
    )
    auth_url: OptionalHttpAddress = Field(
        "", description="Auth's HTTP address, used while the broker is away; if empty, the host of the JWKS URL"
    )
    issuer: OwnIssuer = Field("beaconfire", description="The `iss` of accepted tokens")
    audience: str = Field("beaconfire", min_length=1, description="The `aud` of accepted tokens")

    @property
    def auth_at(self) -> str:
        """The address at which auth is asked over HTTP."""
        jwks = urlsplit(self.jwks_url)
        return self.auth_url or f"{jwks.scheme}://{jwks.netloc}"


class AnswersOperators(Settings):
    """The settings of a service whose operations port shows or changes more than figures."""

    operator_token: SecretStr = Field(
        SecretStr(""),
        description="The token that operators send on the operations port, for calls that need it; if empty, these "
        "calls are refused",
    )

    def weak_secrets(self) -> Iterator[tuple[str, str]]:
        yield from super().weak_secrets()
        token = self.operator_token.get_secret_value()
        if token and (weak := weakness(token, min_length=MIN_KEY)):
            yield "operator_token", f"{weak}: `openssl rand -hex 24` makes one; empty, operators are refused"


class CreatesRoots(AsksAuth):
    """The settings of a service that creates roots: it makes their first owners."""

    service_token: SecretStr = Field(
        SecretStr(DEVELOPMENT_SERVICE_TOKEN),
        description="The token with which the service creates members: one of auth's BEACONFIRE_GRANT_TOKENS, or an "
        "issued service token. Only the part before a comma counts",
    )

    @property
    def shown_token(self) -> str:
        """The token that auth is shown: the first part. The other parts are older tokens, which auth still accepts."""
        return self.service_token.get_secret_value().partition(",")[0].strip()

    def weak_secrets(self) -> Iterator[tuple[str, str]]:
        yield from super().weak_secrets()
        if weak := weakness(self.shown_token, min_length=MIN_KEY):
            yield (
                "service_token",
                f"{weak}: `openssl rand -hex 24` makes one; put it into auth's {variable('grant_tokens')}, too",
            )


def weak_database_password(url: str) -> Iterator[tuple[str, str]]:
    """Yield a problem of the password in a database's URL. Files and databases on a local socket need none."""
    try:
        host, password = urlsplit(url).hostname, urlsplit(url).password
    except ValueError:
        return  # not a URL: the error comes when the database is opened
    if host and (weak := weakness(unquote(password or ""), min_length=MIN_PASSWORD)):
        yield "database_url", f"its password {weak}: give the database user another, and put it here"


class DatabaseSettings(Settings):
    """The settings of a service with a database. Each service sets its own default URL."""

    database_url: MayContainPassword
    migrate_on_start: bool | None = Field(
        None, description="Whether to migrate the database at the start; if empty, only SQLite is migrated"
    )
    database_connections: int = Field(
        10, ge=2, le=500, description="The maximum number of connections to PostgreSQL, per process"
    )
    client_traces_per_s: int = Field(
        10,
        ge=0,
        description="How many traces of clients are continued in a second, per process; see trace_a_change.md",
    )

    def weak_secrets(self) -> Iterator[tuple[str, str]]:
        yield from super().weak_secrets()
        yield from weak_database_password(self.database_url)


def read_settings(cls: type[S], **chosen: Any) -> S:
    """Read settings from the environment. Those that were `chosen` on the command line win over it.

    A wrong value, a misspelt name, or a weak secret outside development ends the process with exit code 2. The process
    prints a sentence for each.
    """
    if misspelt := list(misspellings(cls, os.environ)):
        _refuse(misspelt)
    try:
        settings = cls(**chosen)
    except FilesUnusable as error:
        _refuse(error.sentences)
    except ValidationError as error:
        _refuse(dict.fromkeys(_problem(one) for one in error.errors(include_url=False, include_input=False)))
    weak = [f"{variable(name)}: {why}" for name, why in settings.weak_secrets()]
    if weak and settings.environment == "production":
        _refuse([*weak, _HINT])
    return settings


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"{ENV_PREFIX}{name.upper()}"


def misspellings(cls: type[Settings], names: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each name that looks like a misspelt variable of the class. Other names are ignored."""
    known = [variable(field) for field in cls.model_fields]
    in_files = [variable(name) + SUFFIX for name, field in cls.model_fields.items() if may_be_in_file(field)]
    for name in names:
        if not name.upper().startswith(ENV_PREFIX) or name.upper() in (*known, *in_files):
            continue
        if (setting := name.upper().removesuffix(SUFFIX)) in known:
            yield f"{name}: {setting} holds no secret, so it cannot be in a file: set {setting}"
        elif near := nearest(name, [*known, *in_files]):
            yield f"{name}: there is no such setting; did you mean {near}?"


def nearest(name: str, known: Sequence[str]) -> str | None:
    """Return the known variable that `name` is a misspelling of, or None."""
    short = [one.removeprefix(ENV_PREFIX) for one in known]
    found = difflib.get_close_matches(name.upper().removeprefix(ENV_PREFIX), short, n=1, cutoff=_MISSPELT)
    return f"{ENV_PREFIX}{found[0]}" if found else None


def _problem(error: Mapping[str, Any]) -> str:
    """Return a sentence about one wrong variable. A place inside a list is not part of the variable's name.

    An error about several variables together has no place, and its sentence names them.
    """
    said = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return said
    name, *inside = error["loc"]
    where = "".join(f", {step}" if isinstance(step, str) else f", entry {step + 1}" for step in inside)
    return f"{variable(str(name))}{where}: {said}"


def _refuse(sentences: Iterable[str]) -> NoReturn:
    for sentence in sentences:
        print(sentence, file=sys.stderr)  # noqa: T201
    raise SystemExit(2)


_HINT = (
    f"Not started: outside development every secret must be set and strong. {ENV_PREFIX}ENVIRONMENT=development "
    "switches this check off, for a machine that others cannot reach."
)
