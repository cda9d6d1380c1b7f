"""F18: a database that cannot be written to fails the write with 503, without a change or an event."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event

from tests.databases import database_url
from tests.publisher.conftest import Publisher


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """The publisher's SQLite file, opened by another program. Use it after `publisher`."""
    connection = sqlite3.connect(database_url(tmp_path, "publisher").partition("///")[2], isolation_level=None)
    yield connection
    connection.close()


@contextmanager
def room_for(pages: int) -> Iterator[None]:
    """As on a full disk, the publisher's file cannot grow beyond so many pages."""

    def limit(connection: Connection) -> None:
        if "publisher" in str(connection.engine.url):
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    event.listen(Engine, "begin", limit)
    try:
        yield
    finally:
        event.remove(Engine, "begin", limit)


def told(file: sqlite3.Connection) -> tuple[list[str], int]:
    """Return the names of the settlements, and the number of events about settlements."""
    names = [name for (name,) in file.execute("SELECT name FROM settlements ORDER BY created_at")]
    (events,) = file.execute("SELECT count(*) FROM outbox WHERE subject LIKE '%.settlement.%'").fetchone()
    return names, events


async def test_locked_sqlite_refuses_a_change_after_five_seconds_without_row_or_event(
    publisher: Publisher, file: sqlite3.Connection
) -> None:
    """F18: the next change succeeds once the lock is gone."""
    path = f"{publisher.campaign}/settlements"
    file.execute("BEGIN EXCLUSIVE")
    refused = await publisher.editor.post(path, {"name": "Refused"})
    file.execute("ROLLBACK")
    made = await publisher.editor.post(path, {"name": "Made"})
    heard = await publisher.heard.told()

    assert refused.error == (503, "unavailable")
    assert refused.body["error"]["retryAfterMs"] > 0
    assert "sqlite" not in refused.message.lower()
    assert made.status == 201
    assert heard["settlementId"] == made.body["settlement"]["id"]
    assert told(file) == (["Made"], 1)


async def test_full_disk_refuses_changes_while_reads_go_on_and_logs_no_user_text(
    publisher: Publisher, file: sqlite3.Connection, capfd: pytest.CaptureFixture[str]
) -> None:
    """Fault F18 of docs/topics/delivery.md."""
    path = f"{publisher.campaign}/settlements"
    text = "x" * 9_000
    made: list[str] = []
    (pages,) = file.execute("PRAGMA page_count").fetchone()
    with room_for(pages + 20):
        while (
            answer := await publisher.editor.post(path, {"name": f"n{len(made)}", "description": text})
        ).status == 201:
            made.append(f"n{len(made)}")
        listed = await publisher.viewer.get(path)

    assert answer.error == (503, "unavailable")
    assert [one["name"] for one in listed.body["settlements"]] == made
    assert told(file) == (made, len(made))
    assert text[:100] not in "".join(capfd.readouterr())
