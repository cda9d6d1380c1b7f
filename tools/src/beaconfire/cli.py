"""The command line, `beaconfire …`: run everything on one machine, watch it, and operate a deployment.

Each command is thin. The module with its name does the work.
"""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer
from rich.console import Console
from rich.text import Text

from beaconfire import (
    access_commands,
    authorizer_commands,
    broker_commands,
    catalogue_docs,
    dropping,
    investigation,
    limit_commands,
    listening,
    operating,
    outboxes,
    publishing,
    replaying,
    sending,
    sign_in,
    tailing,
    token_commands,
    why_commands,
)
from beaconfire import deadletters as letters
from beaconfire import doctor as examining
from beaconfire import migrate as migrating
from beaconfire.admin import running as admin_page
from beaconfire.api import ApiError
from beaconfire.catalogue_access import CatalogueUnusable, check_sources, explaining, pushed_by, read_sources
from beaconfire.catalogue_views import print_pushed
from beaconfire.chaos import NoSuchPart, send_signal
from beaconfire.data_folder import DataFolder, DataFolderUnusable
from beaconfire.demo import NotSeeded
from beaconfire.diagnosis import worst
from beaconfire.fragment_files import InvalidFile
from beaconfire.local_services import DidNotStart
from beaconfire.log_stream import plain
from beaconfire.member_files import InvalidMembers
from beaconfire.nats_server import BrokerDidNotReload, BrokerDidNotStart
from beaconfire.operating import AuthOperator, auth_operator
from beaconfire.options import (
    DATA,
    AsJson,
    AuthOps,
    Because,
    Data,
    OperatorToken,
    as_publisher,
    as_user,
    has_broker_settings,
    or_in_file,
    reason_given,
)
from beaconfire.publishers_file import InvalidPublishers, read_publishers
from beaconfire.stream_setup import StreamNotDeclared, declare
from beaconfire.tables import print_table
from beaconfire.up import Options, PageUnusable, PortTaken
from beaconfire.up import up as run_up
from beaconfire_demo.applications import APPLICATIONS, CAMPAIGN
from beaconfire_kit.broker import STREAM, BrokerRefused
from beaconfire_kit.catalogue.fragment import InvalidFragment
from beaconfire_kit.catalogue_store import CatalogueError
from beaconfire_kit.database import DatabaseUnusable
from beaconfire_kit.invalid_event import InvalidEvent
from beaconfire_kit.key_value import BucketMissing
from beaconfire_kit.origins import InvalidOrigin
from beaconfire_kit.setting_files import FilesUnusable
from beaconfire_kit.settings import ENV_PREFIX, Settings
from beaconfire_kit.subjects import InvalidRoom, InvalidSubject, is_id, is_reserved

