"""Call auth as a backend does, with a service token: roots, members, and the end of a user's access.

On the machine of a running `beaconfire up` no token is needed. One is issued with the operator token, and kept in the
data folder for the next command.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from beaconfire.api import ApiError, call
from beaconfire.data_folder import DataFolder, DataFolderUnusable
from beaconfire.operating import auth_operator
from beaconfire_kit.backend import MAX_PAGE

PATIENCE = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each further attempt if auth does not answer."""
ISSUED_TO = "cli"


@dataclass(frozen=True, slots=True)
class Named:
    """A user as a command names it: by our id, or by an outside issuer and its name for the user."""

    user_id: str | None = None
    issuer: str | None = None
    sub: str | None = None

    @property
    def body(self) -> dict[str, str]:
        fields = {"userId": self.user_id, "issuer": self.issuer, "sub": self.sub}
        return {name: value for name, value in fields.items() if value is not None}

    def path(self, before: str, after: str = "") -> str:
        """Return the path of a call about the user."""
        if self.user_id is not None:
            return f"{before}/{quote(self.user_id, safe='')}{after}"
        return f"{before}/-{after}?{urlencode({'issuer': self.issuer, 'sub': self.sub})}"


class BackendClient:
    """Auth's calls for backends. Every call may raise ApiError."""

    def __init__(self, url: str, token: str, renew: Callable[[], str] | None = None) -> None:
        """`renew` issues another token, once, if auth no longer accepts this one."""
        self._url = url.rstrip("/")
        self._token = token
        self._renew = renew

    def create_root(self, root: str, owner: Named) -> bool:
        """Return False if the user owns the root already."""
        return bool(self._call("POST", "/auth/roots", {"root": root, "owner": owner.body})["changed"])

    def roots(self, kind: str) -> Iterator[Mapping[str, Any]]:
        yield from self._pages(f"/auth/roots?kind={quote(kind, safe='')}&", "roots")

    def members(self, root: str) -> Iterator[Mapping[str, Any]]:
        yield from self._pages(f"{_root(root)}/members?", "members")

    def delete_root(self, root: str) -> int:
        """Return how many members there were."""
        return int(self._call("DELETE", _root(root))["removed"])

    def put_member(self, root: str, user: Named, role: str) -> Mapping[str, Any]:
        return self._call("PUT", user.path(f"{_root(root)}/members"), {"role": role})

    def remove_member(self, root: str, user: Named) -> None:
        self._call("DELETE", user.path(f"{_root(root)}/members"))

    def change_members(self, members: Collection[Mapping[str, Any]], *, dry_run: bool) -> Mapping[str, Any]:
        """Make changes, waiting while auth does not answer or the service is over its limit."""
        body = {"members": list(members), "dryRun": dry_run}
        return self._insist(lambda: self._call("POST", "/auth/members/bulk", body))

    def disconnect(self, user: Named) -> None:
        self._call("POST", user.path("/auth/users", "/disconnect"))

    def revoke(self, user: Named, root: str | None) -> None:
        self._call("POST", "/auth/revocations", {**user.body, **({"root": root} if root else {})})

    def _pages(self, path: str, name: str) -> Iterator[Mapping[str, Any]]:
        after = ""
        while True:
            page = self._call("GET", f"{path}limit={MAX_PAGE}{after}")
            yield from page[name]
            if page["next"] is None:
                return
            after = f"&after={quote(page['next'], safe='')}"

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            return call(method, f"{self._url}{path}", body, token=self._token)
        except ApiError as error:
            if self._renew is None or error.status != 401:
                raise
        self._token, self._renew = self._renew(), None
        return call(method, f"{self._url}{path}", body, token=self._token)

    def _insist(self, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        waits = iter(PATIENCE)
        while True:
            try:
                return ask()
            except ApiError as error:
                if error.retry_after_ms is not None and error.status == 429:
                    time.sleep(error.retry_after_ms / 1000)
                    continue
                wait_s = next(waits, None) if error.status in (0, 503) else None
                if wait_s is None:
                    raise
                time.sleep(wait_s)


class RightRefused(ApiError):
    """Auth issues no token with this right, e.g. because the catalogue has no such kind of root."""


def backend_client(folder: DataFolder, url: str | None, token: str | None, rights: Collection[str]) -> BackendClient:
    """Return the auth at `url`, or else that of the running `up`, with a token for these rights.

    Raises DataFolderUnusable, ApiError, and RightRefused if auth issues no token with such a right.
    """
    if url is not None and token is not None:
        return BackendClient(url, token)
    try:
        running = folder.running()
    except DataFolderUnusable as error:
        missing = {"--auth": url, "--service-token": token}
        options = " and ".join(name for name, given in missing.items() if given is None)
        raise DataFolderUnusable(f"{error}, or give {options}") from None
    if token is not None:
        return BackendClient(running.auth_url, token)

    return BackendClient(url or running.auth_url, kept_token(folder, rights), lambda: new_token(folder, rights))


def kept_token(folder: DataFolder, rights: Collection[str]) -> str:
    """Return a token of the running `up` with these rights, perhaps an earlier command's, which may have expired.

    Raises as `new_token` does.
    """
    return folder.kept_token(_name(rights)) or new_token(folder, rights)


def new_token(folder: DataFolder, rights: Collection[str]) -> str:
    """Issue a token of the running `up` with these rights, and keep it for the next command.

    Raises DataFolderUnusable, ApiError, RightRefused.
    """
    body = {"service": ISSUED_TO, "publish": sorted(rights)}
    try:
        issued = str(auth_operator(folder, None, None).post("service-tokens", body)["token"])
    except ApiError as error:
        if error.status not in (400, 422):
            raise
        why = str(error)
        for right in rights:  # the user has not asked for a token
            why = why.removeprefix(f"publish: {right}: ")
        raise RightRefused(error.status, error.code, why) from None
    folder.keep_token(_name(rights), issued)
    return issued


def _name(rights: Collection[str]) -> str:
    """Return the name under which a token with these rights is kept."""
    return " ".join(sorted(rights))


def _root(root: str) -> str:
    return f"/auth/roots/{quote(root, safe=':')}"
