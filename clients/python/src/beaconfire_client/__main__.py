"""Print the events of rooms, one JSON object a line.

BEACONFIRE_TOKEN=… python -m beaconfire_client tail ws://127.0.0.1:8080/ws campaign:c1
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence

from beaconfire_client import BeaconfireError, Client, Notice, StateChanged, connect

TOKEN_VARIABLE = "BEACONFIRE_TOKEN"  # noqa: S105  (a name, not a secret)


async def tail(client: Client, rooms: Sequence[str], *, types: Sequence[str] | None) -> None:
    """Print what happens in the rooms until it is cancelled."""
    await asyncio.gather(*(_print(client, room, types) for room in rooms))


async def _print(client: Client, room: str, types: Sequence[str] | None) -> None:
    async for event in client.room(room, types=types):
        line = {
            "room": room,
            "cursor": event.cursor,
            "type": event.type,
            "payload": event.payload,
            "metadata": event.metadata,
        }
        print(json.dumps(line, ensure_ascii=False), flush=True)


def _say(notice: Notice) -> None:
    if isinstance(notice, StateChanged):
        why = f": {notice.status.reason.message}" if notice.status.reason else ""
        print(f"{notice.status.state}{why}", file=sys.stderr, flush=True)


async def _run(arguments: argparse.Namespace, token: str) -> None:
    async with connect(arguments.url, token, on_notice=_say, max_attempts=None) as client:
        await tail(client, arguments.room, types=arguments.types)


def main() -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m beaconfire_client", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("tail", help="print the events of rooms until Ctrl-C")
    command.add_argument("url", help="the gateway's address, such as ws://127.0.0.1:8080/ws")
    command.add_argument("room", nargs="+", help="a room, such as campaign:c1")
    command.add_argument("--types", nargs="+", metavar="TYPE", help="only these types of events")
    arguments = parser.parse_args()
    token = os.environ.get(TOKEN_VARIABLE)
    if not token:
        parser.error(f"set {TOKEN_VARIABLE} to an access token")
    try:
        asyncio.run(_run(arguments, token))
    except KeyboardInterrupt:
        return 130
    except (BeaconfireError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
