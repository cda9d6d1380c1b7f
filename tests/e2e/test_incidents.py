"""Faults staged in a running set: the documented command finds each, and the documented cure ends it.

docs/howto/troubleshoot.md, "Ten incidents", has the table. The other rows have tests where their parts are: a full disk
of the broker in test_full_disk.py, a full stream in tests/tools/test_doctor.py, a full disk of a database in
tests/kit/test_database_full.py, and slow clients in tests/gateway/transports.
"""

import asyncio
import copy
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from beaconfire import outboxes
from beaconfire.doctor import CannotDiagnose
from beaconfire.local_services import Plan, ServiceProcess, Services
from beaconfire.nats_server import free_port
from beaconfire_kit.catalogue import builtin
from beaconfire_kit.catalogue_store import CatalogueStore
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.events.campaign import SettlementUpdated
from beaconfire_kit.roles import Role
from beaconfire_kit.stream_setup import declare_stream
from tests.client import Closed, open_socket
from tests.conftest import connected
from tests.e2e.conftest import Line
from tests.e2e.examined import database, looked_at, problems
from tests.e2e.staged import next_update, until, watched, write_row
from tests.forked import all_running
from tests.tools.terminal import run

LOOKS_UP = ', "$JS.API.CONSUMER.CREATE.EVENTS.outbox-publisher"'
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(name="running", scope="module")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The set of this module. Each test cures what it breaks."""
    folder: Path = tmp_path_factory.mktemp("incidents")
    with all_running(Plan(folder, gateways=1, monitoring_port=free_port())) as services:
        yield services


def log_of(services: Services, *, since: dict[str, int] | None = None) -> dict[str, str]:
    """What each process has logged, or only what came after `since`."""
    files = [services.nats.log_path, *(one.process.log_path for one in services.services)]
    return {file.name: file.read_text()[(since or {}).get(file.name, 0) :] for file in files}


@asynccontextmanager
async def without_permission(services: Services, text: str) -> AsyncIterator[None]:
    """Let the broker run with a configuration that lacks a permission. In the end, it has it again."""
    config = services.nats.folder / "nats-server.conf"
    whole = config.read_text()
    assert text in whole
    config.write_text(whole.replace(text, "", 1))
    await asyncio.to_thread(services.nats.reload)
    try:
        yield
    finally:
        config.write_text(whole)
        await asyncio.to_thread(services.nats.reload)


async def test_doctor_finds_nothing_wrong_with_the_running_set_and_no_process_logs_an_error_because_of_it(
    line: Line,
) -> None:
    """No red line appears in any other terminal."""
    async with watched(line) as campaign:
        await campaign.change(2)
        await campaign.hears()
    before = {name: len(text) for name, text in log_of(line.services).items()}
    checks = await looked_at(line.services)
    logged = log_of(line.services, since=before)

    assert problems(checks) == {}
    assert checks["versions"].verdict == "ok"
    assert checks["relay of publisher"].found.split(", ")[0].endswith(f":{line.services.publisher.process.pid}")
    assert [line for text in logged.values() for line in text.splitlines() if is_red(line)] == []


def is_red(line: str) -> bool:
    return "[ERR]" in line or "[WRN]" in line or re.search(r'"level": ?"(warning|error|critical)"', line) is not None


async def test_missing_permission_is_found_and_the_refused_event_is_sent_after_the_cure(line: Line) -> None:
    services = line.services
    async with watched(line) as campaign:
        async with without_permission(services, '"campaign.>", '):
            found = (await looked_at(services))["user publisher"]
            await campaign.change(3)
            await until_none_waits(services)
            refused = await until(services, "publisher", "warning")
        resent = await asyncio.to_thread(
            outboxes.send_again, "publisher", database(services, "publisher"), Path(), None
        )
        heard = await campaign.hears()
        cured = await looked_at(services)

    assert "may not publish on campaign.>" in found.found
    assert "beaconfire broker config" in found.advice
    assert "`beaconfire outbox publisher --resend-all`" in refused.advice
    assert resent >= 1
    assert heard["event"]["payload"]["changedFields"] == ["level"]
    assert problems(cured) == {}


async def until_none_waits(services: Services) -> None:
    """Wait until the publisher's outbox knows of each event that it was sent or refused.

    The event of a worker may be refused before that of the change.
    """
    async with asyncio.timeout(60):
        while (await outboxes.look_at("publisher", database(services, "publisher"))).waiting_roots:
            await asyncio.sleep(0.1)


async def test_event_that_blocks_its_root_is_named_with_the_missing_permission(line: Line) -> None:
    """An event that waited for long is looked up first, for which the publisher needs a consumer.

    No other event has this root: the outbox may still hold young events of the campaigns of other tests.
    """
    services = line.services
    root = "campaign:alone"
    async with without_permission(services, LOOKS_UP):
        update = SettlementUpdated(
            campaign_id="alone", settlement_id="s1", operation="update", changed_fields=("name",)
        )
        old = Envelope(update, Metadata(source="api"))
        await write_row(database(services, "publisher"), old, age=timedelta(minutes=20))
        blocked = await until(services, f"publisher {root}", "warning")
        user = (await looked_at(services))["user publisher"]
        outbox = run(services.nats.folder, "outbox", "publisher", "--database-url", database(services, "publisher"))
        logged = services.publisher.process.log_path.read_text()
    async with asyncio.timeout(60):
        while f"publisher {root}" in await looked_at(services):
            await asyncio.sleep(0.2)

    assert f"1 event waits behind event {old.id}" in blocked.found
    assert "`cannot look for old events in the stream, trying again`" in blocked.advice
    assert "cannot look for old events in the stream, trying again" in logged
    assert "may not publish on $JS.API.CONSUMER.CREATE.EVENTS.outbox-publisher" in user.found
    assert old.id in outbox.text


async def test_catalogue_older_than_the_code_is_found_and_setup_cures_it(line: Line) -> None:
    document: dict[str, Any] = copy.deepcopy(dict(builtin.documents()["campaign"]))
    document["channels"].popitem()
    async with connected(line.services.nats, "setup") as setup:
        await CatalogueStore(setup).push([document], by="test", allow_removals=True)
        found = await looked_at(line.services)
        await declare_stream(setup)
    cured = await looked_at(line.services)

    assert "older than this version's" in problems(found)["fragment campaign"]
    assert "run `beaconfire setup`" in problems(found)["fragment campaign"]
    assert problems(cured) == {}


async def test_clock_that_is_off_is_found_with_what_it_breaks_and_gone_once_it_is_set(
    line: Line, tmp_path: Path
) -> None:
    """A gateway's clock is five minutes ahead, until NTP sets it."""
    offset = tmp_path / "offset"
    offset.write_text("+300s")
    gateway = ServiceProcess(
        "ahead",
        "beaconfire_gateway",
        {**line.services.gateways[0].process.environment, **with_clock(offset), "BEACONFIRE_GATEWAY_NAME": "ahead"},
        folder=tmp_path,
    )
    name = f"clock of {gateway.ops_url}"
    try:
        await asyncio.to_thread(gateway.start)
        off = await looked_at(line.services, gateway.ops_url)
        offset.write_text("+0s")
        cured = await looked_at(line.services, gateway.ops_url)
    finally:
        gateway.kill()

    assert re.match(r"(299|300|301)\.\d s ahead of this machine's", problems(off)[name])
    assert "run NTP" in problems(off)[name]
    assert problems(cured) == {}


