"""Nodes of presence with a network between them, on a clock of their own: no broker, no waiting."""

from collections import deque
from collections.abc import Iterable
from itertools import count

from beaconfire_gateway.presence.messages import Changes, Part, Question
from beaconfire_gateway.presence.node import Node
from beaconfire_gateway.wire.messages import Status

STEP_S = 0.2
"""How often a node turns."""
_ids = count(1)


class Cluster:
    """Gateways that hear each other, as far as no fault keeps them from it."""

    def __init__(self, gateways: int) -> None:
        self.now = 1_000.0
        self.nodes: dict[str, Node] = {}
        self.frozen: dict[str, deque[Changes | Part | Question]] = {}
        """What waits for each gateway that stands still."""
        self.cut_off: set[str] = set()
        self.sessions: dict[str, dict[str, tuple[str, set[str], Status]]] = {}
        """By gateway and session: its user, its rooms, its status."""
        self.messages = 0
        """Messages that gateways have sent. One that all others hear counts once."""
        self.bytes = 0
        for _ in range(gateways):
            self.start()

    def start(self) -> str:
        """Start a gateway. Returns its id."""
        gateway = f"g{next(_ids)}"
        self.nodes[gateway] = Node(gateway)
        self.sessions[gateway] = {}
        return gateway

    def kill(self, gateway: str) -> None:
        """End a gateway without a word."""
        del self.nodes[gateway], self.sessions[gateway]
        self.frozen.pop(gateway, None)
        self.cut_off.discard(gateway)

    def freeze(self, gateway: str) -> None:
        self.frozen.setdefault(gateway, deque())

    def thaw(self, gateway: str) -> None:
        """Let a gateway go on: it hears what has waited."""
        for message in self.frozen.pop(gateway, ()):
            self._hear(gateway, message)

    # Sessions.

    def join(self, gateway: str, session: str, user: str, room: str) -> None:
        rooms = self.sessions[gateway].setdefault(session, (user, set(), Status.ONLINE))[1]
        rooms.add(room)
        self.nodes[gateway].join(session, user, room)

    def leave(self, gateway: str, session: str, room: str) -> None:
        user, rooms, _ = self.sessions[gateway][session]
        rooms.discard(room)
        self.nodes[gateway].leave(session, user, room)

    def lose(self, gateway: str, session: str) -> None:
        """A session's connection is lost."""
        user, rooms, _ = self.sessions[gateway].pop(session)
        self.nodes[gateway].lose(session, user, rooms, self.now)
        self.nodes[gateway].forget_status(session)

    def set_status(self, gateway: str, session: str, status: Status) -> None:
        user, rooms, _ = self.sessions[gateway][session]
        self.sessions[gateway][session] = user, rooms, status
        self.nodes[gateway].set_status(session, user, rooms, status)

    # Time.

    def turn(self, *, losing: Iterable[str] = ()) -> None:
        """Let a moment pass. What is said in it does not reach the gateways in `losing`."""
        self.now += STEP_S
        losing = set(losing)
        for gateway, node in list(self.nodes.items()):
            if gateway in self.frozen:
                continue
            for message in node.turn(self.now):
                self.messages += 1
                if isinstance(message, Question):
                    self._ask(gateway, message.gateway, losing)
                else:
                    self.bytes += len(message.encode())
                    self._tell_all(gateway, message, losing)

    def stop(self, gateway: str) -> None:
        """End a gateway in order."""
        for session in list(self.sessions[gateway]):
            self.lose(gateway, session)
        for message in (*self.nodes[gateway].turn(self.now), self.nodes[gateway].stop()):
            if isinstance(message, Changes):
                self._tell_all(gateway, message, set())
        self.kill(gateway)

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.turn()

    # What is known.

    def truth(self) -> dict[str, dict[str, tuple[int, Status]]]:
        """Who is in each room really: the devices and the status of each user."""
        found: dict[str, dict[str, tuple[int, Status]]] = {}
        for sessions in self.sessions.values():
            for user, rooms, status in sessions.values():
                for room in rooms:
                    devices, before = found.setdefault(room, {}).get(user, (0, Status.AWAY))
                    found[room][user] = devices + 1, max(before, status, key=_rank)
        return found

    def known(self, gateway: str) -> dict[str, dict[str, tuple[int, Status]]]:
        """The same, as a gateway knows it."""
        roster = self.nodes[gateway].roster
        found: dict[str, dict[str, tuple[int, Status]]] = {}
        for room, _ in roster.sizes():
            for user in roster.users(room):
                person = roster.person(room, user)
                assert person is not None
                found.setdefault(room, {})[user] = person.devices, person.status
        return found

    def users(self, gateway: str, room: str) -> set[str]:
        return set(self.nodes[gateway].roster.users(room))

    def _tell_all(self, sender: str, message: Changes, losing: set[str]) -> None:
        if sender in self.cut_off:
            return
        for gateway in self.nodes:
            if gateway != sender and gateway not in losing | self.cut_off:
                self._give(gateway, Changes.decode(sender, message.encode()))

    def _ask(self, asker: str, owner: str, losing: set[str]) -> None:
        if owner not in self.nodes or {asker, owner} & self.cut_off or owner in losing:
            return
        if owner in self.frozen:
            return  # its answer would be late, and the asker asks again
        for part in self.nodes[owner].answer():
            self.messages += 1
            self.bytes += len(part.encode())
            if asker not in losing:
                self._give(asker, Part.decode(owner, part.encode()))

    def _give(self, gateway: str, message: Changes | Part) -> None:
        if gateway in self.frozen:
            self.frozen[gateway].append(message)
        else:
            self._hear(gateway, message)

    def _hear(self, gateway: str, message: Changes | Part | Question) -> None:
        if isinstance(message, Changes):
            self.nodes[gateway].hear_changes(message, self.now)
        elif isinstance(message, Part):
            self.nodes[gateway].hear_part(message, self.now)


def _rank(status: Status) -> int:
    return (Status.AWAY, Status.ONLINE, Status.BUSY).index(status)
