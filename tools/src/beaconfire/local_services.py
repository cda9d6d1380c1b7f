"""Run all services as local processes: broker, auth, publisher, its workers, the demo's services and gateways.

`beaconfire up` and the tests that need everything start them from here, each as it runs in production.
"""

import asyncio
import http.client
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from pydantic import SecretStr, ValidationError

from beaconfire.broker_users import Publisher
from beaconfire.nats_server import NatsServer, free_port
from beaconfire.processes import OnLine, Process
from beaconfire_demo.applications import APPLICATIONS, CAMPAIGN, Application
from beaconfire_demo.settings import DemoPerson, PageSettings
from beaconfire_demo.site import write_client, write_site
from beaconfire_kit import broker
from beaconfire_kit.settings import ENV_PREFIX, Settings, variable
from beaconfire_kit.stream_setup import declare_stream

WORKERS = ("rules-engine", "scheduler")
READY_TIMEOUT_S = 60.0  # a loaded machine with two cores imports four services in ten
GATEWAY_STOP_S = 20.0
STOP_S = 10.0


class DidNotStart(Exception):
    """A process ended, or was not ready in time. `part` is its name, `last_lines` the end of its output."""

    def __init__(self, part: str, why: str, last_lines: Sequence[str]) -> None:
        super().__init__(f"{part} {why}")
        self.add_note("\n".join(last_lines))  # shown with the stack trace, in tests
        self.part = part
        self.last_lines = list(last_lines)


