"""A real Prometheus reads the real services: the dashboard's queries and the alert rules find what they name."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from beaconfire.nats_server import free_port
from scripts.derived.all_metrics import all_metrics
from tests.client import open_socket
from tests.deploy.alert_rules import ALERTS, rules
from tests.e2e.conftest import Line

DEPLOY = Path(__file__).parents[2] / "deploy"
PATIENCE_S = 60.0
SCRAPE_EVERY = "1s"
INTERVAL = "1m"
"""What Grafana puts in for `$__rate_interval`."""
OF_THE_LIBRARY = {"process_resident_memory_bytes", "process_cpu_seconds_total"}
ANSWERED_BY_TRAFFIC = {
    "Sessions",
    "Events written to clients",
    "Attempts to connect",
    "Ended sessions",
    "Commit to stored",
    "Heard to written",
    "Published events",
    "Waiting events",
    "Lag behind the foremost gateway",
    "Catalogue's revision",
    "HTTP requests",
    "Slowest routes",
    "Memory",
    "CPU",
}
"""Panels that have a value after one change over HTTP that reached a socket."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running one."""

    url: str
    http: aiohttp.ClientSession

    async def ask(self, query: str) -> list[dict[str, Any]]:
        """The result of a query now. Fails if Prometheus does not accept it."""
        async with self.http.get(f"{self.url}/api/v1/query", params={"query": query}) as answer:
            said = await answer.json()
        assert said["status"] == "success", f"{query}: {said.get('error')}"
        return list(said["data"]["result"])

    async def until(self, query: str, count: int) -> None:
        """Wait until a query has as many results."""
        async with asyncio.timeout(PATIENCE_S):
            while len(await self.ask(query)) < count:
                await asyncio.sleep(0.1)


@asynccontextmanager
async def prometheus(folder: Path, targets: Mapping[str, list[str]]) -> AsyncIterator[Prometheus]:
    """Run one that reads these addresses, by job, with the alert rules of deploy/."""
    program = shutil.which("prometheus")
    assert program, "prometheus is missing: `make monitoring` installs it"
    config = {
        "global": {"scrape_interval": SCRAPE_EVERY, "scrape_timeout": SCRAPE_EVERY},
        "rule_files": [str(ALERTS / "*.yml")],
        "scrape_configs": [{"job_name": job, "static_configs": [{"targets": some}]} for job, some in targets.items()],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    port = free_port()
    options = [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    log = (folder / "prometheus.log").open("wb")
    process = await asyncio.create_subprocess_exec(program, *options, stdout=log, stderr=log)
    try:
        async with aiohttp.ClientSession() as http:
            yield Prometheus(f"http://127.0.0.1:{port}", http)
    finally:
        process.terminate()
        await process.wait()
        log.close()


async def ready(prometheus: Prometheus) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                async with prometheus.http.get(f"{prometheus.url}/-/ready") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)


def panels() -> list[dict[str, Any]]:
    document = json.loads((DEPLOY / "grafana" / "beaconfire.json").read_text())
    return [one for one in document["panels"] if one["type"] != "row"]


def metrics_in(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:beaconfire|process)_\w+", expression))


def known() -> set[str]:
    return {name for one in all_metrics() for name in one.series} | OF_THE_LIBRARY


@pytest.mark.timeout(3 * PATIENCE_S)
async def test_prometheus_answers_every_query_of_the_dashboard_and_every_alert(line: Line, tmp_path: Path) -> None:
    services = line.services
    targets = {
        "gateway": [one.ops_url.removeprefix("http://") for one in services.gateways],
        "auth": [services.auth.ops_url.removeprefix("http://")],
        "publisher": [services.publisher.ops_url.removeprefix("http://")],
    }
    async with prometheus(tmp_path, targets) as asked:
        await ready(asked)
        await asked.until("up == 1", 4)
        owner = await line.sign_up("owner")
        campaign = await line.campaign(owner)
        settlement = await line.settlement(owner, campaign)
        async with open_socket(services.gateways[0].url) as leaves:
            await leaves.connect(owner.token, [])
        async with open_socket(services.gateways[0].url) as client:
            await client.connect(owner.token, [f"campaign:{campaign}"])
            path = f"/v1/campaigns/{campaign}/settlements/{settlement}"
            empty = {one["title"] for one in panels()}
            async with asyncio.timeout(PATIENCE_S):
                for level in count(1):
                    if not empty & ANSWERED_BY_TRAFFIC:
                        break
                    # Again and again: a rate is known only between two readings.
                    await line.publisher("PATCH", path, {"level": level % 10 + 1}, token=owner.token)
                    await client.next("event")
                    for panel in panels():
                        results = [await asked.ask(query_of(target)) for target in panel["targets"]]
                        if any(one["value"][1] != "NaN" for some in results for one in some):
                            empty.discard(panel["title"])
        for rule in rules():
            await asked.ask(rule["expr"])


def query_of(target: Mapping[str, Any]) -> str:
    return str(target["expr"]).replace("$__rate_interval", INTERVAL)


async def test_prometheus_finds_no_mistake_in_the_metrics_of_any_service(line: Line) -> None:
    """Its check knows names, units, types and help texts."""
    async with aiohttp.ClientSession() as http:
        for service in line.services.services:
            async with http.get(f"{service.ops_url}/metrics") as answer:
                check_with_promtool("metrics", text=await answer.text())


def test_every_metric_of_the_dashboard_exists() -> None:
    """Prometheus answers a query for a metric that does not exist with nothing."""
    named = {name for panel in panels() for target in panel["targets"] for name in metrics_in(target["expr"])}

    assert len(named) > 25
    assert named <= known()


def test_every_metric_in_the_documentation_exists() -> None:
    pages = [*DEPLOY.parent.glob("*.md"), *(DEPLOY.parent / "docs").rglob("*.md")]
    of_old_versions = DEPLOY.parent / "CHANGELOG.md"
    for page in pages:
        if page != of_old_versions and "adr" not in page.parts:
            found = set(re.findall(r"`(beaconfire_(?:gateway|outbox|auth|publisher|http)_\w+)", page.read_text()))
            assert found <= known() | {one.name for one in all_metrics()}, page


def test_prometheus_finds_no_mistake_in_the_alert_rules() -> None:
    check_with_promtool("rules", *map(os.fspath, sorted(ALERTS.glob("*.yml"))))


def check_with_promtool(*what: str, text: str | None = None) -> None:
    program = shutil.which("promtool")
    assert program, "promtool is missing: `make monitoring` installs it"
    checked = subprocess.run([program, "check", *what], input=text, capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout + checked.stderr
