"""`beaconfire authorizer …`: check an application that decides about its roots itself."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import aiohttp
import typer
from rich.console import Console

from beaconfire.authorizer_check import Verdict, check
from beaconfire.options import AsJson
from beaconfire.tables import listing, print_table
from beaconfire_kit.secret_files import read_secret
from beaconfire_kit.setting_types import HTTP, check_address
from beaconfire_kit.subjects import parse_root

app = typer.Typer(help="Check an application that decides about its roots itself.", no_args_is_help=True)


@app.callback()
def authorizer() -> None:
    """Check an application that decides about its roots itself."""


@app.command("check")
def check_authorizer(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where the authorizer answers.")],
    secret_file: Annotated[Path, typer.Option(help="File with the secret in base64, the same that auth has.")],
    user: Annotated[str, typer.Option(help="Id of a user that the authorizer knows, like `shop-alice`.")],
    root: Annotated[list[str], typer.Option(help="A root that it knows, like `depot:d1`. Can be repeated.")],
    as_json: AsJson = False,
) -> None:
    """Send an authorizer good and hostile questions, and print a verdict for each rule. Exit code 1: one is broken."""
    try:
        check_address(url, HTTP)
        secret = read_secret(str(secret_file), "base64")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    roots = [parse_root(one) for one in root]
    if len({one.kind for one in roots}) > 1:
        raise typer.BadParameter("--root: an authorizer decides about one kind of root")

    async def run() -> Sequence[Verdict]:
        async with aiohttp.ClientSession() as http:
            return await check(http, url, secret, user=user, roots=roots)

    verdicts = asyncio.run(run())
    broken = sum(not ok for _, ok, _ in verdicts)
    if as_json:
        print(json.dumps([{"rule": rule, "ok": ok, "detail": detail} for rule, ok, detail in verdicts], indent=2))
    else:
        rows = [(rule, "ok" if ok else "BROKEN", detail) for rule, ok, detail in verdicts]
        print_table(listing(("rule", "verdict", "what happened"), rows, whole=("rule", "verdict")), Console())
        print(f"{broken} of {len(verdicts)} rules are broken." if broken else f"All {len(verdicts)} rules are kept.")
    raise typer.Exit(1 if broken else 0)
