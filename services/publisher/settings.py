"""Settings of the publisher."""

from collections.abc import Iterator

from pydantic import Field, SecretStr

from shared.settings import DEVELOPMENT_SERVICE_TOKEN, DatabaseSettings, HttpAddress, variable
from shared.strength import MIN_KEY, weakness


class WorkerSettings(DatabaseSettings):
    """What the publisher's workers need to know: where its database is."""

    database_url: str = Field(
        "sqlite+aiosqlite:///.beaconfire/publisher.db", description="Where campaigns and unsent events are kept"
    )


class Settings(WorkerSettings):
    """What the publisher needs to know. Its state is in the database."""

    port: int = Field(8082, ge=0, le=65535, description="Port for clients; 0 takes a free one")
    jwks_url: HttpAddress = Field(
        "http://127.0.0.1:8081/.well-known/jwks.json", description="Where the keys of access tokens are"
    )
    issuer: str = Field("beaconfire", min_length=1, description="`iss` of accepted tokens")
    audience: str = Field("beaconfire", min_length=1, description="`aud` of accepted tokens")
    service_token: SecretStr = Field(
        SecretStr(DEVELOPMENT_SERVICE_TOKEN),
        description="Shown to auth for grants, up to a comma: one of its BEACONFIRE_GRANT_TOKENS, or an issued one",
    )

    @property
    def shown_token(self) -> str:
        """What auth is shown: the first part. The others are those it replaces, which auth still takes."""
        return self.service_token.get_secret_value().partition(",")[0].strip()

    def weak_secrets(self) -> Iterator[tuple[str, str]]:
        yield from super().weak_secrets()
        if weak := weakness(self.shown_token, min_length=MIN_KEY):
            yield (
                "service_token",
                f"{weak}: `openssl rand -hex 24` makes one; put it into auth's {variable('grant_tokens')}, too",
            )
