"""Call auth's operations port for the operator commands: signing keys, service tokens, sign-in attempts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from rich.table import Table

from beaconfire.api import call
from beaconfire.data_folder import OPERATOR_TOKEN, DataFolder, DataFolderUnusable
from beaconfire.tables import listing


@dataclass(frozen=True, slots=True)
class AuthOperator:
    """Auth's operations port, and the operator token for it. Every call may raise ApiError."""

    url: str
    token: str

    def get(self, path: str) -> dict[str, Any]:
        return self._call("GET", path)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._call("POST", path, body)

    def delete(self, path: str) -> None:
        self._call("DELETE", path)

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return call(method, f"{self.url.rstrip('/')}/api/v1/auth/{path}", body, token=self.token)


def user_id_of(name: str, folder: DataFolder, url: str | None, token: str | None) -> str:
    """Return the id of a user who is named by id or by e-mail address. Only for an address is auth asked."""
    if "@" not in name:
        return name
    found = auth_operator(folder, url, token).get(f"users/{quote(name, safe='')}")
    return str(found["user"]["userId"])


def auth_operator(folder: DataFolder, url: str | None, token: str | None) -> AuthOperator:
    """Return the auth at `url`, or else that of the running `up`. Raises DataFolderUnusable."""
    if url is not None and token is not None:
        return AuthOperator(url, token)
    try:
        running = folder.running()
    except DataFolderUnusable as error:
        missing = {"--auth-ops": url, "--operator-token": token}
        options = " and ".join(name for name, given in missing.items() if given is None)
        raise DataFolderUnusable(f"{error}, or give {options}") from None
    return AuthOperator(
        running.auth_ops_url if url is None else url,
        folder.passwords()[OPERATOR_TOKEN] if token is None else token,
    )


def keys_table(keys: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of the signing keys."""
    rows = [
        [
            key["kid"],
            key["state"],
            *(_moment(key[at]) for at in ("createdAt", "signsFrom", "verifiesUntil")),
            str(key["serviceTokens"]),
        ]
        for key in keys
    ]
    return listing(["key", "state", "created", "signs from", "verifies until", "service tokens"], rows, whole=["key"])


def service_tokens_table(tokens: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of the service tokens."""
    rows = [
        [
            one["id"],
            one["service"],
            "\n".join(one["publish"]),
            _text(one["expiresAt"]),
            _text(one["usedAt"]),
            f"revoked {_text(one['revokedAt'])}" if one["revokedAt"] else "",
        ]
        for one in tokens
    ]
    return listing(["token", "service", "may publish", "expires", "last used", ""], rows, whole=["token"])


def _moment(unix_s: int | None) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S") if unix_s is not None else ""


def _text(moment: str | None) -> str:
    return moment[:16].replace("T", " ") if moment else "never"
