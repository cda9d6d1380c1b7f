"""Send an ephemeral event to rooms from the command line, with a service token, as a service does."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from beaconfire.api import ApiError, call
from beaconfire.backend_client import kept_token, new_token
from beaconfire.data_folder import DataFolder, DataFolderUnusable
from beaconfire_kit.sending import HTTP_PATH
from beaconfire_kit.subjects import Pair, parse_room


class Client:
    """Calls the publisher. On the machine of a running `beaconfire up` no token is needed."""

    def __init__(self, folder: DataFolder, url: str | None, token: str | None) -> None:
        """Without `url` or `token`, those of the running `up` are used."""
        self._folder = folder
        self._url = url
        self._token = token

    def send(self, type_: str, payload: str, to: Sequence[str], *, version: int) -> str:
        """Send an event. Return a sentence with its id. Raises InvalidRoom, ApiError, DataFolderUnusable."""
        if not to:
            raise ApiError(0, "bad_request", "say to which rooms: --to workspace:w1")
        url = f"{(self._url or self._running_url()).rstrip('/')}{HTTP_PATH}"
        event = {"type": type_, "version": version, "payload": json.loads(payload), "to": list(to)}
        answer = self._call(url, event, to)
        rooms = int(answer["rooms"])
        return f"sent {answer['id']} to {rooms} room{'' if rooms == 1 else 's'}; it is stored nowhere"

    def _running_url(self) -> str:
        try:
            return self._folder.running().publisher_url
        except DataFolderUnusable as error:
            raise DataFolderUnusable(f"{error}, or give --publisher and --service-token") from None

    def _call(self, url: str, event: Mapping[str, Any], to: Sequence[str]) -> dict[str, Any]:
        if self._token is not None:
            return call("POST", url, event, token=self._token)
        rights = {f"{_root(name).kind}.>" for name in to}
        try:
            return call("POST", url, event, token=kept_token(self._folder, rights))
        except ApiError as error:
            if error.status != 401:
                raise
        return call("POST", url, event, token=new_token(self._folder, rights))


def _root(name: str) -> Pair:
    room = parse_room(name)
    return room.root or room.pair