app = typer.Typer(
    name="beaconfire",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

keys = typer.Typer(help="List, rotate and retire the keys that sign tokens.", no_args_is_help=True)
service_token = typer.Typer(
    help="Issue, list and revoke tokens of services that publish events or manage access.", no_args_is_help=True
)
chaos = typer.Typer(
    help="Kill or freeze a process of the running `beaconfire up`, to see that no event is lost.", no_args_is_help=True
)
app.add_typer(keys, name="keys")
app.add_typer(broker_commands.app, name="broker")
app.add_typer(catalogue_docs.app, name="catalogue")
app.add_typer(chaos, name="chaos")
app.add_typer(access_commands.members, name="member")
app.add_typer(access_commands.roots, name="root")
app.add_typer(access_commands.users, name="user")
app.add_typer(service_token, name="service-token")
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


@app.command()
def listen(
    rooms: Annotated[
        list[str], typer.Argument(help="Rooms: `campaign:ID` or `campaign:ID/settlement:ID`.", metavar="ROOM…")
    ],
    email: Annotated[
        str | None, typer.Option(help="Sign in as this user. The token is renewed while the command runs.")
    ] = None,
    password: Annotated[
        str | None, typer.Option(help="Default: the command asks for it. Demo users need none.")
    ] = None,
    access_token: Annotated[
        str | None, typer.Option("--token", help="Use this access token instead of --email.")
    ] = None,
    gateway: Annotated[
        str | None, typer.Option(help="URL of a gateway. Default: that of the running `beaconfire up`.")
    ] = None,
    auth: Annotated[str | None, typer.Option(help="URL of auth. Default: that of the running `beaconfire up`.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each `event` message as one line of JSON.")] = False,
    data: Data = DATA,
) -> None:
    """Print the events of rooms as they arrive, until Ctrl-C. Reconnects automatically and misses no event."""
    if (email is None) == (access_token is None):
        raise typer.BadParameter("give either --email or --token")
    folder = DataFolder(data)
    gateway_url = gateway or folder.running().address
    tokens = sign_in.Tokens(auth or (folder.running().auth_url if email else ""), email, password, access_token)
    printer = listening.print_json if as_json else listening.print_readable
    asyncio.run(listening.listen(gateway_url, rooms, tokens, printer))


@app.command()
def publish(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[SUBJECT] TYPE [PAYLOAD]",
            help="Type of the event, e.g. `settlement_updated`, and its payload: a JSON object, `@FILE`, or `-` for "
            "the standard input. The subject comes first, if the payload does not have all of its ids.",
        ),
    ],
    subject: Annotated[str | None, typer.Option(help="Subject of the event, e.g. `campaign.c1.settlement.s1`.")] = None,
    version: Annotated[
        int | None, typer.Option("--type-version", min=1, help="Version of the type. Default: the newest.")
    ] = None,
    source: Annotated[str, typer.Option(help="`source` in the event's metadata.")] = "cli",
    data: Data = DATA,
) -> None:
    """Check an event against the deployment's catalogue, publish it, and print its offset.

    The broker is that of `BEACONFIRE_NATS_URL` if it is set, otherwise that of the running `beaconfire up`.
    """
    event = publishing.wanted(words, subject=subject, version=version, source=source)
    print(asyncio.run(publishing.publish(as_user("publisher", DataFolder(data)), event)))


@app.command()
def send(
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="Type of the event. It must be ephemeral.")],
    payload: Annotated[
        str | None, typer.Argument(help="Its payload: a JSON object, `@FILE`, or `-` for the standard input.")
    ] = None,
    to: Annotated[
        list[str] | None,
        typer.Option(
            help="A room, like `workspace:w1/team:m1`, or a session, like `user:u1/session:9f3c52d0`. Repeatable."
        ),
    ] = None,
    version: Annotated[int, typer.Option("--type-version", min=1, help="Version of the type.")] = 1,
    publisher: Annotated[
        str | None, typer.Option(help="URL of the publisher. Default: that of the running `beaconfire up`.")
    ] = None,
    service_token: Annotated[
        str | None,
        typer.Option(
            envvar=f"{ENV_PREFIX}SERVICE_TOKEN",
            callback=or_in_file("service_token"),
            help="A service token that allows the subjects of the rooms. Default: one of the running `beaconfire up`.",
        ),
    ] = None,
    data: Data = DATA,
) -> None:
    """Send an event that is stored nowhere to rooms, users and sessions, and print its id."""
    client = sending.Client(DataFolder(data), publisher, service_token)
    print(client.send(type_, publishing.read_payload(payload), to or [], version=version))


