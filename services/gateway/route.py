"""Where an event goes: a subject's rooms, looked up once for each subject. No I/O."""

from services.gateway import protocol
from shared.subjects import RoomKey, parse_subject

_MAX_ROUTES = 100_000


class Route:
    """A subject's rooms, and their names as an event frame carries them."""

    __slots__ = ("names", "rooms", "subject")

    def __init__(self, subject: str, rooms: tuple[RoomKey, ...]) -> None:
        self.subject = subject
        self.rooms = rooms
        self.names = protocol.room_names(rooms)


class Routes:
    """Routes by subject. Bounded: forgets all when there are too many, and starts again."""

    def __init__(self) -> None:
        self._routes: dict[str, Route] = {}

    def find(self, subject: str) -> Route:
        """The route of a subject. Raises InvalidSubject."""
        route = self._routes.get(subject)
        if route is None:
            if len(self._routes) >= _MAX_ROUTES:
                self._routes.clear()
            route = self._routes[subject] = Route(subject, parse_subject(subject).rooms)
        return route
