"""The doctor compares code, catalogue, stream and permissions: each difference is one finding with what to run."""

import asyncio
import copy
import json
from typing import Any

from beaconfire.broker_users import Publisher
from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.broker import STREAM
from beaconfire_kit.catalogue import builtin
from beaconfire_kit.catalogue_store import CatalogueStore
from beaconfire_kit.key_value import KeyValue
from beaconfire_kit.stream_setup import add_stream_subjects, declare_stream
from tests.conftest import connected
from tests.kit.fragments import with_root
from tests.tools.examined import change, looked_at, names

WEATHER = Publisher("weather", ("campaign.*.weather.>", "depot.>"))


async def push_depot(server: NatsServer) -> None:
    """Push a root, and forget the broker's permissions."""
    async with connected(server, "setup") as setup:
        await add_stream_subjects(setup, ["depot.>"])
        await CatalogueStore(setup).push([with_root("logistics", "depot")], by="test")


async def test_doctor_names_the_revision_its_fragments_and_roots(stream: NatsServer) -> None:
    await push_depot(stream)
    await asyncio.to_thread(stream.permit, roots=["depot"], publishers=[WEATHER])
    checks = await looked_at(stream, passwords=stream.passwords, publishers=[WEATHER])

    assert names(checks, "wrong") == set()
    assert checks["revision"].found.startswith("2 counts from offset ")
    assert checks["revision"].found.endswith(": campaign, workspace, user, logistics")
    assert checks["roots"].found == "campaign, depot, user, workspace"
    assert {checks[f"fragment {name}"].found for name in builtin.fragments()} == {"as in this version"}
    assert {"user weather", "user publisher", "user auth", "user catalogue"} <= names(checks, "ok")


async def test_doctor_reports_a_root_that_the_publisher_may_not_use_and_what_to_run(stream: NatsServer) -> None:
    await push_depot(stream)
    before = await looked_at(stream, passwords=stream.passwords)
    await asyncio.to_thread(stream.permit, roots=["depot"])
    after = await looked_at(stream, passwords=stream.passwords)

    assert (before["user publisher"].verdict, before["user publisher"].found) == ("wrong", "may not publish on depot.>")
    assert "beaconfire broker config" in before["user publisher"].advice
    assert names(before, "wrong") == {"user publisher"}
    assert names(after, "wrong") == set()


async def test_doctor_reports_permissions_that_let_another_user_push_or_change_members(stream: NatsServer) -> None:
    config = stream.folder / "nats-server.conf"
    row = '"outbox.wake", "$JS.API.STREAM.INFO.EVENTS"'
    await asyncio.to_thread(stream.permit, publishers=[WEATHER])
    text = config.read_text().replace(row, f'"catalogue", "campaign.*.member.*", {row}')
    config.write_text(text.replace('deny: ["*.*.member.*", "user.*.access"]', 'deny: ["user.*.access"]'))
    await asyncio.to_thread(stream.reload)
    checks = await looked_at(stream, passwords=stream.passwords)

    assert checks["user publisher"].found == "may change members, may push a catalogue"


async def test_trying_permissions_stores_nothing(stream: NatsServer) -> None:
    """The user that may push tries it, and the revision stays."""
    await looked_at(stream, passwords=stream.passwords)
    async with connected(stream, "setup") as setup:
        info = await change(setup, f"STREAM.INFO.{STREAM}", {"subjects_filter": ">"})
        bucket = await change(setup, "STREAM.INFO.KV_CATALOGUE", {"subjects_filter": ">"})

    assert set(info["state"]["subjects"]) <= {"anchor", "tick", "catalogue"}
    assert info["state"]["subjects"]["catalogue"] == 1
    assert not [subject for subject in bucket["state"]["subjects"] if "doctor" in subject]


async def test_doctor_reports_a_root_that_the_stream_does_not_take(stream: NatsServer) -> None:
    await push_depot(stream)
    async with connected(stream, "setup") as setup:
        config = await broker.config_of(setup, STREAM)
        await change(
            setup,
            f"STREAM.UPDATE.{STREAM}",
            {**config, "subjects": [one for one in config["subjects"] if one != "depot.>"]},
        )
        before = await looked_at(stream)
        await declare_stream(setup)
    after = await looked_at(stream)

    assert names(before, "wrong") == {"roots"}
    assert "does not take depot.>" in before["roots"].found
    assert "beaconfire setup" in before["roots"].advice
    assert names(after, "wrong") == set()


async def test_doctor_reports_a_push_that_was_interrupted_and_setup_completes_it(stream: NatsServer) -> None:
    async with connected(stream, "setup") as setup:
        committed = await CatalogueStore(setup).committed()
        assert committed is not None
        await push_depot(stream)
        old = {"revision": committed.revision, "offset": committed.offset, "epoch": committed.epoch}
        await KeyValue(setup, "CATALOGUE").put("committed", json.dumps(old).encode())
        before = await looked_at(stream)
        await declare_stream(setup)
    after = await looked_at(stream)

    assert names(before, "wrong") == {"revision"}
    assert "revision 2 counts, the bucket says revision 1" in before["revision"].found
    assert after["revision"].verdict == "ok"


async def test_doctor_reports_a_deployment_without_a_catalogue(stream: NatsServer) -> None:
    """As one that was just upgraded, before `setup`."""
    async with connected(stream, "setup") as setup:
        await change(setup, "STREAM.DELETE.KV_CATALOGUE")
        before = await looked_at(stream)
        await change(setup, f"STREAM.PURGE.{STREAM}", {"filter": "catalogue"})
        await declare_stream(setup)
    after = await looked_at(stream)

    assert before["revision"].verdict == "wrong"
    assert "there is no bucket" in before["revision"].found
    assert after["revision"].verdict == "ok"


async def test_doctor_reports_built_in_fragments_that_are_older_than_its_own(stream: NatsServer) -> None:
    document: dict[str, Any] = copy.deepcopy(dict(builtin.documents()["campaign"]))
    document["channels"].popitem()
    async with connected(stream, "setup") as setup:
        await CatalogueStore(setup).push([document], by="test", allow_removals=True)
        before = await looked_at(stream)
        await declare_stream(setup)
    after = await looked_at(stream)

    assert names(before, "wrong") == {"fragment campaign"}
    assert "beaconfire setup" in before["fragment campaign"].advice
    assert after["fragment campaign"].found == "as in this version"
