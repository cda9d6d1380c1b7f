"""The command line, `beaconfire …`: running it all, watching it, operating it.

Each command is thin; the work is beside it.
"""

import asyncio
import json
import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.text import Text

from beaconfire import deadletters as letters
from beaconfire import doctor as examining
from beaconfire import listening, operating, outboxes, publishing, sign_in
from beaconfire import migrate as migrating
from beaconfire.api import ApiError
from beaconfire.chaos import NoSuchPart, send_signal
from beaconfire.data_folder import DataFolder, DataFolderUnusable
from beaconfire.demo import NotSeeded
from beaconfire.diagnosis import worst
from beaconfire.local_services import DidNotStart
from beaconfire.log_stream import plain
from beaconfire.nats_server import BrokerDidNotStart
from beaconfire.operating import auth_operator
from beaconfire.stream_setup import StreamNotDeclared, declare
from beaconfire.tables import print_table
from beaconfire.up import Options, PortTaken
from beaconfire.up import up as run_up
from beaconfire_kit.broker import STREAM, BrokerRefused
from beaconfire_kit.database import DatabaseUnusable
from beaconfire_kit.envelope import InvalidEvent
from beaconfire_kit.origins import InvalidOrigin
from beaconfire_kit.settings import ENV_PREFIX, Settings, read_settings
from beaconfire_kit.subjects import InvalidRoom, InvalidSubject

