"""`beaconfire catalogue …`: push fragments, look at the catalogue, take a push back, restore it."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import SecretStr
from rich.console import Console

from beaconfire import catalogue_access as access
from beaconfire import catalogue_views as views
from beaconfire.catalogue_access import Pushers, Source
from beaconfire.data_folder import DataFolder
from beaconfire.local_permissions import permit_roots
from beaconfire.options import DATA, AsJson, Data, as_user, has_broker_settings, or_in_file
from beaconfire.tables import print_table
from beaconfire_kit.catalogue import builtin
from beaconfire_kit.catalogue.compatibility import Changes
from beaconfire_kit.catalogue.profile import read_fragment
from beaconfire_kit.catalogue_store import CatalogueStore, Pushed, changes_of

R = TypeVar("R")

catalogue = typer.Typer(
    help="Push fragments of the catalogue, and look at the events, roots and schemas that a deployment knows.",
    no_args_is_help=True,
)

Files = Annotated[
    list[Path] | None,
    typer.Argument(metavar="FILE…", help="AsyncAPI documents, YAML or JSON. `-` is the standard input."),
]
Timeout = Annotated[float, typer.Option(min=1, help="Seconds to wait for the broker.")]
By = Annotated[str | None, typer.Option(help="Name of the person or program that pushes. Default: your user@machine.")]
SetupPassword = Annotated[
    str | None,
    typer.Option(
        envvar="BEACONFIRE_SETUP_PASSWORD",
        callback=or_in_file("setup_password"),
        help="Password of the broker user `setup`. Only a push with a new root needs it.",
    ),
]
Module = Annotated[
    str | None, typer.Option("--python", metavar="MODULE", help="Push the event classes of this Python module instead.")
]
Number = Annotated[int | None, typer.Option(min=1, help="A revision. Default: the one that counts now.")]


@catalogue.command()
def push(
    files: Files = None,
    module: Module = None,
    name: Annotated[str | None, typer.Option(help="With --python: the fragment's name.")] = None,
    title: Annotated[str | None, typer.Option(help="With --python: the fragment's title. Default: its name.")] = None,
    root: Annotated[
        list[str] | None, typer.Option(help="With --python: a kind of root that it declares. Can be repeated.")
    ] = None,
    allow_removals: Annotated[
        bool,
        typer.Option(
            "--allow-removals", help="Remove types that the files have no more. The push must do nothing else."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check, and say what would change.")] = False,
    by: By = None,
    setup_password: SetupPassword = None,
    as_json: AsJson = False,
    timeout: Timeout = access.TIMEOUT_S,
    data: Data = DATA,
) -> None:
    """Put fragments into the catalogue, each in place of the one of the same name. All files are one revision.

    Gateways know it at once. The broker is that of `BEACONFIRE_NATS_URL` (user `catalogue`) if it is set, otherwise
    that of the running `beaconfire up`. Exit code 1 means that nothing was pushed.
    """
    sources = _sources(files or [], module, name, title, root or [])
    access.check_sources(sources)
    documents = [source.document for source in sources]
    folder = DataFolder(data)

    async def call(store: CatalogueStore) -> Pushed:
        if dry_run:
            return await store.check(documents, allow_removals=allow_removals)
        return await store.push(documents, by=by or access.pushed_by(), allow_removals=allow_removals)

    pushed = _change(folder, setup_password, call, sources, timeout_s=timeout)
    views.print_pushed(pushed, as_json=as_json, is_only_checked=dry_run)


def _sources(
    files: list[Path], module: str | None, name: str | None, title: str | None, roots: list[str]
) -> list[Source]:
    if (module is None) == (not files):
        raise typer.BadParameter("give files, or a Python module with --python")
    if module is None:
        return access.read_sources(files)
    if name is None:
        raise typer.BadParameter("--python needs --name, the fragment's name")
    return [access.source_of_module(module, name, title=title, roots=roots)]


@catalogue.command("list")
def list_(
    revisions: Annotated[bool, typer.Option("--revisions", help="List the revisions that are kept instead.")] = False,
    as_json: AsJson = False,
    timeout: Timeout = access.TIMEOUT_S,
    data: Data = DATA,
) -> None:
    """List the fragments that count now: their types and roots, and since when."""
    found = _read(DataFolder(data), views.look, timeout_s=timeout)
    if as_json:
        print(json.dumps(views.revisions_as_json(found) if revisions else views.overview_as_json(found)))
    elif revisions:
        print_table(views.revisions_table(found))
    else:
        views.print_overview(found, Console(highlight=False))


@catalogue.command()
def show(
    what: Annotated[str, typer.Argument(metavar="NAME|TYPE", help="A fragment, or a type of event.")],
    revision: Number = None,
    as_json: AsJson = False,
    as_yaml: Annotated[bool, typer.Option("--yaml", help="Print the fragment's document as YAML.")] = False,
    timeout: Timeout = access.TIMEOUT_S,
    data: Data = DATA,
) -> None:
    """Show a fragment's types and roots, or a type's subject and schema.

    With `--json` or `--yaml`, print the fragment's document as it was pushed, e.g. to keep a copy of it.
    """
    if as_json and as_yaml:
        raise typer.BadParameter("give either --json or --yaml")
    found = _read(DataFolder(data), lambda store: access.load(store, revision), timeout_s=timeout)
    if as_json or as_yaml:
        print(views.document_text(found, what, as_yaml=as_yaml))
    else:
        views.print_one(found, what, Console(highlight=False))


@catalogue.command()
def diff(
    what: Annotated[
        list[str],
        typer.Argument(metavar="FILE…|REVISION…", help="Files to compare with the catalogue, or one or two revisions."),
    ],
    as_json: AsJson = False,
    timeout: Timeout = access.TIMEOUT_S,
    data: Data = DATA,
) -> None:
    """Say what a push of files would change, or what changed from one revision to another.

    With one revision, compare it with the one that counts now.
    """
    numbers = [int(one) for one in what if one.isdecimal()]
    if numbers and (len(numbers) != len(what) or len(numbers) > 2):
        raise typer.BadParameter("give files, or one or two revisions")
    sources = [] if numbers else access.read_sources([Path(one) for one in what])
    access.check_sources(sources)

    async def compare(store: CatalogueStore) -> Mapping[str, Changes]:
        if sources:
            new = {one.name: one for one in (read_fragment(source.document) for source in sources)}
            there = (await access.load(store, None)).fragments
            return changes_of({name: there[name] for name in new if name in there}, new)
        before, after = [await access.load(store, number) for number in (*numbers, None)[:2]]
        return changes_of(before.fragments, after.fragments)

    views.print_changes(_read(DataFolder(data), compare, timeout_s=timeout), sources, as_json=as_json)


@catalogue.command()
def remove(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="Fragments, as `catalogue list` shows them.")],
    by: By = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: AsJson = False,
    timeout: Timeout = access.TIMEOUT_S,
    data: Data = DATA,
) -> None:
    """Take fragments out of the catalogue. Later events of their types are set aside. Earlier ones can still be read.

    Sessions stay in the rooms of removed roots. `catalogue rollback` brings the fragments back.
    """
    if not yes:
        typer.confirm(f"Gateways will set later events of {', '.join(names)} aside. Continue?", abort=True)
    pushed = _change(
        DataFolder(data), None, lambda store: store.remove(names, by=by or access.pushed_by()), timeout_s=timeout
    )
    views.print_pushed(pushed, as_json=as_json)


@catalogue.command()
def rollback(
    number: Annotated[int, typer.Argument(min=1, metavar="REVISION", help="From `catalogue list --revisions`.")],
    by: By = None,
    as_json: AsJson = False,
    timeout: Timeout = access.TIMEOUT_S,
    data: Data = DATA,
) -> None:
    """Make a new revision that is like an older one, with the fragments of all teams as they were then.

    Each event is still judged by the revision that counted when it was published.
    """
    pushed = _change(
        DataFolder(data), None, lambda store: store.rollback(number, by=by or access.pushed_by()), timeout_s=timeout
    )
    views.print_pushed(pushed, as_json=as_json)


@catalogue.command()
def restore(
    files: Files = None,
    accept_different: Annotated[
        bool,
        typer.Option("--accept-different", help="Take another version of a fragment in place of one that is lost."),
    ] = False,
    as_json: AsJson = False,
    timeout: Timeout = access.TIMEOUT_S,
    data: Data = DATA,
) -> None:
    """Rebuild the catalogue's bucket after it was lost, from the files of all fragments. The built-in ones are known.

    Run `beaconfire setup` first, which creates the bucket. The stream's markers have the digests of the documents, so
    the command says which ones are missing, and publishes nothing.
    """
    sources = access.read_sources(files or [])
    access.check_sources(sources)
    own = {source.fragment for source in sources}
    documents = [source.document for source in sources]
    documents += [document for name, document in builtin.documents().items() if name not in own]
    restored = _change(
        DataFolder(data),
        None,
        lambda store: store.restore(documents, by=access.pushed_by(), accept_different=accept_different),
        sources,
        timeout_s=timeout,
    )
    views.print_restored(restored, as_json=as_json)


def _read(folder: DataFolder, call: Callable[[CatalogueStore], Awaitable[R]], *, timeout_s: float) -> R:
    settings = as_user("catalogue", folder)

    async def run() -> R:
        async with access.opened(settings, timeout_s) as store:
            return await call(store)

    return asyncio.run(run())


def _change(
    folder: DataFolder,
    setup_password: str | None,
    call: Callable[[CatalogueStore], Awaitable[R]],
    sources: Sequence[Source] = (),
    *,
    timeout_s: float,
) -> R:
    pushers = _pushers(folder, setup_password)
    with access.explaining(sources):
        return asyncio.run(access.change(pushers, call, timeout_s=timeout_s))


def _pushers(folder: DataFolder, setup_password: str | None) -> Pushers:
    """Return the broker users of the environment, or those of the running `up`."""
    settings = as_user("catalogue", folder)
    if not has_broker_settings():
        return Pushers(settings, as_user("setup", folder), partial(permit_roots, folder))
    if setup_password is not None:
        password = {"nats_user": "setup", "nats_password": SecretStr(setup_password)}
        return Pushers(settings, settings.model_copy(update=password))
    return Pushers(settings, settings if settings.nats_user in ("", "setup") else None)
