"""Settings of the tracker."""

from collections.abc import Iterator

from pydantic import Field, SecretStr

from beaconfire_kit.settings import DEVELOPMENT_SERVICE_TOKEN, AsksAuth, DatabaseSettings, variable
from beaconfire_kit.weak_secrets import MIN_KEY, weakness


class Settings(AsksAuth, DatabaseSettings):
    """Settings of the tracker. Its state is in the database."""

    port: int = Field(8085, ge=0, le=65535, description="The port for clients; 0 uses a free one")
    database_url: str = Field(
        "sqlite+aiosqlite:///.beaconfire/tracker.db", description="The database of workspaces and unsent events"
    )
    service_token: SecretStr = Field(
        SecretStr(DEVELOPMENT_SERVICE_TOKEN),
        description="The token that makes the creator of a workspace its owner; auth issues it",
    )

    def weak_secrets(self) -> Iterator[tuple[str, str]]:
        yield from super().weak_secrets()
        if weak := weakness(self.service_token.get_secret_value(), min_length=MIN_KEY):
            yield (
                "service_token",
                f"{weak}: `openssl rand -hex 24` makes one; put it into auth's {variable('grant_tokens')}, too",
            )
