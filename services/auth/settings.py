"""Settings of auth."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from shared.settings import Settings as Common
from shared.settings import weak_database_password
from shared.tokens import MAX_LIFETIME_S


class Settings(Common):
    """What auth needs to know. Its state is the database and the key folder."""

    port: int = Field(8081, ge=0, le=65535, description="Port for clients; 0 takes a free one")

    database_url: str = Field("sqlite+aiosqlite:///.beaconfire/auth.db", description="Where users and members are kept")
    keys_dir: Path = Field(Path(".beaconfire/keys"), description="Folder of the signing keys; made at the first start")

    issuer: str = Field("beaconfire", description="`iss` of access tokens")
    audience: str = Field("beaconfire", description="`aud` of access tokens")
    access_token_ttl_s: int = Field(900, ge=5, le=MAX_LIFETIME_S, description="Life of an access token, seconds")
    refresh_token_ttl_s: int = Field(30 * 24 * 3600, ge=60, description="Life of an unused refresh token, seconds")

    argon2_time_cost: int = Field(3, ge=1, description="Argon2id passes over the memory (RFC 9106: 3)")
    argon2_memory_kib: int = Field(65_536, ge=32, description="Argon2id memory for each hash, KiB (RFC 9106: 64 MiB)")

    def weak_secrets(self) -> Iterator[tuple[str, str]]:
        yield from super().weak_secrets()
        yield from weak_database_password(self.database_url)
