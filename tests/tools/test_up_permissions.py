"""`beaconfire up` lets new roots and new publishers publish while it runs, and no connection is lost."""

import asyncio
import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from beaconfire.data_folder import DataFolder
from tests.conftest import At
from tests.kit.fragments import with_root
from tests.security.raw_nats import raw_nats
from tests.tools.terminal import free_ports, run, terminal

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="`up` ends its children on Linux only"),
    pytest.mark.timeout(180),
]

WEATHER = "publishers:\n  weather: {publish: [campaign.*.weather]}\n"


def connections(monitoring_url: str) -> dict[str, int]:
    """The broker's connections: the number that the broker gave each, by the name of the client."""
    with urllib.request.urlopen(f"{monitoring_url}/connz?limit=1000") as answer:
        found: dict[str, Any] = json.load(answer)
    return {f"{one['name']} {one['port']}": one["cid"] for one in found["connections"] if one.get("name")}


async def test_new_publisher_and_pushed_root_may_publish_and_all_connections_stay(tmp_path: Path) -> None:
    port, data, publishers = free_ports(), tmp_path / "data", tmp_path / "publishers.yaml"
    publishers.write_text(WEATHER)
    fragment = tmp_path / "logistics.yaml"
    fragment.write_text(json.dumps(with_root("logistics", "depot", "parcel.moved")))
    options = ("--port", str(port), "--data", str(data), "--gateways", "1", "--no-demo", "--only", "workspace")
    with terminal(tmp_path, "up", *options, "--publishers", str(publishers)) as one:
        await asyncio.to_thread(one.wait_for, "Open")
        folder = DataFolder(data)
        running = folder.running()
        before = connections(running.monitoring_url)
        at = At(running.nats_url, folder.passwords())
        async with raw_nats(at, "weather") as weather:
            early = await weather.publish("depot.d1.weather")

            pushed = await asyncio.to_thread(run, tmp_path, "catalogue", "push", str(fragment), "--data", str(data))
            await asyncio.to_thread(one.wait_for, "the publisher may now publish in depot.>")
            publishers.write_text("publishers:\n  weather: {publish: [live.>]}\n")
            broken = await asyncio.to_thread(one.wait_for, "the broker's permissions stay as they were")
            publishers.write_text(WEATHER.replace("]", ", depot.*.weather]"))
            await asyncio.to_thread(one.wait_for, "weather may now publish in campaign.*.weather, depot.*.weather")
            late = await weather.publish("depot.d1.weather")
        async with raw_nats(at, "publisher") as publisher:
            served = await publisher.publish("depot.d1.note.n1")
        after = connections(running.monitoring_url)
        doctor = await asyncio.to_thread(run, tmp_path, "doctor", "--data", str(data), "--json")
        one.interrupt()
        assert one.ends() == 0, one.text

    assert pushed.process.exit_code == 0, pushed.text
    assert "Permissions Violation" in early
    assert (late, served) == ("", "")
    assert "`live`, which is reserved" in broken
    assert before.items() <= after.items()
    checks = {check["name"]: check for check in json.loads(doctor.text.splitlines()[-1])["checks"]}
    assert checks["roots"]["found"] == "campaign, depot, user, workspace"
    assert {check["verdict"] for name, check in checks.items() if name.startswith("user ")} == {"ok"}


async def test_up_with_an_invalid_file_of_publishers_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "publishers.yaml").write_text("publishers:\n  gateway: {publish: [campaign.>]}\n")
    options = ("--data", str(tmp_path / "data"), "--publishers", str(tmp_path / "publishers.yaml"))

    said = await asyncio.to_thread(run, tmp_path, "up", "--port", str(free_ports()), *options)

    assert said.process.exit_code == 1
    assert f"{tmp_path}/publishers.yaml:2: 'gateway' is a broker user of Beaconfire" in said.text


async def test_publisher_with_the_name_of_an_application_that_is_started_is_refused(tmp_path: Path) -> None:
    (tmp_path / "publishers.yaml").write_text("publishers:\n  workspace: {publish: [campaign.>]}\n")
    options = ("--data", str(tmp_path / "data"), "--publishers", str(tmp_path / "publishers.yaml"))

    said = await asyncio.to_thread(run, tmp_path, "up", "--port", str(free_ports()), *options)

    assert said.process.exit_code == 1
    assert f"{tmp_path}/publishers.yaml: 'workspace' is the broker user of an application of the demo." in said.text