class ServiceProcess:
    """One service as a process. After `kill` or `stop`, `start` starts it with the same address and the same data."""

    def __init__(
        self,
        name: str,
        module: str,
        environment: Mapping[str, str],
        *,
        folder: Path,
        arguments: Sequence[str] = (),
        host: str = "127.0.0.1",
        port: int | None = None,
        on_line: OnLine | None = None,
    ) -> None:
        self.name = name
        self.host = host
        self.port = port or free_port()
        self.ops_port = free_port()
        self.process = Process(
            name,
            [sys.executable, "-P", "-m", module, *arguments],
            environment={
                "BEACONFIRE_ENVIRONMENT": "development",
                **environment,
                "BEACONFIRE_HOST": host,
                "BEACONFIRE_PORT": str(self.port),
                "BEACONFIRE_OPS_PORT": str(self.ops_port),
                "PYTHONUNBUFFERED": "1",
            },
            log_path=folder / f"{name}.log",
            on_line=on_line,
        )

    @property
    def url(self) -> str:
        return f"http://{_reachable(self.host)}:{self.port}"

    @property
    def ops_url(self) -> str:
        return f"http://127.0.0.1:{self.ops_port}"

    def start(self, *, wait: bool = True) -> None:
        """Start the service and wait until it is ready. Raises DidNotStart."""
        self.process.start()
        if wait:
            self.wait_ready()

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until the service is ready. Raises DidNotStart if it ends first or is not ready within `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while (why_not := self.why_not_ready()) is not None:
            if not self.process.is_running:
                self.process.wait(5)
                raise DidNotStart(self.name, f"ended with {self.process.exit_code}", self.process.last_lines)
            if time.monotonic() > deadline:
                raise DidNotStart(
                    self.name, f"was not ready within {timeout_s:.0f} s: {why_not}", self.process.last_lines
                )
            time.sleep(0.05)

    def why_not_ready(self) -> str | None:
        """Return why the service is not ready, or None if it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ops_port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            body = answer.read()
        except OSError:
            return "it does not listen yet"
        finally:
            connection.close()
        return None if answer.status == 200 else str(json.loads(body).get("status"))

    def terminate(self) -> None:
        """Ask the service to stop (SIGTERM). Does not wait."""
        self.process.terminate()

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Stop the service. Kill it after `timeout_s` seconds."""
        self.process.stop(timeout_s)

    def kill(self) -> None:
        """Kill the service as a crash would (SIGKILL)."""
        self.process.kill()


@dataclass(frozen=True, slots=True)
class Plan:
    """The processes to start, and their ports. If a port is None, a free one is used."""

    folder: Path
    """Folder for data and logs. It is created if it is missing."""
    gateways: int = 1
    host: str = "127.0.0.1"
    public_host: str = "127.0.0.1"
    """The name under which browsers reach `host`."""
    gateway_port: int | None = None
    """The port that all gateways share. None: each has its own."""
    auth_port: int | None = None
    publisher_port: int | None = None
    nats_port: int | None = None
    monitoring_port: int | None = None
    """Port of the broker's monitoring pages. None: it has none."""
    origins: tuple[str, ...] = ()
    """Browser origins besides those of the gateways themselves."""
    passwords: dict[str, str] | None = None
    roots: Iterable[str] = ()
    """Kinds of roots, besides the built-in ones, in which the publisher may publish."""
    publishers: Sequence[Publisher] = ()
    """Further broker users. Their passwords are among `passwords`."""
    operator_token: str | None = None
    """The operator token of auth and the gateways. None: a random one."""
    service_token: str | None = None
    """The token with which the publisher makes users members. None: a random one."""
    people: Sequence[Mapping[str, str]] = ()
    """The sign-ins that the page offers."""
    page: Path | None = None
    """A folder with a page that the gateways serve instead of the demo's. The browser client is below `/client/`."""
    applications: Sequence[str] = (CAMPAIGN.name,)
    """The applications of the demo to start, by name. The publisher is started without the campaign, too, and its
    workers are not."""
    application_ports: Mapping[str, int] = field(default_factory=dict)
    """The ports of their services."""
    environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """More variables, by service (`auth`, `publisher`, `gateway`, or the name of a worker or an application), and
    `demo` for the pages."""


class Services:
    """All services. `start` waits until everything is ready. `stop` stops them in order, even if some were killed."""

    def __init__(self, plan: Plan, *, on_line: OnLine | None = None) -> None:
        self._plan = plan
        self._on_line = on_line
        self.operator_token = plan.operator_token or secrets.token_hex(24)
        self.service_token = plan.service_token or secrets.token_hex(24)
        self.nats = NatsServer(
            plan.folder / "nats",
            port=plan.nats_port,
            passwords=plan.passwords,
            more_users=plan.folder / "broker_users.conf",
            on_line=on_line,
        )
        self.nats.monitoring_port = plan.monitoring_port
        with_service = [one for one in map(APPLICATIONS.__getitem__, plan.applications) if one.has_service]
        known = {one.name for one in plan.publishers}
        missing = [publisher_of(one) for one in with_service if one.name not in known]
        self.nats.permit(roots=plan.roots, publishers=(*missing, *plan.publishers))
        gateway_ports = [plan.gateway_port or free_port() for _ in range(plan.gateways)]
        self._origins = self._all_origins(gateway_ports)
        self._site = plan.folder.absolute() / "page"
        self.auth = self._service(
            "auth",
            plan.auth_port,
            {
                "BEACONFIRE_DATABASE_URL": self._database("auth"),
                "BEACONFIRE_OPERATOR_TOKEN": self.operator_token,
                "BEACONFIRE_GRANT_TOKENS": self.service_token,
                # On one machine all users have the same address, and tests and demo sign in often.
                "BEACONFIRE_ATTEMPTS_PER_MINUTE_ADDRESS": "6000",
                "BEACONFIRE_ATTEMPTS_PER_MINUTE_ACCOUNT": "600",
            },
        )
        self.publisher = self._service("publisher", plan.publisher_port, self._of_domain_service("publisher"))
        self.workers = [self._worker(name) for name in WORKERS if CAMPAIGN.name in plan.applications]
        self.applications = {one.name: self._application(one) for one in with_service}
        """The services of the applications, by name. The campaign's is the publisher."""
        self.gateways = [self._gateway(number, port) for number, port in enumerate(gateway_ports, start=1)]

    @property
    def auth_url(self) -> str:
        return self.auth.url

    @property
    def publisher_url(self) -> str:
        return self.publisher.url

    @property
    def application_names(self) -> Sequence[str]:
        """The applications that run."""
        return self._plan.applications

    @property
    def services(self) -> list[ServiceProcess]:
        """All processes except the broker, in starting order."""
        return [self.auth, self.publisher, *self.workers, *self.applications.values(), *self.gateways]

    @property
    def processes(self) -> list[Process]:
        """All processes, in starting order."""
        return [self.nats.process, *(one.process for one in self.services)]

    def start(self) -> None:
        """Start everything and wait until it is ready. Raises DidNotStart, BrokerDidNotStart; stop it then.

        Not from within an event loop.
        """
        self._write_page()
        self.nats.start()
        asyncio.run(self._declare_stream())
        for service in self.services:
            service.start(wait=False)
        for service in self.services:
            service.wait_ready()

    def stop(self) -> None:
        """Stop everything in order: gateways, workers, domain services, auth, broker."""
        for gateway in self.gateways:
            gateway.process.thaw()
            gateway.terminate()
        for gateway in self.gateways:
            gateway.stop(GATEWAY_STOP_S)
        for worker in self.workers:
            worker.process.thaw()
            worker.terminate()
        for process in (
            *(one.process for one in self.workers),
            *(one.process for one in self.applications.values()),
            self.publisher.process,
            self.auth.process,
            self.nats.process,
        ):
            process.thaw()
            process.stop(STOP_S)

    def kill(self) -> None:
        """Kill everything (SIGKILL)."""
        for process in reversed(self.processes):
            process.kill()

    def _write_page(self) -> None:
        """Write the pages that the gateways serve, with the ports of these services."""
        running = {"auth": self.auth, "publisher": self.publisher, **self.applications}
        addresses = {
            f"public_{name}_url": f"http://{self._plan.public_host}:{one.port}" for name, one in running.items()
        }
        if self._plan.page is not None:
            shutil.rmtree(self._site, ignore_errors=True)  # no file of the demo's pages stays
            write_client(self._site, list(addresses.values()))
            return
        given = {
            name.removeprefix(ENV_PREFIX).lower(): value
            for name, value in self._plan.environment.get("demo", {}).items()
        }
        chosen: dict[str, Any] = {
            "applications": tuple(self._plan.applications),
            "demo_people": tuple(DemoPerson(**person) for person in self._plan.people),
        }
        try:
            write_site(self._site, PageSettings(**{**addresses, **given, **chosen}))
        except ValidationError as error:
            wrong = [f"{variable(str(one['loc'][0]))}: {one['msg']}" for one in error.errors(include_url=False)]
            raise DidNotStart("the demo's pages", "have a wrong setting", wrong) from None

    async def _declare_stream(self) -> None:
        settings = Settings(
            nats_url=self.nats.url, nats_user="setup", nats_password=SecretStr(self.nats.passwords["setup"])
        )
        nc: Client = await broker.connect(settings, "setup", on_closed=lambda: None)
        try:
            await declare_stream(nc)
        finally:
            await broker.close(nc)

    def _gateway(self, number: int, port: int) -> ServiceProcess:
        plan = self._plan
        name = f"gateway-{number}"
        environment = {
            "BEACONFIRE_GATEWAY_NAME": name,
            "BEACONFIRE_JWKS_URL": self._jwks_url,
            "BEACONFIRE_AUTH_URL": self.auth_url,
            "BEACONFIRE_OPERATOR_TOKEN": self.operator_token,
            "BEACONFIRE_STATIC_DIR": os.pathsep.join(str(one) for one in (plan.page, self._site) if one),
        }
        if plan.gateway_port and plan.gateways > 1:
            environment["BEACONFIRE_REUSE_PORT"] = "true"
        return self._service("gateway", port, environment, name=name)

    def _application(self, application: Application) -> ServiceProcess:
        name = application.name
        return self._service(
            name,
            self._plan.application_ports.get(name),
            self._of_domain_service(name),
            module=f"beaconfire_demo.{name}",
        )

    def _of_domain_service(self, name: str) -> dict[str, str]:
        """Return the variables of a service that owns data."""
        return {
            "BEACONFIRE_DATABASE_URL": self._database(name),
            "BEACONFIRE_JWKS_URL": self._jwks_url,
            "BEACONFIRE_SERVICE_TOKEN": self.service_token,
            "BEACONFIRE_AUTH_URL": self.auth_url,
        }

    def _worker(self, name: str) -> ServiceProcess:
        return ServiceProcess(
            name,
            "beaconfire_publisher",
            {
                **self.nats.environment(name),
                "BEACONFIRE_DATABASE_URL": self._database("publisher"),
                **self._plan.environment.get(name, {}),
            },
            arguments=(name,),
            folder=self._plan.folder / "logs",
            on_line=self._on_line,
        )

    def _service(
        self,
        service: str,
        port: int | None,
        environment: dict[str, str],
        *,
        name: str | None = None,
        module: str | None = None,
    ) -> ServiceProcess:
        plan = self._plan
        return ServiceProcess(
            name or service,
            module or f"beaconfire_{service}",
            {
                **self.nats.environment(service),
                "BEACONFIRE_ALLOWED_ORIGINS": ",".join(self._origins),
                **environment,
                **plan.environment.get(service, {}),
            },
            folder=plan.folder / "logs",
            host=plan.host,
            port=port,
            on_line=self._on_line,
        )

    def _all_origins(self, ports: Sequence[int]) -> list[str]:
        names = ["127.0.0.1", "localhost", self._plan.public_host]
        own = [f"http://{name}:{port}" for port in ports for name in names]
        return list(dict.fromkeys([*own, *self._plan.origins]))

    def _database(self, service: str) -> str:
        return f"sqlite+aiosqlite:///{(self._plan.folder / service).absolute()}.db"

    @property
    def _jwks_url(self) -> str:
        return f"{self.auth.url}/.well-known/jwks.json"


def publisher_of(application: Application) -> Publisher:
    """Return the broker user of an application's service."""
    return Publisher(application.name, subtrees=application.publishes, kit=True)


def _reachable(host: str) -> str:
    """Return the address at which we reach a service that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (compared, not bound)
