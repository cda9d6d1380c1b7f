"""services.publisher.app: starting without its neighbours, readiness, stopping."""

from pathlib import Path

from tests.publisher.conftest import Heard, StubAuth, publisher_settings, publishing
from tools.nats_server import NatsServer


async def test_stops_at_once(stream: NatsServer, auth: StubAuth, tmp_path: Path) -> None:
    """A publisher that is stopped while it starts ends without waiting for anything."""
    async with publishing(publisher_settings(stream, auth, tmp_path), auth, Heard()) as publisher:
        url = publisher.url

    assert url.startswith("http://127.0.0.1:")
