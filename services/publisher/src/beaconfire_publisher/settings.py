"""Settings of the publisher."""

from pydantic import Field

from beaconfire_kit.setting_files import MayContainPassword
from beaconfire_kit.settings import CreatesRoots, DatabaseSettings
from beaconfire_publisher.limits import PublishingLimits, Requests


class WorkerSettings(DatabaseSettings):
    """Settings of the publisher's workers: its database, and how much users may publish."""

    database_url: MayContainPassword = Field(
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
        description="Percent of the stream that one user may fill in 7 days before it may publish less; 0 "
        "means no limit",
    )
    root_stream_percent: float = Field(
        10,
        ge=0,
        le=100,
        description="Percent of the stream that one root may fill in 7 days before it gets fewer events; 0 means no "
        "limit",
    )

    def publishing_limits(self) -> PublishingLimits:
        """Return the limits on what users publish, over HTTP and by the clocks that they set."""
        return PublishingLimits.of(
            user=(self.user_events_per_minute, self.user_event_bytes_per_minute, self.user_stream_percent),
            root=(self.root_events_per_minute, self.root_event_bytes_per_minute, self.root_stream_percent),
        )


class Settings(CreatesRoots, WorkerSettings):
    """Settings of the publisher. Its state is in the database."""

    port: int = Field(8082, ge=0, le=65535, description="The port for clients; 0 uses a free one")
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
