"""Sign users up."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Person:
    """A user, with the tokens of one sign-in."""

    id: str
    email: str
    token: str
    refresh_token: str
