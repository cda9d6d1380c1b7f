"""The command line, `beaconfire …`: run everything on one machine, watch it, and operate a deployment.

Each command is thin: a module `…_commands` has its arguments, and the module with its name does the work.
"""

import os
import sys
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from beaconfire import (
    access_commands,
    authorizer_commands,
    broker_commands,
    catalogue_docs,
    chaos_commands,
    deployment_commands,
    event_commands,
    investigation,
    key_commands,
    limit_commands,
    listening,
    outboxes,
    publishing,
    tailing,
    token_commands,
    why_commands,
)
from beaconfire import deadletters as letters
from beaconfire import doctor as examining
from beaconfire import migrate as migrating
from beaconfire.admin import running as admin_page
from beaconfire.api import ApiError
from beaconfire.catalogue_access import CatalogueUnusable
from beaconfire.chaos import NoSuchPart
from beaconfire.data_folder import DataFolder, DataFolderUnusable
from beaconfire.demo import NotSeeded
from beaconfire.fragment_files import InvalidFile
from beaconfire.local_services import DidNotStart
from beaconfire.log_stream import plain
from beaconfire.member_files import InvalidMembers
from beaconfire.nats_server import BrokerDidNotReload, BrokerDidNotStart
from beaconfire.options import DATA, Data
from beaconfire.publishers_file import InvalidPublishers
from beaconfire.stream_setup import StreamNotDeclared
from beaconfire.up import Options, PageUnusable, PortTaken
from beaconfire.up import up as run_up
from beaconfire_demo.applications import APPLICATIONS, CAMPAIGN
from beaconfire_kit.broker import BrokerRefused
from beaconfire_kit.catalogue.fragment import InvalidFragment
from beaconfire_kit.catalogue_store import CatalogueError
from beaconfire_kit.database import DatabaseUnusable
from beaconfire_kit.invalid_event import InvalidEvent
from beaconfire_kit.key_value import BucketMissing
from beaconfire_kit.origins import InvalidOrigin
from beaconfire_kit.setting_files import FilesUnusable
from beaconfire_kit.subjects import InvalidRoom, InvalidSubject

