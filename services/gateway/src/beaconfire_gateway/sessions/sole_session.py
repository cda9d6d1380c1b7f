"""A session that is its own connection: one object less for each client. No I/O."""

from beaconfire_gateway.sessions.connection import Connection
from beaconfire_gateway.sessions.session import Session, State


class SoleSession(Session, Connection):
    """The half of `Connection` towards its one session. A transport mixes in the other half."""

    __slots__ = ()

    @property
    def connection(self) -> Connection:
        return self

    def gone(self) -> None:
        """It does not exist any more, however it ended. Call this once: it leaves the door."""
        self.lost()
        if not self.user_id:  # else it left when the session ended
            self.gateway.door.leave(self.address, was_connected=False)

    @property
    def is_connected(self) -> bool:
        """Whether it has started and has not ended."""
        return self.state is State.LIVE or self.state is State.CATCHING_UP

    def opened(self, session: Session) -> None:
        """Do nothing, because the session is this object."""

    def begun(self, session: Session) -> None:
        """Its client was let in."""
        self.gateway.door.connected(self.address)

    def ended(self, session: Session) -> None:
        """It has ended. A connection that is only being closed does not keep a client out that is back."""
        if self.user_id:
            self.gateway.door.leave(self.address, was_connected=True)
