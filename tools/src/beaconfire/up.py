"""`beaconfire up`: run everything on this machine, and restart what dies, until Ctrl-C."""

import json
import os
import shutil
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType

from pydantic import SecretStr
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from beaconfire import demo
from beaconfire.catalogue_access import Pushers
from beaconfire.data_folder import OPERATOR_TOKEN, SERVICE_TOKEN, DataFolder, Running
from beaconfire.environment import PassedOn, passed_on
from beaconfire.local_catalogue import LocalCatalogue
from beaconfire.local_permissions import LocalPermissions, permit_roots
from beaconfire.local_services import Plan, Services, publisher_of
from beaconfire.log_stream import LogStream, errors, last_words
from beaconfire.nats_server import BrokerDidNotStart, free_port
from beaconfire.processes import Process
from beaconfire.publishers_file import read_publishers
from beaconfire_demo.applications import APPLICATIONS
from beaconfire_kit.broker import BUILT_IN_ROOTS
from beaconfire_kit.origins import normal_origin
from beaconfire_kit.settings import Settings, variable

RESTART_AFTER_S = 1.0
RESTARTS_A_MINUTE = 5
WATCH_S = 0.2
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  (compared, not bound)


class PortTaken(Exception):
    """A port is not free. The text names it and what to do."""


class PageUnusable(Exception):
    """The folder of --page cannot be served. The text contains the reason and what to do."""


class Interrupted(KeyboardInterrupt):
    """The user wants to stop: Ctrl-C, SIGTERM, or the terminal is gone.

    It is a KeyboardInterrupt, because an event loop would log any other exception and continue.
    """


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command."""

    host: str = "127.0.0.1"
    port: int = 8080
    data: Path = Path(".beaconfire")
    gateways: int = 2
    workers: int = 1
    applications: tuple[str, ...] = tuple(APPLICATIONS)
    """The applications of the demo to start."""
    demo: bool = True
    fresh: bool = False
    verbose: bool = False
    page: Path | None = None
    """A folder with a page to serve instead of the demo's."""
    origins: tuple[str, ...] = ()
    """Browser origins that may use the services, besides that of the page."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """The user's variables. `beaconfire.environment` passes them on to the services."""
    publishers: Path | None = None
    """A file with further publishers. It is watched."""
    catalogue: tuple[Path, ...] = ()
    """Fragments of the catalogue that are pushed at start. The files are watched."""

    @property
    def public_host(self) -> str:
        """The host name under which browsers reach the services."""
        return _lan_address() if self.host in _EVERYWHERE else self.host

    @property
    def address(self) -> str:
        return f"http://{self.public_host}:{self.port}"

    @property
    def ports(self) -> dict[str, int]:
        """Every port that clients use, by what listens there. An application has the same port whatever is started."""
        ports = {"the pages and the sockets": 0, "auth": 1, "the publisher": 2, "the broker": 3}
        with_service = [one.name for one in APPLICATIONS.values() if one.has_service]
        ports |= {name: 4 + index for index, name in enumerate(with_service) if name in self.applications}
        return {name: self.port + offset for name, offset in ports.items()}


def up(options: Options, console: Console) -> None:
    """Run everything until a signal. Return when everything has ended.

    Raises DataFolderUnusable, PortTaken, InvalidOrigin, InvalidPublishers, InvalidFile, CatalogueUnusable, DidNotStart,
    BrokerDidNotStart, NotSeeded.
    Then no process is left running.
    """
    folder = DataFolder(options.data)
    known = read_publishers(options.publishers) if options.publishers else ()
    passed = passed_on(options.environment, also_used={publisher.password_variable for publisher in known})
    origins = tuple(normal_origin(one) for one in (*options.origins, *passed.origins))
    check_page(options)
    catalogue = LocalCatalogue(options.catalogue)
    with folder.locked():
        check_ports(options)
        if options.fresh:
            folder.clear()
        folder.add_roots(catalogue.roots - set(BUILT_IN_ROOTS))
        users = [publisher_of(APPLICATIONS[name]) for name in options.applications if APPLICATIONS[name].has_service]
        permissions = LocalPermissions(folder, options.publishers, options.environment, users)
        stream = LogStream(console, level="debug" if options.verbose else "info")
        for note in passed.notes:
            stream.say(note, level="warning")
        stream.is_open = options.verbose
        services = Services(_plan(options, folder, passed, origins, permissions), on_line=stream.show)

        def say(sentence: str, level: str) -> None:
            stream.say(sentence, level=level)

        with _stopping(services, stream), catalogue.watched():
            with console.status("Starting broker, auth, publisher, workers, applications and gateways …"):
                services.start()
                folder.write_running(_running(options, services, permissions))
                if options.demo:
                    seed_once(folder, services)
                catalogue.start(_pushers(services, folder), say)  # first, so that no room of its roots is refused
            console.print(_box(options, folder, services))
            stream.is_open = True

            def write_running() -> None:
                folder.write_running(_running(options, services, permissions))

            def take_over_permissions() -> None:
                if permissions.check(services.nats, say):
                    write_running()

            Watch(services, stream, on_started=write_running).run(take_over_permissions)


