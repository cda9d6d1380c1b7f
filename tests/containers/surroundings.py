"""One container for each service of docker-compose.yml, on a network with the servers that it needs."""

import asyncio
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import nats
import yaml
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import HealthcheckWaitStrategy

from beaconfire.migrate import SERVICES as WITH_DATABASE
from beaconfire_kit.broker import STREAM
from tests.architecture.sources import ROOT
from tests.containers.deployment import IMAGES
from tests.databases import Databases, ForeignPostgres

COMPOSED: Mapping[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
JOBS = ("setup", "migrate-auth", "migrate-publisher")
WITH_HEALTH_CHECK = ("beaconfire/auth", "beaconfire/gateway", "beaconfire/publisher")
"""Images whose own health check asks the service. The others get the one of the compose file."""
READY_S = 60
_SECRET = re.compile(r"\$\{(\w+):[?-][^}]*\}")
_SECOND_NS = 1_000_000_000


class Surroundings:
    """The broker and PostgreSQL under the names of the compose file, or servers that are there already.

    NATS_URL and POSTGRES_URL name such servers, by addresses that this process and containers reach. The broker must
    accept any user and have no stream of ours. The user of PostgreSQL must be allowed to create databases, and the
    URL must have a strong password, because services refuse another one. What the tests create there is removed at the
    end.
    """

    def __init__(self, stack: ExitStack, secrets: Mapping[str, str]) -> None:
        self._stack = stack
        self._secrets = secrets
        self._network = stack.enter_context(Network())
        self._replaced: dict[str, str] = {}
        """What replaces the values of the compose file, by variable and service."""

    def start(self) -> None:
        """Start the servers, and run the jobs that every deployment runs first."""
        if broker := os.environ.get("NATS_URL"):
            self._use_broker(broker)
        else:
            self._stack.enter_context(self.container("nats"))
        if postgresql := os.environ.get("POSTGRES_URL"):
            self._use_postgresql(postgresql)
        else:
            self._stack.enter_context(self.container("postgres"))
        for job in JOBS:
            with self.container(job) as one:
                assert one.wait() == 0, log_of(one)

    def container(self, name: str, *, without: Iterable[str] = ()) -> DockerContainer:
        """Make the container of a compose service as the compose file describes it, except for some variables.

        On entry, the block waits until the container is healthy, unless it is a job.
        """
        service = COMPOSED[name]
        one = DockerContainer(image_of(name)).with_network(self._network).with_network_aliases(name)
        for variable, value in service["environment"].items():
            if variable not in without:
                one.with_env(variable, self._value(variable, value))
        if "command" in service:
            one.with_command(service["command"])
        for volume in service.get("volumes", ()):
            source, target, *mode = volume.split(":")
            if source.startswith("./"):
                one.with_volume_mapping(ROOT / source, target, *mode)
            elif target == "/data" or mode == ["ro"]:
                one.with_tmpfs_mount(target, "uid=10001")
        for folder in service["tmpfs"]:
            one.with_tmpfs_mount(folder)
        if "healthcheck" in service and service["image"] not in WITH_HEALTH_CHECK:
            one.with_kwargs(healthcheck=_health_check(service["healthcheck"]), **_hardened(service))
        else:
            one.with_kwargs(**_hardened(service))
        if service["restart"] != "on-failure" and not without:
            one.waiting_for(HealthcheckWaitStrategy().with_startup_timeout(READY_S))
        return one

    def _value(self, variable: str, value: str) -> str:
        for written, replacement in self._replaced.items():
            if written in value:
                return replacement
        return _SECRET.sub(lambda found: self._secrets[found[1]], value)

    def _use_broker(self, url: str) -> None:
        self._replaced["nats://nats:4222"] = url
        asyncio.run(_streams(url, remove=False))
        self._stack.callback(lambda: asyncio.run(_streams(url, remove=True)))

    def _use_postgresql(self, url: str) -> None:
        databases = Databases(ForeignPostgres(url))
        self._stack.callback(databases.drop_all)
        for service in WITH_DATABASE:
            self._replaced[f"@postgres:5432/{service}"] = databases.url(f"images_{service}")


async def _streams(url: str, *, remove: bool) -> None:
    """Remove our streams from a broker, or check that it has none."""
    async with asyncio.timeout(READY_S):
        nc = await nats.connect(url)
        try:
            names = [one.config.name for one in await nc.jetstream().streams_info()]
            assert remove or STREAM not in names, f"NATS_URL: the broker has a stream {STREAM}, which is not the tests'"
            for name in names if remove else ():
                await nc.jetstream().delete_stream(str(name))
        finally:
            await nc.close()


def image_of(name: str) -> str:
    """The image of a compose service, under the name that the tests give it."""
    return str(COMPOSED[name]["image"]).replace("beaconfire/", f"{IMAGES}/")


def log_of(container: DockerContainer) -> str:
    """Everything that a container wrote."""
    return b"".join(container.get_logs()).decode()


def _hardened(service: Mapping[str, Any]) -> dict[str, Any]:
    """Return the compose file's restrictions, as the engine's interface names them."""
    return {key: service[key] for key in ("user", "read_only", "cap_drop", "security_opt")}


def _health_check(check: Mapping[str, Any]) -> dict[str, Any]:
    times = {key: int(check[key].removesuffix("s")) * _SECOND_NS for key in ("interval", "timeout")}
    return {"test": check["test"], "retries": check["retries"], **times}