def with_clock(offset: Path) -> dict[str, str]:
    """The variables of a process whose clock is off by as much as a file says, at each moment."""
    program = shutil.which("faketime")
    assert program, "faketime is missing: `make clocks` installs it"
    asked = subprocess.run([program, "-f", "+1s", "sh", "-c", "echo $LD_PRELOAD"], capture_output=True, text=True)
    return {
        "LD_PRELOAD": asked.stdout.strip(),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


async def test_revoked_token_is_named_in_the_gateways_log_and_a_new_sign_in_cures_it(line: Line) -> None:
    owner = await line.sign_up("owner")
    await line.auth("POST", "/auth/sign-out", {"refreshToken": owner.refresh_token, "everywhere": True})
    with pytest.raises(Closed) as refused:
        async with open_socket(line.services.gateways[0].url) as client:
            await client.connect(owner.token)
    signed_in = await line.auth("POST", "/auth/sign-in", {"email": owner.email, "password": "correct horse"})
    async with open_socket(line.services.gateways[0].url) as client:
        ack = await client.connect(signed_in["accessToken"])

    assert (refused.value.code, "access was revoked" in refused.value.reason) == (4401, True)
    logged = log_of(line.services)
    closing = [
        json.loads(line) for line in logged["gateway-1.log"].splitlines() if owner.id in line and "closing" in line
    ]
    assert [(one["event"], one["code"], one["reason"]) for one in closing] == [
        ("closing session", 4401, "access was revoked: sign in again")
    ]
    assert '"everywhere": true, "event": "signed out"' in logged["auth.log"]
    assert ack["type"] == "connection.ack"


async def test_event_for_other_roles_shows_its_audience_at_its_offset(line: Line) -> None:
    """A viewer does not hear it, and the event says why."""
    services = line.services
    async with watched(line) as campaign, connected(services.nats, "publisher") as nc:
        viewer = await line.sign_up("viewer")
        await line.add_member(campaign.owner, campaign.campaign, viewer, "viewer")
        update = SettlementUpdated(
            campaign_id=campaign.campaign, settlement_id="s1", operation="update", changed_fields=("secret",)
        )
        async with open_socket(services.gateways[0].url) as other:
            await other.connect(viewer.token, [f"campaign:{campaign.campaign}"])
            secret = Envelope(update, Metadata(source="api", audience=(Role.OWNER,)))
            offset = json.loads((await nc.request(secret.subject, secret.encode())).data)["seq"]
            await campaign.hears()
            await campaign.change(5)
            first = await next_update(other)
        url = f"{services.gateways[0].ops_url}/api/v1/ws/events/{offset}"
        shown = await line.call("GET", url, token=services.operator_token)

    assert first["event"]["payload"]["changedFields"] == ["level"]
    assert '"audience": ["owner"]' in json.dumps(shown)


async def test_dead_letters_are_counted_by_doctor_and_shown_with_their_reason(line: Line, tmp_path: Path) -> None:
    services = line.services
    async with connected(services.nats, "publisher") as nc:
        await nc.request("campaign.c1.state", b'{"type": "nonsense"}')
    found = await until(services, "dead letters", "warning")
    shown = await asyncio.to_thread(run, tmp_path, "deadletters", **services.nats.environment("operator"))

    assert "`beaconfire deadletters`" in found.advice
    assert "campaign.c1.state" in shown.text


async def test_broker_that_is_away_is_named_by_doctor_and_readyz_and_nothing_is_lost(line: Line) -> None:
    services = line.services
    async with watched(line) as campaign:
        services.nats.kill()
        with pytest.raises(CannotDiagnose, match="does the broker run") as found:
            await looked_at(services)
        await campaign.change(7)
        why = await asyncio.to_thread(until_not_ready, services)
        await asyncio.to_thread(services.nats.start)
        heard = await campaign.hears()

    assert services.nats.url in str(found.value)
    assert "broker" in why
    assert heard["event"]["payload"]["changedFields"] == ["level"]


def until_not_ready(services: Services) -> str:
    while (why := services.publisher.why_not_ready()) is None:
        pass
    return why