@app.command()
def deadletters(
    reason: Annotated[str | None, typer.Option(help="Show only dead letters with this reason, e.g. `invalid`.")] = None,
    last: Annotated[int, typer.Option(min=1, help="Number of dead letters to show, newest.")] = 100,
    follow: Annotated[
        bool, typer.Option("--follow", help="Afterwards show each new dead letter, until Ctrl-C.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each dead letter as one line of JSON, with its whole body.")
    ] = False,
    replay: Annotated[
        list[int] | None,
        typer.Option(metavar="NUMBER", help="Publish the event of this dead letter again. Can be repeated."),
    ] = None,
    replay_all: Annotated[
        bool, typer.Option("--replay-all", help="Publish the events of all dead letters again, or those of --reason.")
    ] = False,
    drop: Annotated[
        list[int] | None,
        typer.Option(metavar="NUMBER", help="Delete this dead letter. Needs --because. Can be repeated."),
    ] = None,
    drop_all: Annotated[
        bool, typer.Option("--drop-all", help="Delete all dead letters, or those of --reason. Needs --because.")
    ] = False,
    because: Because = None,
    data: Data = DATA,
) -> None:
    """Show dead letters: messages that gateways set aside because they are not valid events. Replay them after a fix.

    A replayed event is checked again and gets a new offset. It is stored once, and its dead letter is deleted. If a
    dead letter is dropped, a log line on the standard error says who did it and why.

    Text that looks like a secret is blanked. The broker is that of `BEACONFIRE_NATS_URL` (user `operator`) if it is
    set, otherwise that of the running `beaconfire up`. To replay, the first also needs `BEACONFIRE_PUBLISHER_PASSWORD`.
    """
    settings = as_user("operator", DataFolder(data))
    if drop or drop_all:
        if replay or replay_all:
            raise typer.BadParameter("either replay or drop dead letters, not both at once")
        _drop(settings, None if drop_all else drop, reason, because, as_json=as_json)
        return
    if replay or replay_all:
        _replay(settings, as_publisher(DataFolder(data)), None if replay_all else replay, reason, as_json=as_json)
        return
    printer = letters.print_json if as_json else letters.print_readable
    count = asyncio.run(letters.read(settings, printer, last=last, reason=reason, follow=follow))
    if count == 0:
        print("There are no dead letters" + (f" with the reason {reason}" if reason else ""), file=sys.stderr)
    elif count > last:
        print(f"{count - last} older dead letters are not shown. To see all: --last {count}", file=sys.stderr)


def _replay(
    settings: Settings, publisher: Settings, numbers: list[int] | None, reason: str | None, *, as_json: bool
) -> None:
    """Replay dead letters, and exit with 1 if one was not replayed."""
    _print_outcomes(asyncio.run(replaying.replay_all(settings, publisher, numbers, reason=reason)), as_json=as_json)


def _drop(
    settings: Settings, numbers: list[int] | None, reason: str | None, because: str | None, *, as_json: bool
) -> None:
    """Delete dead letters, and exit with 1 if one was not deleted."""
    why = reason_given(because)
    dropped = dropping.drop_all(settings, numbers, why=why, by=pushed_by(), reason=reason)
    _print_outcomes(asyncio.run(dropped), as_json=as_json)


def _print_outcomes(outcomes: Sequence[replaying.Outcome], *, as_json: bool) -> None:
    """Print what became of dead letters, and exit with 1 if one of them is not as wanted."""
    replaying.print_json(outcomes) if as_json else replaying.print_readable(outcomes, Console(highlight=False))
    if not outcomes:
        print("There are no such dead letters", file=sys.stderr)
    if not all(one.is_done for one in outcomes):
        raise typer.Exit(1)


@app.command()
def setup(
    replicas: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=5,
            envvar="BEACONFIRE_STREAM_REPLICAS",
            help="Replicas of the stream; use 3 on a cluster. Default: unchanged, 1 for a new stream.",
        ),
    ] = None,
    catalogue_files: Annotated[
        list[Path] | None,
        typer.Option("--catalogue", metavar="FILE", help="Push this fragment of the catalogue too. Can be repeated."),
    ] = None,
    root: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Let the stream take the events of this kind of root. Can be repeated."),
    ] = None,
    no_builtin: Annotated[bool, typer.Option("--no-builtin", help="Do not push the built-in fragments.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for the broker.")] = 60.0,
    data: Data = DATA,
) -> None:
    """Create the stream and the catalogue, or bring them up to date. Run it once per deployment, before the services.

    The broker is that of `BEACONFIRE_NATS_URL` (user `setup`) if it is set, otherwise that of the running
    `beaconfire up`.
    """
    for kind in root or []:
        if not is_id(kind) or is_reserved(kind):
            raise typer.BadParameter(f"{kind!r} cannot be a kind of root", param_hint="--root")
    sources = read_sources(catalogue_files or [])
    check_sources(sources)
    declaring = declare(
        as_user("setup", DataFolder(data)),
        replicas=replicas,
        timeout_s=timeout,
        builtin=not no_builtin,
        roots=root or [],
        documents=[source.document for source in sources],
        by=pushed_by(),
    )
    with explaining(sources):
        epoch, pushed = asyncio.run(declaring)
    print(f"The stream is declared. Its epoch is {epoch}.")
    if pushed is not None:
        print_pushed(pushed, as_json=False)


