"""`beaconfire catalogue docs|types|asyncapi`: write pages, types and an AsyncAPI document of a catalogue.

The catalogue is that of files, before they are pushed, or else that of the deployment.
"""

import asyncio
import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import typer

from beaconfire import catalogue_access as access
from beaconfire.catalogue_commands import Files, Timeout, catalogue
from beaconfire.data_folder import DataFolder
from beaconfire.derived.html import html
from beaconfire.derived.markdown import markdown
from beaconfire.derived.python import python
from beaconfire.derived.reference import all_types
from beaconfire.derived.typescript import typescript
from beaconfire.options import DATA, Data, as_user
from beaconfire_kit.catalogue import builtin
from beaconfire_kit.catalogue.asyncapi import asyncapi as asyncapi_document
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.profile import read_fragment

STDOUT = Path("-")
app = catalogue
"""The commands of `beaconfire catalogue`, with those of this module."""


class Format(StrEnum):
    """The formats of a reference page."""

    html = "html"
    markdown = "markdown"


class Language(StrEnum):
    """The languages of types."""

    ts = "ts"
    python = "python"


@catalogue.command()
def docs(
    files: Files = None,
    format_: Annotated[Format, typer.Option("--format", help="Format of the page.")] = Format.html,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the page. `-` prints it instead.")] = Path(),
    timeout: Timeout = access.TIMEOUT_S,
    data: Data = DATA,
) -> None:
    """Write a page about every event: its subject, rooms and fields, and an example.

    The HTML page is one file that needs no other. Without files, the page is about the deployment's catalogue: that of
    `BEACONFIRE_NATS_URL` (user `catalogue`) if it is set, otherwise that of the running `beaconfire up`.
    """
    chosen = _catalogue(files or [], data, timeout)
    text, name = (html(chosen), "events.html") if format_ is Format.html else (markdown(chosen), "events.md")
    _write(text, out if out == STDOUT else out / name)


@catalogue.command()
def types(
    files: Files = None,
    lang: Annotated[Language, typer.Option(help="`ts` for TypeScript, `python` for Python.")] = Language.ts,
    out: Annotated[Path, typer.Option(metavar="FILE", help="File for the types. Default: they are printed.")] = STDOUT,
    timeout: Timeout = access.TIMEOUT_S,
    data: Data = DATA,
) -> None:
    """Write the events as types, for programs that receive or publish them.

    Without files, they are those of the deployment's catalogue, as for `catalogue docs`.
    """
    chosen = all_types(_catalogue(files or [], data, timeout))
    _write(typescript(chosen) if lang is Language.ts else python(chosen), out)


@catalogue.command()
def asyncapi(
    files: Files = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="File for the document. Default: it is printed.")] = STDOUT,
    timeout: Timeout = access.TIMEOUT_S,
    data: Data = DATA,
) -> None:
    """Write one AsyncAPI document of the whole catalogue, with whole messages, for other tools.

    A gateway serves the same at `/asyncapi.json` on its operations port.
    """
    chosen = _catalogue(files or [], data, timeout)
    document = asyncapi_document(all_types(chosen), version=str(chosen.revision))
    _write(json.dumps(document, indent=2, ensure_ascii=False) + "\n", out)


def _catalogue(files: Sequence[Path], data: Path, timeout_s: float) -> Catalogue:
    """Return the catalogue of files, or else that of the deployment. Raises the errors of both."""
    return _of_files(files) if files else asyncio.run(_of_deployment(data, timeout_s))


def _of_files(files: Sequence[Path]) -> Catalogue:
    """Return a catalogue with the fragments of files alone. They may use the roots of the built-in fragments."""
    sources = access.read_sources(files)
    access.check_sources(sources)
    own = {one.name: one for one in (read_fragment(source.document) for source in sources)}
    with access.explaining(sources):
        whole = Catalogue.of(0, {**builtin.fragments(), **own})
    others = {key for name, one in builtin.fragments().items() if name not in own for key in one.types}
    kept = {
        name: {version: event for version, event in versions.items() if (name, version) not in others}
        for name, versions in whole.types.items()
    }
    mine = {name: MappingProxyType(versions) for name, versions in kept.items() if versions}
    return Catalogue(0, MappingProxyType(own), whole.roots, MappingProxyType(mine))


async def _of_deployment(data: Path, timeout_s: float) -> Catalogue:
    async with access.opened(as_user("catalogue", DataFolder(data)), timeout_s) as store:
        return await access.load(store, None)


def _write(text: str, out: Path) -> None:
    """Write a file and print its name, or print the text. Raises CatalogueUnusable."""
    if out == STDOUT:
        print(text, end="")
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise access.CatalogueUnusable(f"{out} cannot be written: {error.strerror}") from None
    print(f"wrote {out}")
