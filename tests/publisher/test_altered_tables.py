"""The publisher on a PostgreSQL whose tables are altered under load, as migrations do while processes run."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.load import Load, alter
from tests.publisher.conftest import Publisher

pytestmark = pytest.mark.usefixtures("on_postgresql")


async def test_no_request_gets_500_while_columns_change_their_types(publisher: Publisher, tmp_path: Path) -> None:
    """Every read is answered with 200."""
    settlement = await publisher.create("settlements", name="Emberford")
    here = f"{publisher.campaign}/settlements/{settlement['id']}"
    load = Load()
    asked: dict[str, Callable[[], Awaitable[Any]]] = {
        "campaigns": lambda: publisher.owner.get("/v1/campaigns"),
        "settlement": lambda: publisher.owner.get(here),
        "change": lambda: publisher.owner.patch(here, {"population": 7}),
        "creation": lambda: publisher.owner.post(f"{publisher.campaign}/settlements", {"name": "Mirefen"}),
    }
    async with load.running(**asked):
        await alter(tmp_path, "publisher", load, asked, ["campaigns.name", "settlements.name", "outbox.subject"])

    assert load.statuses <= {200, 201, 503}, load.answers
    assert {status for name, status in load.answers if name in ("campaigns", "settlement")} == {200}, load.answers
