"""`beaconfire limits …`: see what remains of a user's limits, and reset them, on every gateway."""

import json
import socket
from collections.abc import Callable, Sequence
from typing import Annotated, Any
from urllib.parse import quote, urlencode, urlsplit

import typer
from rich.console import Console

from beaconfire.api import ApiError, call
from beaconfire.data_folder import DataFolder, DataFolderUnusable
from beaconfire.options import DATA, AsJson, Data
from beaconfire.tables import listing, print_table

app = typer.Typer(help="See what remains of a user's limits on each gateway, and reset them.", no_args_is_help=True)
GatewayOps = Annotated[
    list[str] | None,
    typer.Option(
        "--gateway-ops",
        help="URL of a gateway's operations port. Repeat it for each gateway. A host name with several addresses, such"
        " as the name of a service in Compose or Kubernetes, means all of them. Default: the gateways of the running"
        " `beaconfire up`.",
    ),
]


@app.command()
def show(
    user: Annotated[str, typer.Argument(help="User id.")],
    gateway_ops: GatewayOps = None,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """List a user's clients, with what each may still send in this minute."""
    path = f"users/{quote(user, safe='')}/clients"
    answers = _ask_all(_gateways(gateway_ops, data), lambda url: call("GET", f"{url}/api/v1/ws/{path}"))
    clients = [{**one, "gateway": url} for url, answer in answers.items() for one in answer["clients"]]
    if as_json:
        print(json.dumps({"clients": clients}))
        return
    rows = [[one["sessionId"], one["address"], one["transport"], _remaining(one), one["gateway"]] for one in clients]
    print_table(listing(["session", "address", "transport", "remaining", "gateway"], rows, whole=["session"]))


@app.command()
def reset(
    user: Annotated[str | None, typer.Option(help="User id: all clients of the user get their full limits.")] = None,
    address: Annotated[
        str | None, typer.Option(help="IP address: its invalid tokens are forgotten. For sign-ins: `reset-attempts`.")
    ] = None,
    gateway_ops: GatewayOps = None,
    data: Data = DATA,
) -> None:
    """Let a user, or the clients of an address, send again at once."""
    wanted = {name: value for name, value in (("user", user), ("address", address)) if value is not None}
    if not wanted:
        raise typer.BadParameter("give --user, --address, or both")
    path = f"/api/v1/ws/reset-limits?{urlencode(wanted)}"
    answers = _ask_all(_gateways(gateway_ops, data), lambda url: call("POST", f"{url}{path}"))
    print(f"Reset on {len(answers)} gateways: {sum(one['clients'] for one in answers.values())} clients.")


def _gateways(given: Sequence[str] | None, data: Any) -> list[str]:
    """Return the address of every gateway. Raises DataFolderUnusable or ApiError."""
    if given:
        return [address for url in given for address in _addresses(url.rstrip("/"))]
    try:
        found = DataFolder(data).running().gateway_ops_urls
    except DataFolderUnusable as error:
        raise DataFolderUnusable(f"{error}, or give --gateway-ops") from None
    return list(found)


def _addresses(url: str) -> list[str]:
    """Return a URL for each address of its host. With TLS the name must stay, because the certificate is for it."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        return [url]
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ApiError(0, "unreachable", f"{parts.hostname} cannot be looked up: {error.strerror or error}") from None
    hosts = sorted({f"[{at[0]}]" if ":" in str(at[0]) else str(at[0]) for *_, at in found})
    return [f"http://{host}:{parts.port or 80}{parts.path}" for host in hosts]


def _ask_all(urls: Sequence[str], ask: Callable[[str], dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the answer of each gateway. Exits with 1 after all were asked if one did not answer."""
    answers, failed = {}, []
    for url in urls:
        try:
            answers[url] = ask(url)
        except ApiError as error:
            failed.append(f"{url}: {error}")
    for sentence in failed:
        Console(stderr=True).print(sentence, markup=False, highlight=False)
    if failed:
        raise typer.Exit(1)
    return answers


def _remaining(client: dict[str, Any]) -> str:
    return "\n".join(f"{name}: {left}" for name, left in client["remaining"].items())
