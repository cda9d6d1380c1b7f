"""`beaconfire token …`: get an access token, and explain any token."""

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from beaconfire import sign_in
from beaconfire.data_folder import DataFolder, DataFolderUnusable
from beaconfire.listening import printable
from beaconfire.options import DATA, AsJson, Data
from beaconfire.tables import listing, print_table
from beaconfire.token_explanation import Explanation, Issuers, explain
from beaconfire_kit import tokens
from beaconfire_kit.fetching import FetchFailed, fetch
from beaconfire_kit.outside_issuer import OutsideIssuer
from beaconfire_kit.secret_files import read_secrets
from beaconfire_kit.settings import ENV_PREFIX, AsksAuth, read_settings
from beaconfire_kit.tokens import Key
from beaconfire_kit.verifier import FETCH_TIMEOUT_S, MAX_JWKS_BYTES

app = typer.Typer(
    help="Print an access token, or explain a token that is refused.", invoke_without_command=True, no_args_is_help=True
)


class CannotExplain(Exception):
    """A file or address that was named cannot be used."""


@app.callback()
def token(
    context: typer.Context,
    email: Annotated[str | None, typer.Option(help="E-mail address of the user.")] = None,
    password: Annotated[
        str | None, typer.Option(help="Default: the command asks for it. Demo users need none.")
    ] = None,
    auth: Annotated[str | None, typer.Option(help="URL of auth. Default: that of the running `beaconfire up`.")] = None,
    data: Data = DATA,
) -> None:
    """Print an access token, e.g. for `curl -H "Authorization: Bearer $(beaconfire token --email …)"`.

    The token expires after some minutes (`BEACONFIRE_ACCESS_TOKEN_TTL_S` of auth).
    """
    if context.invoked_subcommand is not None:
        return
    if email is None:
        raise typer.BadParameter("give --email, or a command: explain")
    print(sign_in.access_token(auth or DataFolder(data).running().auth_url, email, password))


