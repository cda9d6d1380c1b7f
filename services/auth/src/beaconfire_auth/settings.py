"""Settings of auth."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from beaconfire_kit.authorizer import AuthorizerSetting
from beaconfire_kit.setting_files import MayContainPassword
from beaconfire_kit.settings import (
    DEVELOPMENT_SERVICE_TOKEN,
    AnswersOperators,
    BehindProxies,
    DatabaseSettings,
    OwnIssuer,
    read_json_list,
)
from beaconfire_kit.tokens import MAX_LIFETIME_S
from beaconfire_kit.weak_secrets import MIN_KEY, weakness

DEVELOPMENT_SECRET = "for development only"  # noqa: S105  (refused elsewhere)


class Settings(BehindProxies, AnswersOperators, DatabaseSettings):
    """The settings of auth. All its state is in the database."""

    port: int = Field(8081, ge=0, le=65535, description="The port for clients; 0 uses a free one")

    database_url: MayContainPassword = Field(
        "sqlite+aiosqlite:///.beaconfire/auth.db", description="The database of users and members"
    )
    keys_secret: SecretStr = Field(
        SecretStr(DEVELOPMENT_SECRET),
        description="Encrypts the signing keys in the database; to change it, write the new secret, a comma, the old "
        "secret",
    )
    key_lead_s: int = Field(
        120, ge=0, le=3_600, description="Seconds for which a new signing key is published before it signs"
    )
    grant_tokens: SecretStr = Field(
        SecretStr(DEVELOPMENT_SERVICE_TOKEN),
        description="Tokens with which services may create members over the broker, comma-separated; see operate.md",
    )

    authorizers: Annotated[tuple[AuthorizerSetting, ...], NoDecode] = Field(
        (), description="Applications that decide about roots of one kind, as a JSON list; see authorizers.md"
    )

    issuer: OwnIssuer = Field("beaconfire", description="The `iss` of access tokens")
    audience: str = Field("beaconfire", min_length=1, description="The `aud` of access tokens")
    access_token_ttl_s: int = Field(
        900, ge=5, le=MAX_LIFETIME_S, description="The lifetime of an access token, in seconds"
    )
    refresh_token_ttl_s: int = Field(
        30 * 24 * 3600, ge=60, description="The lifetime of an unused refresh token, in seconds"
    )

    attempts_per_minute_address: int = Field(
        10, ge=1, description="Sign-ins and sign-ups per minute from one address, for all auth processes together"
    )
    attempts_per_minute_account: int = Field(
        10, ge=1, description="Sign-ins and sign-ups per minute for one account, for all auth processes together"
    )
    member_changes_per_minute: int = Field(
        600, ge=1, description="Changes of members per minute by one user, for all auth processes together"
    )
    service_changes_per_minute: int = Field(
        30_000, ge=1, description="Changes of members and access per minute by one service, for all auth processes"
    )
    argon2_parallel: int = Field(
        2, ge=1, le=64, description="Passwords that are hashed at the same time, one thread each"
    )
    argon2_queue: int = Field(
        20, ge=0, description="Passwords that may wait to be hashed; further callers get an error and retry later"
    )
    argon2_time_cost: int = Field(3, ge=1, description="Argon2id passes over the memory (RFC 9106: 3)")
    argon2_memory_kib: int = Field(65_536, ge=32, description="Argon2id memory per hash, in KiB (RFC 9106: 64 MiB)")

    @field_validator("authorizers", mode="before")
    @classmethod
    def _read_authorizers(cls, value: Any) -> Any:
        return read_json_list(value)

    @field_validator("authorizers")
    @classmethod
    def _check_authorizers(cls, value: tuple[AuthorizerSetting, ...]) -> tuple[AuthorizerSetting, ...]:
        if len({one.root_kind for one in value}) < len(value):
            raise ValueError("two authorizers for one kind of root")
        return value

    @field_validator("keys_secret")
    @classmethod
    def _check_keys_secret(cls, value: SecretStr) -> SecretStr:
        if not all(part.strip() for part in value.get_secret_value().split(",")):
            raise ValueError("is empty, or has an empty part")
        return value

    @property
    def keys_secrets(self) -> list[str]:
        """The secrets that open the signing keys; the first seals them."""
        return [part.strip() for part in self.keys_secret.get_secret_value().split(",")]

    @property
    def granting(self) -> list[str]:
        """The tokens with which a service may make members."""
        return [part.strip() for part in self.grant_tokens.get_secret_value().split(",") if part.strip()]

    def weak_secrets(self) -> Iterator[tuple[str, str]]:
        yield from super().weak_secrets()
        for one in self.authorizers:
            if not one.is_private:
                yield "authorizers", f"the answers about {one.root_kind} come over plain HTTP: use an https:// address"
            for signing in one.read_secrets():
                if weak := weakness(signing.as_text, min_length=MIN_KEY):
                    yield "authorizers", f"a secret about {one.root_kind} {weak}: `openssl rand -base64 32` makes one"
        for secret in self.keys_secrets:
            if weak := weakness(secret, min_length=MIN_KEY):
                yield (
                    "keys_secret",
                    f"{weak}: `openssl rand -hex 24` makes one; keep it away from backups",
                )
        for token in self.granting:
            if weak := weakness(token, min_length=MIN_KEY):
                yield "grant_tokens", f"{weak}: `openssl rand -hex 24` makes one; give it to the service, too"
