"""`beaconfire setup`, `migrate`, `doctor`, `deadletters`, `outbox`, `reset-attempts`: operate a deployment."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from beaconfire import deadletters as letters
from beaconfire import doctor as examining
from beaconfire import dropping, outboxes, replaying
from beaconfire import migrate as migrating
from beaconfire.catalogue_access import check_sources, explaining, pushed_by, read_sources
from beaconfire.catalogue_views import print_pushed
from beaconfire.data_folder import DataFolder
from beaconfire.diagnosis import worst
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
    reason_given,
)
from beaconfire.publishers_file import read_publishers
from beaconfire.stream_setup import declare
from beaconfire_kit.broker import STREAM
from beaconfire_kit.settings import Settings
from beaconfire_kit.subjects import is_id, is_reserved


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