@app.command("explain")
def explain_token(
    text: Annotated[
        str, typer.Argument(metavar="TOKEN", help="The token, or `-` for the standard input, which no one else sees.")
    ],
    issuers: Annotated[
        str | None,
        typer.Option(
            envvar=f"{ENV_PREFIX}OUTSIDE_ISSUERS",
            help="Outside issuers as the setting has them, or a file with them.",
        ),
    ] = None,
    jwks: Annotated[
        str | None, typer.Option(help="File or URL with the keys of the token's issuer, instead of the configured one.")
    ] = None,
    secret_file: Annotated[
        list[Path] | None, typer.Option(help="File with the secret of the token's issuer. Can be repeated.")
    ] = None,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Say which issuer a token is of, and whether it would be accepted: each check, the grants, and the end.

    It uses the settings of the environment, or else the running `beaconfire up`. Exit code 1: it would be refused.
    """
    given = sys.stdin.read().strip() if text == "-" else text
    outside = _read_issuers(issuers) if issuers is not None else _issuers_of_up(data)
    known = asyncio.run(_issuers(given, outside, jwks, secret_file or [], data))
    explanation = explain(given, known)
    if as_json:
        print(json.dumps(_as_json(explanation), indent=2))
    else:
        _print(explanation)
    raise typer.Exit(0 if explanation.accepted else 1)


def _read_issuers(text: str | None) -> tuple[OutsideIssuer, ...]:
    if not text or not text.strip():
        return ()
    try:
        content = text if text.lstrip().startswith("[") else Path(text).read_text()
        return TypeAdapter(tuple[OutsideIssuer, ...]).validate_json(content)
    except OSError as error:
        raise CannotExplain(f"--issuers: {text[:200]} cannot be read ({error.strerror})") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise CannotExplain(f"--issuers: {where}: {first['msg'].removeprefix('Value error, ')}") from None


def _issuers_of_up(data: Path) -> tuple[OutsideIssuer, ...]:
    """Return the outside issuers of the running `up`, if one runs. Its secret files are found from any folder."""
    try:
        running = DataFolder(data).running()
    except DataFolderUnusable:
        return ()
    issuers = json.loads(running.outside_issuers or "[]")
    for issuer in issuers:
        for name in issuer.keys() & {"secretFiles", "secret_files"}:
            issuer[name] = [str(Path(running.working_folder, file)) for file in issuer[name]]
    return _read_issuers(json.dumps(issuers))


async def _issuers(
    given: str, outside: tuple[OutsideIssuer, ...], jwks: str | None, secret_files: list[Path], data: Path
) -> Issuers:
    """Return the accepted issuers, with the keys of the one that the token names."""
    settings, at = _own(data)
    try:
        iss = tokens.peek(given).issuer
    except tokens.InvalidToken:
        iss = ""
    issuer = next((one for one in outside if one.issuer == iss), None)
    async with aiohttp.ClientSession() as http:
        try:
            keys: Mapping[str, Key] | str = await _keys(http, issuer, jwks, secret_files, at)
        except (FetchFailed, ValueError) as error:
            if jwks or secret_files:
                raise CannotExplain(str(error)) from None
            keys = f"the keys cannot be read: {error}"
    return Issuers(settings.issuer, settings.audience, outside, {iss: keys})


def _own(data: Path) -> tuple[AsksAuth, str]:
    """Return the settings, and where the keys of auth are."""
    settings = read_settings(AsksAuth, environment="development")
    if "jwks_url" in settings.model_fields_set:
        return settings, settings.jwks_url
    try:
        return settings, f"{DataFolder(data).running().auth_url}/.well-known/jwks.json"
    except DataFolderUnusable:
        return settings, settings.jwks_url


async def _keys(
    http: aiohttp.ClientSession, issuer: OutsideIssuer | None, jwks: str | None, secret_files: list[Path], at: str
) -> Mapping[str, Key]:
    if secret_files or (issuer is not None and issuer.secret_files and not jwks):
        files = [str(one) for one in secret_files] or list(issuer.secret_files if issuer is not None else ())
        found = read_secrets(files, issuer.secret_encoding if issuer is not None else "text")
        return {f"secret {number}": one for number, one in enumerate(found, 1)}
    source = jwks or (issuer.jwks_url if issuer is not None else at)
    algorithms = issuer.algorithms if issuer is not None else (tokens.ALGORITHM,)
    return tokens.read_jwks(
        await _document(http, source), algorithms, need_kid=issuer.require_kid if issuer is not None else True
    )


async def _document(http: aiohttp.ClientSession, source: str) -> Any:
    if source.startswith(("http://", "https://")):
        return json.loads(await fetch(http, source, max_bytes=MAX_JWKS_BYTES, timeout_s=FETCH_TIMEOUT_S))
    try:
        return json.loads(await asyncio.to_thread(Path(source).read_text))
    except OSError as error:
        raise ValueError(f"{source} cannot be read ({error.strerror})") from None


def _as_json(explanation: Explanation) -> Mapping[str, Any]:
    found = asdict(explanation)
    found["grants"] = [
        {"root": one.root, "role": one.role, "counts": not one.why_not, "whyNot": one.why_not or None}
        for one in explanation.grants
    ]
    return found


_WORDS = {True: "ok", False: "FAILED", None: "unknown"}


def _print(explanation: Explanation) -> None:
    console = Console(highlight=False)
    if explanation.issuer:
        console.print(f"Issuer: {explanation.issuer}", markup=False)
    rows = [(check.name, _WORDS[check.ok], printable(check.detail)) for check in explanation.checks]
    print_table(listing(("check", "result", "detail"), rows, whole=("check", "result")), console)
    if explanation.grants:
        granted = [
            (printable(one.root[:130]), printable(one.role[:40]), one.why_not or "counts") for one in explanation.grants
        ]
        print_table(listing(("grant", "role", "result"), granted, whole=("grant", "role")), console)
    for pattern in explanation.publishes:
        console.print(f"May publish: {pattern}", markup=False)
    console.print(f"{explanation.verdict[:1].upper()}{explanation.verdict[1:]}.", markup=False)
