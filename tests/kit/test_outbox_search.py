"""Operators find an event in an outbox: by id, offset or correlation id, and see what it waits for."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from beaconfire_kit import outbox_table
from beaconfire_kit.database import Database
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.outbox_table import Written
from tests.databases import on_both_databases
from tests.gateway.conftest import settlement
from tests.kit.outboxes import ROWS, opened


def row(campaign_id: str, event_id: str, correlation_id: str | None = None, **more: Any) -> dict[str, Any]:
    envelope = Envelope(settlement("s1", campaign_id), Metadata(source="api", correlation_id=correlation_id))
    return {
        "event_id": event_id,
        "subject": envelope.subject,
        "body": envelope.encode(),
        "created_at": datetime.now(UTC),
        "published_at": None,
        "stream_offset": None,
        "refused": None,
        **more,
    }


async def find(database: Database, **wanted: Any) -> list[Written]:
    async with database.reading() as connection:
        return await outbox_table.find(connection, ROWS, **wanted)


@on_both_databases
async def test_an_event_is_found_by_id_offset_and_correlation_id_with_those_ahead_of_it(tmp_path: Path) -> None:
    sent = {"published_at": datetime.now(UTC), "stream_offset": 7}
    async with opened(tmp_path) as database:
        async with database.writing() as tx:
            await tx.execute(
                insert(ROWS),
                [
                    row("c1", "sent", "req-1", **sent),
                    row("c1", "first"),
                    row("c2", "other"),
                    row("c1", "second", "req-1"),
                    row("c1", "third", "req-10"),
                    row("c1", "refused", published_at=datetime.now(UTC), refused="denied"),
                ],
            )

        by_id = await find(database, event_id="third")
        by_offset = await find(database, offset=7)
        by_correlation = await find(database, event_id="req-1", correlation_id="req-1")
        refused = await find(database, event_id="refused")
        nothing = await find(database)

    assert [(one.event_id, one.ahead, one.first_ahead) for one in by_id] == [("third", 2, "first")]
    assert [(one.event_id, one.stream_offset, one.ahead) for one in by_offset] == [("sent", 7, 0)]
    assert [one.event_id for one in by_correlation] == ["sent", "second"]
    assert [one.refused for one in refused] == ["denied"]
    assert nothing == []
