"""What the client raises."""


class BeaconfireError(Exception):
    """Base of all. `code` is a code of PROTOCOL.md §6, or one that the subclass names."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ConnectionFailed(BeaconfireError):
    """The client has stopped trying: it was refused, or no gateway answered. `Client.retry` starts again.

    `code` may also be `unreachable` (every attempt failed), `unusable` (no token, or a useless address), `closed_<close
    code>` or `closed` (the client was closed).
    """


class RoomRefused(BeaconfireError):
    """The gateway does not let this user into the room."""

    def __init__(self, room: str, code: str, message: str) -> None:
        super().__init__(code, f"{room}: {message}")
        self.room = room


class RoomLeft(BeaconfireError):
    """The gateway has taken the user out of the room. `code` is `membership_removed` or `access_revoked`."""

    def __init__(self, room: str, code: str) -> None:
        super().__init__(code, f"{room}: the user may no longer be in the room ({code})")
        self.room = room


class RequestRefused(BeaconfireError):
    """The gateway did not carry out a request. `code` may also be `timeout` or `closed`: it did not answer."""


class NotSeen(BeaconfireError):
    """`Client.seen` gave up. The change itself may have been made.

    `code` is `timeout`, `closed` (the connection has ended for good) or `resync` (events were missed for good).
    """


class TokenRefused(Exception):
    """Raise it from `get_token` if trying again is useless, as after a sign-out. The client then stops."""