def _pushers(services: Services, folder: DataFolder) -> Pushers:
    """Return the broker users with which `up` pushes the fragments of its files."""

    def settings(user: str) -> Settings:
        password = SecretStr(services.nats.passwords[user])
        return Settings(nats_url=services.nats.url, nats_user=user, nats_password=password)

    return Pushers(settings("catalogue"), settings("setup"), partial(permit_roots, folder))


def check_page(options: Options) -> None:
    """Check that the folder of --page can be served. Raises PageUnusable."""
    page = options.page
    if page is None:
        return
    if not page.is_dir():
        raise PageUnusable(f"{page} is not a folder: give one with an index.html to --page")
    if not (page / "index.html").is_file():
        raise PageUnusable(f"{page} has no index.html, which browsers get at /")
    if options.data.resolve().is_relative_to(page.resolve()) and not options.data.name.startswith("."):
        raise PageUnusable(f"{page} contains the data folder {options.data}, with its passwords: give another --page")


def check_ports(options: Options) -> None:
    """Check that the ports are free, before anything is started. Raises PortTaken."""
    count = max(options.ports.values()) - options.port + 1
    for what, port in options.ports.items():
        if port > 65535:
            raise PortTaken(
                f"--port {options.port} is too high: the next {count - 1} ports are used, too, so use {65536 - count} "
                "at most"
            )
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(
                socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
            )  # as the services do, so TIME_WAIT does not matter
            try:
                probe.bind((options.host, port))
            except OSError as error:
                raise PortTaken(
                    f"port {port} ({what}) cannot be used on {options.host}: {error.strerror}. "
                    f"Choose other ports: --port {options.port + 100} uses {options.port + 100} to "
                    f"{options.port + 99 + count}"
                ) from None


def seed_once(folder: DataFolder, services: Services) -> None:
    """Create what this folder never had of the demo. Parts that users delete stay deleted."""
    path = folder.path / "demo.json"
    done: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    for name, root_id in demo.seed_all(services, without=done):
        done[name] = root_id
        path.write_text(json.dumps(done))


@dataclass(slots=True)
class _Part:
    """A watched process."""

    process: Process
    start: Callable[[], None]
    deaths: deque[float] = field(default_factory=deque)
    due: float | None = None
    """When it will be restarted (monotonic seconds)."""
    given_up: bool = False


class Watch:
    """Restart processes that die, and print that. Give up on a process that dies too often."""

    def __init__(
        self,
        services: Services,
        stream: LogStream,
        *,
        on_started: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._on_started = on_started
        self._clock = clock
        self._parts = [_Part(services.nats.process, services.nats.start)]
        self._parts += [_Part(one.process, one.process.start) for one in services.services]

    def run(self, *chores: Callable[[], None]) -> None:
        """Watch until a signal ends it, and do the chores after each round."""
        while True:
            for part in self._parts:
                self.check(part)
            for chore in chores:
                chore()
            time.sleep(WATCH_S)

    def check(self, part: _Part) -> None:
        """Check one process: has it died, and is it time to restart it?"""
        if part.process.is_running or part.given_up:
            return
        if part.due is None:
            self._report_end(part)
        elif self._clock() >= part.due:
            part.due = None
            self._stream.say(f"restarting {part.process.name}")
            try:
                part.start()
            except (BrokerDidNotStart, OSError) as error:
                self._stream.say(str(error), level="error")
            else:
                self._stream.say(f"{part.process.name} is now process {part.process.pid}")
                self._on_started()

    def _report_end(self, part: _Part) -> None:
        now = self._clock()
        part.process.wait(1)  # its last lines may still arrive
        code = part.process.exit_code or 0
        self._stream.say(f"{part.process.name} {_how_it_ended(code)}", level="error")
        # A killed process logs no reason for its end. Its last lines are older.
        lines = part.process.last_lines
        for words in errors(lines) or (last_words(lines) if code >= 0 else []):
            self._stream.say(f"  {words}", level="error")
        part.deaths.append(now)
        while part.deaths[0] < now - 60:
            part.deaths.popleft()
        if len(part.deaths) > RESTARTS_A_MINUTE:
            part.given_up = True
            self._stream.say(
                f"{part.process.name} died {len(part.deaths)} times within a minute and is not restarted: "
                "stop with Ctrl-C, read its log, and start again",
                level="error",
            )
        else:
            part.due = now + RESTART_AFTER_S


@contextmanager
def _stopping(services: Services, stream: LogStream) -> Iterator[None]:
    """Stop everything in order at the end of the block, whatever ends it. A second signal kills everything."""
    ending = False

    def interrupted(_number: int, _frame: FrameType | None) -> None:
        nonlocal ending
        if ending:
            services.kill()
            return
        ending = True
        raise Interrupted

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # ignored under `nohup`: then we outlive the terminal
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, interrupted) for number in numbers}
    try:
        yield
    except Interrupted:
        stream.say("stopping (Ctrl-C again kills everything)")
    finally:
        ending = True
        services.stop()
        for number, handler in before.items():
            signal.signal(number, handler)
        stream.say("everything has stopped")