@app.command()
def doctor(
    monitoring: Annotated[
        list[str] | None,
        typer.Option(
            help="URL of the broker's monitoring port, `http://…:8222`. Repeat it for each server of a cluster."
        ),
    ] = None,
    service: Annotated[
        list[str] | None,
        typer.Option(
            "--service-ops",
            "--service",
            help="URL of a service's operations port, to check its `/readyz`. Can be repeated.",
        ),
    ] = None,
    env_file: Annotated[
        Path | None, typer.Option(help="The deployment's `.env`, to check what each broker user may do.")
    ] = None,
    publishers: Annotated[
        Path | None, typer.Option(help="The file with further publishers, to check what each may do.")
    ] = None,
    database: Annotated[
        list[str] | None,
        typer.Option(metavar="SERVICE=URL", help="A service's database, to check its outbox. Can be repeated."),
    ] = None,
    door: Annotated[
        list[str] | None,
        typer.Option(help="A public address of the deployment, to check its certificate. Can be repeated."),
    ] = None,
    auth_ops: AuthOps = None,
    operator_token: OperatorToken = None,
    new_epoch: Annotated[
        bool,
        typer.Option(
            "--new-epoch", help="After restoring the stream: start a new epoch, so that every client reloads."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation of `--new-epoch`.")] = False,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Check a deployment and say what to change, so that no event is lost. Exit code 1 means that something is wrong.

    The broker is that of `BEACONFIRE_NATS_URL` (user `operator`, or `setup` with `--new-epoch`) if it is set, otherwise
    that of the running `beaconfire up`.
    """
    folder = DataFolder(data)
    if new_epoch:
        _renew_epoch(as_user("setup", folder), ask=not yes)
        return
    deployment = _deployment(folder, monitoring, service, env_file, publishers)
    deployment = replace(
        deployment,
        databases={**deployment.databases, **_databases(database or ())},
        doors=door or deployment.doors,
        auth=_auth(folder, auth_ops, operator_token),
    )
    checks = asyncio.run(examining.diagnose(deployment))
    examining.print_json(checks) if as_json else examining.print_readable(checks, Console(highlight=False))
    if worst(checks) == "wrong":
        raise typer.Exit(1)


def _databases(given: Sequence[str]) -> dict[str, str]:
    named = dict(one.partition("=")[::2] for one in given)
    for name, url in named.items():
        if name not in outboxes.OUTBOXES or not url:
            services = ", ".join(outboxes.OUTBOXES)
            raise typer.BadParameter(f"--database is SERVICE=URL, and the service is one of {services}")
    return named


def _auth(folder: DataFolder, url: str | None, token: str | None) -> AuthOperator | None:
    """Return auth's operations port: the given one, or that of the running `up`. None if it is not given."""
    if has_broker_settings() and (url is None or token is None):
        return None
    return auth_operator(folder, url, token)


def _deployment(
    folder: DataFolder,
    monitoring: list[str] | None,
    services: list[str] | None,
    env_file: Path | None,
    publishers_file: Path | None,
) -> examining.Deployment:
    """Return what to check: the deployment that the environment names, or else the running `up`."""
    publishers = read_publishers(publishers_file) if publishers_file else ()
    passwords = examining.passwords_of(env_file, publishers) if env_file else {}
    if has_broker_settings():
        return examining.Deployment(
            as_user("operator", folder), passwords, publishers, monitoring or (), services or ()
        )
    running = folder.running()
    return examining.Deployment(
        as_user("operator", folder),
        passwords or folder.passwords(),
        publishers,
        monitoring or [url for url in (running.monitoring_url,) if url],
        services or list(running.ops_urls.values()),
        {url: name for name, url in running.ops_urls.items()},
        migrating.databases_of(folder.path),
        [running.address],
    )


def _renew_epoch(settings: Settings, *, ask: bool) -> None:
    print(f"This starts a new epoch of the stream {STREAM} at {settings.nats_url}. Every client will reload its state.")
    if ask:
        typer.confirm("Continue?", abort=True)
    was, epoch = asyncio.run(examining.renew_epoch(settings))
    print(f"The epoch was {was or 'none'} and is now {epoch}. Running gateways ask their clients to reload.")


@keys.command("list")
def list_keys(
    as_json: AsJson = False, auth_ops: AuthOps = None, operator_token: OperatorToken = None, data: Data = DATA
) -> None:
    """List the keys: which one signs, which ones only verify, and until when."""
    found = auth_operator(DataFolder(data), auth_ops, operator_token).get("keys")["keys"]
    print(json.dumps(found)) if as_json else print_table(operating.keys_table(found))


@keys.command()
def rotate(
    lead: Annotated[
        int | None,
        typer.Option(min=0, help="Seconds that verifiers see the key before it signs. Default: auth's setting."),
    ] = None,
    auth_ops: AuthOps = None,
    operator_token: OperatorToken = None,
    data: Data = DATA,
) -> None:
    """Create a new signing key and print its id. The old key verifies until its last token has expired."""
    body = {} if lead is None else {"leadS": lead}
    print(auth_operator(DataFolder(data), auth_ops, operator_token).post("keys", body)["key"]["kid"])


@keys.command()
def retire(kid: str, auth_ops: AuthOps = None, operator_token: OperatorToken = None, data: Data = DATA) -> None:
    """Destroy a leaked key. Every token that it signed becomes invalid.

    The key that signs now cannot be retired: run `beaconfire keys rotate --lead 0` first.
    """
    auth_operator(DataFolder(data), auth_ops, operator_token).delete(f"keys/{quote(kid, safe='')}")


@service_token.command()
def issue(
    service: Annotated[str, typer.Argument(help="Name of the service. It becomes the `source` of its events.")],
    publish: Annotated[
        list[str],
        typer.Argument(
            help="Subjects that it may publish, e.g. `campaign.*.settlement.>`. "
            "`campaign.*.member.*` and `user.*.access` let it manage access.",
            metavar="SUBJECT…",
        ),
    ],
    days: Annotated[int, typer.Option(min=1, max=366, help="Days until the token expires.")] = 90,
    auth_ops: AuthOps = None,
    operator_token: OperatorToken = None,
    data: Data = DATA,
) -> None:
    """Create a token for a service and print it. It is not stored and cannot be shown again."""
    body = {"service": service, "publish": publish, "expiresInS": days * 86_400}
    print(auth_operator(DataFolder(data), auth_ops, operator_token).post("service-tokens", body)["token"])


@service_token.command("list")
def list_service_tokens(
    as_json: AsJson = False, auth_ops: AuthOps = None, operator_token: OperatorToken = None, data: Data = DATA
) -> None:
    """List the tokens of services: what they may publish, until when, and when they were last used."""
    found = auth_operator(DataFolder(data), auth_ops, operator_token).get("service-tokens")["serviceTokens"]
    print(json.dumps(found)) if as_json else print_table(operating.service_tokens_table(found))


@service_token.command()
def revoke(
    token_id: Annotated[str, typer.Argument(help="Id of the token, from `service-token list`.", metavar="ID")],
    auth_ops: AuthOps = None,
    operator_token: OperatorToken = None,
    data: Data = DATA,
) -> None:
    """Revoke a service's token. The service's next request is refused."""
    auth_operator(DataFolder(data), auth_ops, operator_token).delete(f"service-tokens/{quote(token_id, safe='')}")


Part = Annotated[
    str,
    typer.Argument(help="Name of the process, as `beaconfire up` prints it: `broker`, `gateway-1`, …", metavar="NAME"),
]


@chaos.command()
def kill(name: Part, data: Data = DATA) -> None:
    """Kill a process as a crash would (SIGKILL). `beaconfire up` restarts it a second later."""
    print(send_signal(DataFolder(data), name, "kill"))


@chaos.command()
def freeze(name: Part, data: Data = DATA) -> None:
    """Freeze a process (SIGSTOP). Its connections stay open, but it answers nothing."""
    print(send_signal(DataFolder(data), name, "freeze"))


@chaos.command()
def thaw(name: Part, data: Data = DATA) -> None:
    """Let a frozen process continue (SIGCONT)."""
    print(send_signal(DataFolder(data), name, "thaw"))


@app.command("reset-attempts")
def reset_attempts(
    address: Annotated[str | None, typer.Option(help="IP address of the client.")] = None,
    email: Annotated[str | None, typer.Option(help="E-mail address of the account.")] = None,
    auth_ops: AuthOps = None,
    operator_token: OperatorToken = None,
    data: Data = DATA,
) -> None:
    """Allow sign-ins again from an IP address, or to an account, that had too many attempts."""
    if address is None and email is None:
        raise typer.BadParameter("give --address, --email, or both")
    body = {name: value for name, value in (("address", address), ("email", email)) if value is not None}
    auth_operator(DataFolder(data), auth_ops, operator_token).post("reset-attempts", body)


@app.command()
def migrate(
    service: Annotated[
        str | None,
        typer.Argument(
            help="`auth`, `publisher`, `workspace`, `tracker`. Default: all, unless --database-url is given."
        ),
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(help="URL of the database. Default: BEACONFIRE_DATABASE_URL, or else that of `beaconfire up`."),
    ] = None,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for the database.")] = 30.0,
    data: Data = DATA,
) -> None:
    """Update the tables of a service's database. Run it before a new version of the service starts.

    Running it twice at the same time does no harm.
    """
    for line in migrating.migrate(service, database_url, data, timeout_s=timeout):
        print(line)


@app.command()
def outbox(
    service: Annotated[
        str | None,
        typer.Argument(
            help="`auth`, `publisher`, `workspace`, `tracker`. Default: all, unless --database-url is given."
        ),
    ] = None,
    resend: Annotated[
        list[str] | None,
        typer.Option(metavar="EVENT", help="Send the refused event with this id again. Can be repeated."),
    ] = None,
    resend_all: Annotated[bool, typer.Option("--resend-all", help="Send every refused event again.")] = False,
    drop: Annotated[
        list[str] | None,
        typer.Option(metavar="EVENT", help="Delete the refused event with this id. Needs --because. Can be repeated."),
    ] = None,
    because: Because = None,
    database_url: Annotated[
        str | None,
        typer.Option(help="URL of the database. Default: BEACONFIRE_DATABASE_URL, or else that of `beaconfire up`."),
    ] = None,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Show events that wait for the broker, and events that it refused. Send refused events again, or drop them.

    The service that runs on the database sends them within two seconds, at the end of the stream.
    """
    where = (service, database_url, data)
    if resend or resend_all:
        print(f"{outboxes.send_again(*where, None if resend_all else resend)} will be sent again")
    if drop:
        print(f"{outboxes.drop(*where, drop, why=reason_given(because), by=pushed_by())} deleted")
    if not (resend or resend_all or drop):
        seen = outboxes.look(*where)
        outboxes.print_json(seen) if as_json else outboxes.print_readable(seen, Console(highlight=False))


app.command()(why_commands.why)
app.command()(why_commands.event)
app.command()(why_commands.sessions)
app.command()(why_commands.tail)
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
