"""A publisher whose broker denies events, as operators see it: readiness, doctor and `beaconfire outbox`."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import insert

from beaconfire import outboxes
from beaconfire.doctor import Deployment, diagnose
from beaconfire.nats_server import NatsServer
from beaconfire.outboxes import CannotLook, Seen
from beaconfire_kit.database import Database
from beaconfire_kit.outbox_table import Refused, WaitingRoot
from beaconfire_kit.relay import STALE_S
from beaconfire_publisher.store import OUTBOX
from tests.broker_changes import change_permissions, change_stream, deny, until_denied
from tests.conftest import broker_settings, connected
from tests.publisher.conftest import PATIENCE_S, Publisher


async def test_refused_event_is_shown_by_doctor_and_sent_again_by_one_command(
    publisher: Publisher, stream: NatsServer, tmp_path: Path
) -> None:
    """The publisher stays ready and warns."""
    denied = f"campaign.{publisher.campaign_id}.settlement.>"
    url = f"sqlite+aiosqlite:///{tmp_path}/publisher.db"
    deny(stream, denied)
    async with connected(stream, "publisher") as nc:
        await until_denied(nc, denied.replace(">", "probe"))
        created = await publisher.owner.post(f"{publisher.campaign}/settlements", {"name": "Emberford"})
        await publisher.owner.post(f"{publisher.campaign}/world-time", {"advanceSeconds": 1})
        behind = await publisher.heard.event()
        warnings = await warned(publisher)
        deployment = Deployment(
            broker_settings(stream, "operator"), services=[publisher.url], databases={"publisher": url}
        )
        checks = {check.name: check for check in await diagnose(deployment)}
        change_permissions(stream, f'deny: ["{denied}", ', "deny: [")
        await until_denied(nc, denied.replace(">", "probe"), denied=False)
        seen = await asyncio.to_thread(outboxes.look, "publisher", url, tmp_path)
        sent = await asyncio.to_thread(outboxes.send_again, "publisher", url, tmp_path, [seen[0].refused[0].event_id])
        again = await publisher.heard.told()

    assert created.status == 201
    assert behind.type == "world_time_changed"
    assert warnings == ["the broker refused 1 event: `beaconfire outbox` shows why, and can resend it"]
    assert checks["publisher"].verdict == "warning"
    assert "may not publish on campaign." in checks["publisher"].found
    assert "--resend-all" in checks["publisher"].advice
    assert checks[publisher.url].verdict == "warning"
    assert sent == 1
    assert again["settlementId"] == created.body["settlement"]["id"]


async def warned(publisher: Publisher) -> list[str]:
    """Return the warnings of `/readyz`, once there are some. It is ready all the time."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answer = await publisher.nobody.get("/readyz")
            assert answer.status == 200, answer
            if "warnings" in answer.body:
                return list(answer.body["warnings"])


def test_outbox_prints_waiting_roots_and_refused_events_for_people_and_as_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = [
        Seen("auth", 0, [], 0, []),
        Seen("publisher", 3, [WaitingRoot("campaign:c1", 2, 12.4)], 1, [Refused("e1", "campaign.c2.state", "no", 5.0)]),
    ]
    outboxes.print_readable(seen, Console(width=120))
    outboxes.print_json(seen)
    said = capsys.readouterr().out

    assert "auth: no event waits, and none was refused" in said
    assert "campaign:c1  2       12 s" in said
    assert "… and 2 more roots" in said
    assert '"event_id": "e1"' in said


@pytest.mark.parametrize(
    ("service", "url", "sentence"),
    [
        ("gateway", None, "there is no service 'gateway' with an outbox. It is one of auth or publisher or workspace"),
        (None, "sqlite:///x.db", "one database is given: name its service"),
        ("auth", None, "this database does not exist"),
        ("auth", "sqlite:///{folder}/old.db", "has no outbox of this version: run `beaconfire migrate`"),
    ],
)
def test_missing_outbox_is_reported_in_one_sentence_and_not_created(
    service: str | None, url: str | None, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "old.db").touch()
    with pytest.raises(CannotLook, match=sentence):
        outboxes.look(service, url and url.format(folder=tmp_path), tmp_path)

    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("old.db")] == []


async def test_publisher_is_not_ready_while_the_stream_takes_no_events(
    publisher: Publisher, stream: NatsServer, tmp_path: Path
) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/publisher.db")
    async with connected(stream, "setup") as setup:
        await change_stream(setup, {"discard": "new", "max_bytes": 100})
        async with database.writing() as tx:
            row = {"event_id": "waits", "subject": "campaign.c1.state", "body": b"{}", "created_at": datetime.now(UTC)}
            await tx.execute(insert(OUTBOX).values(**row))
        await database.close()
        async with asyncio.timeout(STALE_S + PATIENCE_S):
            while (answer := await publisher.nobody.get("/readyz")).status == 200:
                await asyncio.sleep(0.1)
    [seen] = await asyncio.to_thread(outboxes.look, "publisher", str(database.url), tmp_path)

    assert [one.root for one in seen.waiting] == ["campaign:c1"]
    assert answer.body["status"].startswith("no event reaches the stream, the oldest has waited for")
    assert "maximum bytes exceeded" in answer.body["status"]
