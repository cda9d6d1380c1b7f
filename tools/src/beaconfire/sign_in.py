"""Get access tokens for the command line."""

import getpass
import sys

from beaconfire import demo
from beaconfire.api import ApiError, call


def access_token(auth_url: str, email: str, password: str | None) -> str:
    """Sign in and return an access token. Ask for the password if it is needed. Raises ApiError."""
    body = {"email": email, "password": password if password is not None else _password(email)}
    return str(call("POST", f"{auth_url}/auth/sign-in", body)["accessToken"])


class Tokens:
    """Provide tokens while a command runs: the given one, or a new one for each call of `fresh`."""

    def __init__(self, auth_url: str, email: str | None, password: str | None, given: str | None) -> None:
        self._auth_url = auth_url
        self._email = email
        self._password = password
        self._given = given

    @property
    def can_renew(self) -> bool:
        return self._email is not None

    def fresh(self) -> str:
        """Return a token. Blocks during a call to auth. Raises ApiError."""
        if self._email is None:
            return self._given or ""
        if self._password is None:
            self._password = _password(self._email)
        return access_token(self._auth_url, self._email, self._password)


def _password(email: str) -> str:
    if email in {person.email for person in demo.PEOPLE}:
        return demo.PASSWORD
    if not sys.stdin.isatty():
        raise ApiError(0, "no_password", f"give the password of {email} with --password")
    return getpass.getpass(f"Password of {email}: ")
