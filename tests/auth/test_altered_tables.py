"""Auth on a PostgreSQL whose tables are altered under load, as migrations do while processes run."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from beaconfire.nats_server import NatsServer
from tests.auth.conftest import running_auth
from tests.load import Load, alter

pytestmark = pytest.mark.usefixtures("on_postgresql")


async def test_no_request_gets_500_while_columns_change_their_types(stream: NatsServer, tmp_path: Path) -> None:
    """Every read is answered with 200."""
    async with running_auth(stream, tmp_path) as auth:
        owner = await auth.sign_up("owner")
        newest = owner.refresh_token

        async def refresh() -> Any:
            nonlocal newest
            answer = await auth.call("POST", "/auth/refresh", {"refreshToken": newest})
            newest = answer.body["refreshToken"] if answer.status == 200 else newest
            return answer

        load = Load()
        asked: dict[str, Callable[[], Awaitable[Any]]] = {
            "me": lambda: auth.call("GET", "/auth/me", token=owner.token),
            "memberships": lambda: auth.call("GET", "/auth/memberships", token=owner.token),
            "sign_in": lambda: auth.sign_in("owner"),
            "refresh": refresh,
        }
        async with load.running(**asked):
            await alter(tmp_path, "auth", load, asked, ["users.name", "members.role", "refresh_tokens.family"])

    assert load.statuses <= {200, 503}, load.answers
    assert {status for name, status in load.answers if name in ("me", "memberships")} == {200}, load.answers
