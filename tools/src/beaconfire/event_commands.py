"""`beaconfire listen`, `publish`, `send`: receive the events of rooms, and make events."""

import asyncio
from typing import Annotated

import typer

from beaconfire import listening, publishing, sending, sign_in
from beaconfire.data_folder import DataFolder
from beaconfire.options import DATA, Data, as_user, or_in_file
from beaconfire_kit.settings import ENV_PREFIX


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
