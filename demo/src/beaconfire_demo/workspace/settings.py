"""Settings of the workspace service."""

from pydantic import Field

from beaconfire_kit.setting_files import MayContainPassword
from beaconfire_kit.settings import CreatesRoots, DatabaseSettings


class Settings(CreatesRoots, DatabaseSettings):
    """Settings of the workspace service. Its state is in the database."""

    port: int = Field(8084, ge=0, le=65535, description="The port for clients; 0 uses a free one")
    database_url: MayContainPassword = Field(
        "sqlite+aiosqlite:///.beaconfire/workspace.db", description="The database of workspaces and unsent events"
    )