def _plan(
    options: Options, folder: DataFolder, passed: PassedOn, origins: tuple[str, ...], permissions: LocalPermissions
) -> Plan:
    chosen = {"BEACONFIRE_LOG_LEVEL": "debug"} if options.verbose else {}
    environment = {service: {**given, **chosen} for service, given in passed.by_service.items()}
    people = [person.sign_in() for person in demo.PEOPLE] if options.demo else []
    return Plan(
        folder=folder.path,
        gateways=options.gateways,
        host=options.host,
        public_host=options.public_host,
        gateway_port=options.port,
        auth_port=options.port + 1,
        publisher_port=options.port + 2,
        nats_port=options.port + 3,
        monitoring_port=free_port(),
        passwords=folder.passwords() | permissions.passwords,
        roots=permissions.roots,
        publishers=permissions.publishers,
        operator_token=folder.passwords()[OPERATOR_TOKEN],
        service_token=folder.passwords()[SERVICE_TOKEN],
        origins=origins,
        people=people,
        page=options.page.absolute() if options.page else None,
        applications=options.applications,
        application_ports=options.ports,
        environment={
            **environment,
            "auth": {"BEACONFIRE_KEYS_SECRET": folder.keys_secret(), **environment["auth"]},
            "gateway": {
                "BEACONFIRE_STOP_TIMEOUT_S": "1",  # a drain would only delay Ctrl-C
                "BEACONFIRE_STOP_ACCEPT_S": "0",
                **environment["gateway"],
                "BEACONFIRE_WORKERS": str(options.workers),
            },
        },
    )


def _running(options: Options, services: Services, permissions: LocalPermissions) -> Running:
    return Running(
        address=options.address,
        auth_url=services.auth_url,
        publisher_url=services.publisher_url,
        nats_url=services.nats.url,
        monitoring_url=f"http://127.0.0.1:{services.nats.monitoring_port}",
        auth_ops_url=services.auth.ops_url,
        gateway_ops_urls=[one.ops_url for one in services.gateways],
        ops_urls={one.name: one.ops_url for one in services.services},
        processes={one.name: one.pid for one in services.processes if one.pid is not None},
        roots=sorted(permissions.roots),
        application_urls={name: one.url for name, one in services.applications.items()},
        outside_issuers=options.environment.get(variable("outside_issuers"), ""),
        working_folder=str(Path.cwd()),
    )


def _box(options: Options, folder: DataFolder, services: Services) -> Panel:
    people = Table.grid(padding=(0, 3))
    for person in demo.PEOPLE if options.demo else ():
        people.add_row(Text(person.name, "bold"), person.email, Text(person.hint, "dim"))
    body = Table.grid(padding=(0, 0))
    where = "" if options.page else "  in two windows."
    body.add_row(Text.assemble("Open  ", (options.address, "bold underline cyan"), where))
    if not options.page:
        body.add_row("")
        body.add_row(_applications(options))
    if options.demo:
        body.add_row("")
        body.add_row(Text.assemble("Sign in as one of these, password ", (demo.PASSWORD, "bold"), ":"))
        body.add_row(people)
    body.add_row("")
    body.add_row(f"To see that no event is lost, kill one of these processes: {_command()} chaos kill NAME")
    body.add_row(_processes(services))
    body.add_row("")
    body.add_row(f"To watch and operate it on a page: {_command()} admin")
    body.add_row("")
    body.add_row(Text(f"Data and logs are in {folder.path}. --fresh starts over. Ctrl-C stops everything.", "dim"))
    return Panel(body, title="[bold]Beaconfire is running[/]", title_align="left", expand=False, padding=(1, 2))


def _applications(options: Options) -> Table:
    """Return the address of each application."""
    table = Table.grid(padding=(0, 3))
    for application in map(APPLICATIONS.__getitem__, options.applications):
        address = Text(f"{options.address}/{application.name}/", "underline cyan")
        table.add_row(Text(application.title, "bold"), address)
        table.add_row("", Text(application.description, "dim"))  # below, so that no address is cut in 80 columns
    return table


def _processes(services: Services) -> Text:
    """Return the names and process ids, in starting order."""
    parts = [Text.assemble((one.name, "bold"), " ", (str(one.pid), "dim")) for one in services.processes]
    return Text("   ").join(parts)


def _command() -> str:
    """Return how to call this program in another terminal.

    `uv run`, and so `make up`, put the environment's folder only onto our own PATH.
    """
    program = Path(sys.argv[0]).absolute()
    path = [one for one in os.environ.get("PATH", "").split(os.pathsep) if Path(one) != program.parent]
    if program.name != "beaconfire" or shutil.which("beaconfire", path=os.pathsep.join(path)):
        return "beaconfire"
    return str(program.relative_to(Path.cwd())) if program.is_relative_to(Path.cwd()) else str(program)


def _how_it_ended(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _lan_address() -> str:
    """Return this machine's address in its network. It asks the system for a route, without sending a packet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1, RFC 5737
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
