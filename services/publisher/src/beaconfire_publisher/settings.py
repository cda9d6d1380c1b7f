"""Settings of the publisher."""

from collections.abc import Iterator

from pydantic import Field, SecretStr

from beaconfire_kit.settings import DEVELOPMENT_SERVICE_TOKEN, AsksAuth, DatabaseSettings, variable
from beaconfire_kit.weak_secrets import MIN_KEY, weakness
from beaconfire_publisher.limits import PublishingLimits, Requests


class WorkerSettings(DatabaseSettings):
    """Settings of the publisher's workers: its database, and how much users may publish."""

    database_url: str = Field(
        "sqlite+aiosqlite:///.beaconfire/publisher.db", description="The database of campaigns and unsent events"
    )

    user_events_per_minute: int = Field(
        6_000,
        ge=0,
        description="Events per minute that one user may publish over HTTP, in all processes; 0 means no limit",
    )
    root_events_per_minute: int = Field(
        18_000,
        ge=0,
        description="Events per minute that users may publish in one root, in all processes; 0 means no limit",
    )
    user_event_bytes_per_minute: int = Field(
        8 * 1024**2, ge=0, description="Bytes of events per minute that one user may publish; 0 means no limit"
    )
    root_event_bytes_per_minute: int = Field(
        24 * 1024**2,
        ge=0,
        description="Bytes of events per minute that users may publish in one root; 0 means no limit",
    )
    user_stream_percent: float = Field(
        5,
        ge=0,
        le=100,
        description="Share of the stream in 7 days above which one user is slowed down; 0 means no limit",
    )
    root_stream_percent: float = Field(
        10,
        ge=0,
        le=100,
        description="Share of the stream in 7 days above which one root is slowed down; 0 means no limit",
    )

    def publishing_limits(self) -> PublishingLimits:
        """Return the limits on what users publish, over HTTP and by the clocks that they set."""
        return PublishingLimits.of(
            user=(self.user_events_per_minute, self.user_event_bytes_per_minute, self.user_stream_percent),
            root=(self.root_events_per_minute, self.root_event_bytes_per_minute, self.root_stream_percent),
        )


class Settings(AsksAuth, WorkerSettings):
    """Settings of the publisher. Its state is in the database."""

    port: int = Field(8082, ge=0, le=65535, description="The port for clients; 0 uses a free one")
    service_token: SecretStr = Field(
        SecretStr(DEVELOPMENT_SERVICE_TOKEN),
        description="The token for grants, up to a comma: one of auth's BEACONFIRE_GRANT_TOKENS, or an issued token",
    )

    user_requests_per_minute: int = Field(
        6_000, ge=0, description="Requests per minute of one user to this process; 0 means no limit"
    )
    root_requests_per_minute: int = Field(
        30_000, ge=0, description="Requests per minute of all members of a root to this process; 0 means no limit"
    )
    root_sends_per_minute: int = Field(
        30_000,
        ge=0,
        description="Events per minute that services may send to the rooms of a root through this process; "
        "0 means no limit",
    )
    user_body_bytes_per_minute: int = Field(
        64 * 1024**2,
        ge=0,
        description="Bytes of request bodies per minute that one user may send to this process; 0 means no limit",
    )

    def requests(self) -> Requests:
        """Return what counts requests, per user and per root."""
        return Requests(
            user_requests=self.user_requests_per_minute,
            user_body_bytes=self.user_body_bytes_per_minute,
            root_requests=self.root_requests_per_minute,
            root_sends=self.root_sends_per_minute,
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
