"""Settings of the publisher."""

from pydantic import Field

from shared.settings import DatabaseSettings, HttpAddress


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