app = typer.Typer(
    name="beaconfire",
    help="Everyone at the table sees what just changed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

keys = typer.Typer(help="The keys that sign tokens: list, rotate, retire.", no_args_is_help=True)
service_token = typer.Typer(help="Tokens for services that publish over HTTP.", no_args_is_help=True)
chaos = typer.Typer(help="Hurt a part of the running `up`, to see that nothing is lost.", no_args_is_help=True)
app.add_typer(keys, name="keys")
app.add_typer(chaos, name="chaos")
app.add_typer(service_token, name="service-token")

Data = Annotated[Path, typer.Option(help="The folder of the running `beaconfire up`.")]
DATA = Path(".beaconfire")
AuthOps = Annotated[str | None, typer.Option(help="Auth's operations port, `http://…`; else that of the running `up`.")]
OperatorToken = Annotated[
    str | None, typer.Option(envvar=f"{ENV_PREFIX}OPERATOR_TOKEN", help="Else that of the running `up`.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]

# What went wrong for a reason a person can act on; anything else is a bug of ours and shows its trace.
EXPECTED = (
    ApiError,
    BrokerDidNotStart,
    BrokerRefused,
    DataFolderUnusable,
    DatabaseUnusable,
    InvalidEvent,
    InvalidOrigin,
    InvalidRoom,
    InvalidSubject,
    NoSuchPart,
    NotSeeded,
    PortTaken,
    StreamNotDeclared,
    examining.CannotDiagnose,
    migrating.CannotMigrate,
    letters.CannotRead,
    listening.ListeningEnded,
    outboxes.CannotLook,
    publishing.CannotPublish,
)


@app.command()
def up(
    port: Annotated[
        int,
        typer.Option(
            min=1, help="Port of the page and the sockets. The next three are auth's, the publisher's and the broker's."
        ),
    ] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    data: Annotated[Path, typer.Option(help="Folder of the data, made where it is missing and kept.")] = DATA,
    gateways: Annotated[int, typer.Option(min=1, max=16, help="Gateways; they share the port.")] = 2,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes of each gateway.")] = 1,
    no_demo: Annotated[bool, typer.Option("--no-demo", help="Make no demo people and no demo campaign.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Remove the data of earlier runs first.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show every line of every log, from the start.")] = False,
    origin: Annotated[
        list[str] | None,
        typer.Option(help="A browser origin that may use the services, `http://localhost:3000`; may be repeated."),
    ] = None,
) -> None:
    """Start everything on this machine and print the address to open. Ctrl-C stops it; the data stays.

    `BEACONFIRE_…` variables reach the services that have such a setting.
    """
    options = Options(host, port, data, gateways, workers, not no_demo, fresh, verbose, tuple(origin or ()), os.environ)
    run_up(options, Console())


@app.command()
def token(
    email: Annotated[str, typer.Option(help="Whose token.")],
    password: Annotated[
        str | None, typer.Option(help="Asked for where it is missing; the demo people's is known.")
    ] = None,
    auth: Annotated[
        str | None, typer.Option(help="Address of auth, `http://…`; else that of the running `up`.")
    ] = None,
    data: Data = DATA,
) -> None:
    """Print an access token, for `curl -H "Authorization: Bearer $(beaconfire token --email …)"`. It lives minutes."""
    print(sign_in.access_token(auth or DataFolder(data).running().auth_url, email, password))


@app.command()
def listen(
    rooms: Annotated[
        list[str], typer.Argument(help="Rooms, `campaign:ID` or `campaign:ID/settlement:ID`.", metavar="ROOM…")
    ],
    email: Annotated[str | None, typer.Option(help="Sign in as; the token is renewed as long as it runs.")] = None,
    password: Annotated[
        str | None, typer.Option(help="Asked for where it is missing; the demo people's is known.")
    ] = None,
    access_token: Annotated[str | None, typer.Option("--token", help="An access token, instead of --email.")] = None,
    gateway: Annotated[
        str | None, typer.Option(help="Address of a gateway, `http://…`; else that of the running `up`.")
    ] = None,
    auth: Annotated[
        str | None, typer.Option(help="Address of auth, `http://…`; else that of the running `up`.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each `event` frame as one line of JSON.")] = False,
    data: Data = DATA,
) -> None:
    """Print the events of rooms as they come, until Ctrl-C. Connects again by itself, and misses nothing."""
    if (email is None) == (access_token is None):
        raise typer.BadParameter("give either --email or --token")
    folder = DataFolder(data)
    gateway_url = gateway or folder.running().address
    tokens = sign_in.Tokens(auth or (folder.running().auth_url if email else ""), email, password, access_token)
    printer = listening.print_json if as_json else listening.print_readable
    asyncio.run(listening.listen(gateway_url, rooms, tokens, printer))


@app.command()
def publish(
    subject: Annotated[str, typer.Argument(help="Where to, e.g. `campaign.c1.settlement.s1`.")],
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="A type of the catalogue, e.g. `settlement_updated`.")],
    payload: Annotated[str, typer.Argument(metavar="PAYLOAD_JSON", help="The payload, a JSON object.")],
    source: Annotated[str, typer.Option(help="The `source` of the event's metadata.")] = "cli",
    data: Data = DATA,
) -> None:
    """Publish an event onto the broker of the running `up`, as its publisher, and print its offset."""
    folder = DataFolder(data)
    message = publishing.message(subject, type_, payload, source=source)
    print(asyncio.run(publishing.publish(folder.running().nats_url, folder.passwords()["publisher"], subject, message)))


@app.command()
def deadletters(
    reason: Annotated[str | None, typer.Option(help="Only those set aside for this reason, e.g. `invalid`.")] = None,
    last: Annotated[int, typer.Option(min=1, help="How many of the newest to show.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", help="Then show each new one, until Ctrl-C.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each as one line of JSON, with its whole body.")
    ] = False,
    data: Data = DATA,
) -> None:
    """Show messages that gateways set aside because they are no event: when, why, where, and how they begin.

    What looks like a secret is blanked. Reads `BEACONFIRE_NATS_…` (user `operator`) where the address is set, else asks
    the broker of the running `up`.
    """
    settings = _as_user("operator", DataFolder(data))
    printer = letters.print_json if as_json else letters.print_readable
    count = asyncio.run(letters.read(settings, printer, last=last, reason=reason, follow=follow))
    if count == 0:
        print("nothing was set aside" + (f" for {reason}" if reason else ""), file=sys.stderr)
    elif count > last:
        print(f"{count - last} older ones are not shown: --last {count}", file=sys.stderr)


def _has_broker_settings() -> bool:
    return "nats_url" in Settings().model_fields_set


def _as_user(user: str, folder: DataFolder) -> Settings:
    """How to reach the broker: as the environment says, else that of the running `up` as this user."""
    if _has_broker_settings():
        return read_settings(Settings)
    return Settings(
        environment="development",
        nats_url=folder.running().nats_url,
        nats_user=user,
        nats_password=SecretStr(folder.passwords()[user]),
    )


@app.command()
def setup(
    replicas: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=5,
            envvar="BEACONFIRE_STREAM_REPLICAS",
            help="Copies of the stream; 3 on a cluster. Else as many as it has, and 1 of a new one.",
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for the broker.")] = 60.0,
) -> None:
    """Declare the stream, or bring it up to date: a deployment's one-shot job. Reads `BEACONFIRE_NATS_…`."""
    epoch = asyncio.run(declare(read_settings(Settings), replicas=replicas, timeout_s=timeout))
    print(f"the stream is declared, epoch {epoch}")


@app.command()
def doctor(
    monitoring: Annotated[
        list[str] | None,
        typer.Option(help="The broker's monitoring port, `http://…:8222`; of a cluster, once for each server."),
    ] = None,
    service: Annotated[
        list[str] | None, typer.Option(help="Address of a service, `http://…`, whose `/readyz` is asked; any number.")
    ] = None,
    env_file: Annotated[
        Path | None, typer.Option(help="The deployment's `.env`: what each broker user may do is tried.")
    ] = None,
    new_epoch: Annotated[
        bool, typer.Option("--new-epoch", help="After a restore of the stream: make every client reload.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before `--new-epoch`.")] = False,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Check a running broker, and say what to change for events to be delivered as promised. Exit code 1: it is wrong.

    Reads `BEACONFIRE_NATS_…` (user `operator`; `setup` for `--new-epoch`) where the address is set, else asks the
    broker of the running `up`.
    """
    folder = DataFolder(data)
    if new_epoch:
        _renew_epoch(_as_user("setup", folder), ask=not yes)
        return
    checks = asyncio.run(examining.diagnose(_deployment(folder, monitoring, service, env_file)))
    examining.print_json(checks) if as_json else examining.print_readable(checks, Console(highlight=False))
    if worst(checks) == "wrong":
        raise typer.Exit(1)


def _deployment(
    folder: DataFolder, monitoring: list[str] | None, services: list[str] | None, env_file: Path | None
) -> examining.Deployment:
    """What is to be examined: the deployment of the environment, else the running `up`."""
    passwords = examining.passwords_of(env_file) if env_file else {}
    if _has_broker_settings():
        return examining.Deployment(_as_user("operator", folder), passwords, monitoring or (), services or ())
    running = folder.running()
    return examining.Deployment(
        _as_user("operator", folder),
        passwords or folder.passwords(),
        monitoring or [url for url in (running.monitoring_url,) if url],
        services or (running.address, running.auth_url, running.publisher_url),
        migrating.databases_of(folder.path),
    )


def _renew_epoch(settings: Settings, *, ask: bool) -> None:
    print(f"The stream {STREAM} at {settings.nats_url} gets a new epoch: every client reloads what it shows.")
    if ask:
        typer.confirm("Go on?", abort=True)
    was, epoch = asyncio.run(examining.renew_epoch(settings))
    print(f"the epoch was {was or 'none'} and is {epoch}; running gateways tell their clients now")


@keys.command("list")
def list_keys(
    as_json: AsJson = False, auth_ops: AuthOps = None, operator_token: OperatorToken = None, data: Data = DATA
) -> None:
    """Show the keys: which signs, which only verify, and until when."""
    found = auth_operator(DataFolder(data), auth_ops, operator_token).get("keys")["keys"]
    print(json.dumps(found)) if as_json else print_table(operating.keys_table(found))


@keys.command()
def rotate(
    lead: Annotated[
        int | None, typer.Option(min=0, help="Seconds verifiers are shown the key before it signs; else auth's own.")
    ] = None,
    auth_ops: AuthOps = None,
    operator_token: OperatorToken = None,
    data: Data = DATA,
) -> None:
    """Make a new signing key and print its id. The old one verifies until its last token has run out."""
    body = {} if lead is None else {"leadS": lead}
    print(auth_operator(DataFolder(data), auth_ops, operator_token).post("keys", body)["key"]["kid"])


@keys.command()
def retire(kid: str, auth_ops: AuthOps = None, operator_token: OperatorToken = None, data: Data = DATA) -> None:
    """Destroy a key that leaked, with all it signed. Not the one that signs: `keys rotate --lead 0` first."""
    auth_operator(DataFolder(data), auth_ops, operator_token).delete(f"keys/{quote(kid, safe='')}")


@service_token.command()
def issue(
    service: Annotated[str, typer.Argument(help="The service's name, the `source` of its events.")],
    publish: Annotated[
        list[str], typer.Argument(help="Subjects it may publish, `campaign.*.settlement.>`.", metavar="SUBJECT…")
    ],
    days: Annotated[int, typer.Option(min=1, max=366, help="Days until it runs out.")] = 90,
    auth_ops: AuthOps = None,
    operator_token: OperatorToken = None,
    data: Data = DATA,
) -> None:
    """Make a token for a service and print it. It is shown this once, and kept nowhere."""
    body = {"service": service, "publish": publish, "expiresInS": days * 86_400}
    print(auth_operator(DataFolder(data), auth_ops, operator_token).post("service-tokens", body)["token"])


@service_token.command("list")
def list_service_tokens(
    as_json: AsJson = False, auth_ops: AuthOps = None, operator_token: OperatorToken = None, data: Data = DATA
) -> None:
    """Show the tokens of services: what they may publish, until when, and when they were last used."""
    found = auth_operator(DataFolder(data), auth_ops, operator_token).get("service-tokens")["serviceTokens"]
    print(json.dumps(found)) if as_json else print_table(operating.service_tokens_table(found))


@service_token.command()
def revoke(
    token_id: Annotated[str, typer.Argument(help="Its id, from `service-token list`.", metavar="ID")],
    auth_ops: AuthOps = None,
    operator_token: OperatorToken = None,
    data: Data = DATA,
) -> None:
    """Revoke a service's token. It counts from the next request on."""
    auth_operator(DataFolder(data), auth_ops, operator_token).delete(f"service-tokens/{quote(token_id, safe='')}")


Part = Annotated[str, typer.Argument(help="Its name, as `up` prints it: `broker`, `gateway-1`, …", metavar="NAME")]


@chaos.command()
def kill(name: Part, data: Data = DATA) -> None:
    """End a part as a crash would (SIGKILL). `up` starts it again a second later."""
    print(send_signal(DataFolder(data), name, "kill"))


@chaos.command()
def freeze(name: Part, data: Data = DATA) -> None:
    """Stop a part's clock (SIGSTOP): its connections stay open, and nothing answers."""
    print(send_signal(DataFolder(data), name, "freeze"))


@chaos.command()
def thaw(name: Part, data: Data = DATA) -> None:
    """Let a frozen part go on (SIGCONT)."""
    print(send_signal(DataFolder(data), name, "thaw"))


@app.command("reset-attempts")
def reset_attempts(
    address: Annotated[str | None, typer.Option(help="An IP address.")] = None,
    email: Annotated[str | None, typer.Option(help="An account's e-mail address.")] = None,
    auth_ops: AuthOps = None,
    operator_token: OperatorToken = None,
    data: Data = DATA,
) -> None:
    """Let an address or an account sign in again at once that tried too often."""
    if address is None and email is None:
        raise typer.BadParameter("give --address, --email, or both")
    body = {name: value for name, value in (("address", address), ("email", email)) if value is not None}
    auth_operator(DataFolder(data), auth_ops, operator_token).post("reset-attempts", body)


@app.command()
def migrate(
    service: Annotated[
        str | None, typer.Argument(help="`auth` or `publisher`; both, where no --database-url is given.")
    ] = None,
    database_url: Annotated[
        str | None, typer.Option(help="Which database; else BEACONFIRE_DATABASE_URL, or that of `beaconfire up`.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for a database that does not answer.")] = 30.0,
    data: Data = DATA,
) -> None:
    """Bring a service's tables up to date, before a new version of it starts. Two at once are harmless."""
    for line in migrating.migrate(service, database_url, data, timeout_s=timeout):
        print(line)


@app.command()
def outbox(
    service: Annotated[
        str | None, typer.Argument(help="`auth` or `publisher`; both, where no --database-url is given.")
    ] = None,
    resend: Annotated[list[str] | None, typer.Option(metavar="EVENT", help="Send this refused event again.")] = None,
    resend_all: Annotated[bool, typer.Option("--resend-all", help="Send every refused event again.")] = False,
    drop: Annotated[list[str] | None, typer.Option(metavar="EVENT", help="Never send this refused event.")] = None,
    database_url: Annotated[
        str | None, typer.Option(help="Which database; else BEACONFIRE_DATABASE_URL, or that of `beaconfire up`.")
    ] = None,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Show events that wait for the broker, by root, and events it refused, with the reason. Send refused ones again.

    The service that runs on that database sends them within a second or two, at the end of the stream.
    """
    where = (service, database_url, data)
    if resend or resend_all:
        print(f"{outboxes.send_again(*where, None if resend_all else resend)} to be sent again")
    if drop:
        print(f"{outboxes.drop(*where, drop)} dropped")
    if not (resend or resend_all or drop):
        seen = outboxes.look(*where)
        outboxes.print_json(seen) if as_json else outboxes.print_readable(seen, Console(highlight=False))


def main() -> None:
    """The console script: what a person can act on is a sentence, not a stack trace."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal without Unicode gets `\\u2713` for a check mark
            stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="beaconfire")
    except DidNotStart as error:
        _fail(f"{error}. Its last words:\n{plain(error.last_lines) or '  (none)'}")
    except EXPECTED as error:
        _fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(text: str) -> None:
    Console(stderr=True).print(Text.assemble(("error: ", "bold red"), text), highlight=False, soft_wrap=True)
    sys.exit(1)
