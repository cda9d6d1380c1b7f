"""Ask the operations port of every gateway, for the commands `limits`, `sessions`, `tail` and `why`."""

import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.console import Console

from beaconfire.api import ApiError
from beaconfire.data_folder import DataFolder, DataFolderUnusable

GatewayOps = Annotated[
    list[str] | None,
    typer.Option(
        "--gateway-ops",
        help="URL of a gateway's operations port. Repeat it for each gateway. A host name with several addresses, such"
        " as the name of a service in Compose or Kubernetes, means all of them. Default: the gateways of the running"
        " `beaconfire up`.",
    ),
]


def addresses_of(given: Sequence[str] | None, data: Path) -> list[str]:
    """Return the address of every gateway. Raises DataFolderUnusable or ApiError."""
    if given:
        return [address for url in given for address in addresses_at(url.rstrip("/"))]
    try:
        found = DataFolder(data).running().gateway_ops_urls
    except DataFolderUnusable as error:
        raise DataFolderUnusable(f"{error}, or give --gateway-ops") from None
    return list(found)


def addresses_at(url: str) -> list[str]:
    """Return a URL for each address of its host. With TLS the name must stay, because the certificate is for it.

    Raises ApiError.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        return [url]
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ApiError(0, "unreachable", f"{parts.hostname} cannot be looked up: {error.strerror or error}") from None
    hosts = sorted({f"[{at[0]}]" if ":" in str(at[0]) else str(at[0]) for *_, at in found})
    return [f"http://{host}:{parts.port or 80}{parts.path}" for host in hosts]


def ask_all(urls: Sequence[str], ask: Callable[[str], dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the answer of each gateway. Exits with 1 after all were asked if one did not answer."""
    answers, failed = ask_each(urls, ask)
    for sentence in failed:
        Console(stderr=True).print(sentence, markup=False, highlight=False)
    if failed:
        raise typer.Exit(1)
    return answers


def ask_each(urls: Sequence[str], ask: Callable[[str], dict[str, Any]]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the answer of each gateway that answered, and a sentence for each that did not."""
    answers, failed = {}, []
    for url in urls:
        try:
            answers[url] = ask(url)
        except ApiError as error:
            failed.append(f"{url}: {error}")
    return answers, failed