app = typer.Typer(
    name="beaconfire",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(key_commands.keys, name="keys")
app.add_typer(broker_commands.app, name="broker")
app.add_typer(catalogue_docs.app, name="catalogue")
app.add_typer(chaos_commands.app, name="chaos")
app.add_typer(access_commands.members, name="member")
app.add_typer(access_commands.roots, name="root")
app.add_typer(access_commands.users, name="user")
app.add_typer(key_commands.service_tokens, name="service-token")
app.add_typer(token_commands.app, name="token")
app.add_typer(authorizer_commands.app, name="authorizer")
app.add_typer(limit_commands.app, name="limits")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"beaconfire {version('beaconfire')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Run Beaconfire on this machine, watch its events, and operate a deployment."""


# Errors that the user can act on. Any other exception is a bug in Beaconfire and shows its stack trace.
EXPECTED = (
    ApiError,
    BrokerDidNotReload,
    BrokerDidNotStart,
    InvalidPublishers,
    BrokerRefused,
    BucketMissing,
    CatalogueError,
    CatalogueUnusable,
    DataFolderUnusable,
    DatabaseUnusable,
    FilesUnusable,
    InvalidEvent,
    InvalidFile,
    InvalidFragment,
    InvalidMembers,
    InvalidOrigin,
    InvalidRoom,
    InvalidSubject,
    NoSuchPart,
    NotSeeded,
    PageUnusable,
    PortTaken,
    StreamNotDeclared,
    examining.CannotDiagnose,
    migrating.CannotMigrate,
    letters.CannotRead,
    listening.ListeningEnded,
    outboxes.CannotLook,
    publishing.CannotPublish,
    tailing.TailEnded,
    investigation.CannotInvestigate,
    token_commands.CannotExplain,
)


@app.command()
def up(
    port: Annotated[
        int,
        typer.Option(min=1, help="Port of the pages and the sockets. The services and the broker use the next ones."),
    ] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on. 0.0.0.0 lets other machines connect.")] = "127.0.0.1",
    data: Annotated[Path, typer.Option(help="Data folder. It is created if it does not exist, and kept.")] = DATA,
    gateways: Annotated[int, typer.Option(min=1, max=16, help="Number of gateways. They share the port.")] = 2,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes per gateway.")] = 1,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="APPLICATION",
            help=f"Start only this application: {' or '.join(f'`{name}`' for name in APPLICATIONS)}. Can be repeated. "
            "Default: all, and the campaign alone with --page.",
        ),
    ] = None,
    no_demo: Annotated[bool, typer.Option("--no-demo", help="Create no demo users and nothing for them.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the data of earlier runs first.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show every log line.")] = False,
    page: Annotated[
        Path | None,
        typer.Option(
            help="Folder with a page of yours (`index.html`), shown instead of the demo's pages. The browser client is "
            "at `/client/index.js`."
        ),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(help="A browser origin that may use the services, e.g. `http://localhost:3000`. Can be repeated."),
    ] = None,
    publishers: Annotated[
        Path | None,
        typer.Option(help="A file with programs of yours that publish onto the broker. Its changes are taken over."),
    ] = None,
    catalogue_files: Annotated[
        list[Path] | None,
        typer.Option(
            "--catalogue",
            metavar="FILE",
            help="Push this fragment of the catalogue, and again whenever the file is saved. Can be repeated.",
        ),
    ] = None,
) -> None:
    """Start everything on this machine and print the address to open. Ctrl-C stops it; the data stays.

    A `BEACONFIRE_…` variable is passed to each service that has this setting.
    """
    for name in only or []:
        if name not in APPLICATIONS:
            raise typer.BadParameter(
                f"{name!r} is no application. It is one of {', '.join(APPLICATIONS)}", param_hint="--only"
            )
    every = (CAMPAIGN.name,) if page else tuple(APPLICATIONS)
    options = Options(
        host,
        port,
        data,
        gateways,
        workers,
        applications=tuple(name for name in APPLICATIONS if name in only) if only else every,
        demo=not no_demo,
        fresh=fresh,
        verbose=verbose,
        page=page,
        origins=tuple(origin or ()),
        environment=os.environ,
        publishers=publishers,
        catalogue=tuple(catalogue_files or ()),
    )
    run_up(options, Console())


@app.command()
def admin(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the page. Default: 8090.")] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1, only this machine can connect.")
    ] = None,
    data: Data = DATA,
) -> None:
    """Serve a page that shows sessions, rooms, rates, outboxes, dead letters and keys, until Ctrl-C.

    It watches the running `beaconfire up`. If `BEACONFIRE_NATS_URL` is set, it watches the deployment of the settings.
    """
    admin_page.run(DataFolder(data), host=host, port=port, console=Console(highlight=False))


for command in (
    event_commands.listen,
    event_commands.publish,
    event_commands.send,
    deployment_commands.deadletters,
    deployment_commands.setup,
    deployment_commands.doctor,
    deployment_commands.reset_attempts,
    deployment_commands.migrate,
    deployment_commands.outbox,
    why_commands.why,
    why_commands.event,
    why_commands.sessions,
    why_commands.tail,
):
    app.command()(command)
access_commands.users.command("show")(why_commands.show_user)


def main() -> None:
    """Run a command. An error that the user can act on is printed as a sentence, without a stack trace."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal without Unicode gets `\\u2713` for a check mark
            stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="beaconfire")
    except DidNotStart as error:
        _fail(f"{error}. The end of its log:\n{plain(error.last_lines) or '  (none)'}")
    except EXPECTED as error:
        _fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(text: str) -> None:
    Console(stderr=True).print(Text.assemble(("error: ", "bold red"), text), highlight=False, soft_wrap=True)
    sys.exit(1)
