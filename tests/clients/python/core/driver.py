"""Carries out what the core of the Python client says. Time passes, and the network moves, only when a test says so."""

from typing import Any

from beaconfire_client.core import actions
from beaconfire_client.core.actions import Action, FetchToken
from beaconfire_client.core.connection import Connection
from beaconfire_client.core.protocol import Frame, Message
from beaconfire_client.core.ways import Way


class Driver:
    """A core, and what it has asked for and told."""

    def __init__(self, *, chance: float = 0.5, **options: Any) -> None:
        self.now = 1000.0
        self.chance = chance
        self.core = Connection(clock=lambda: self.now, chance=lambda: self.chance, **options)
        self.links: dict[int, Way] = {}
        """The links that are opening or open."""
        self.sent: list[tuple[int, Message]] = []
        self.wanted_tokens: list[FetchToken] = []
        self.told: list[Action] = []
        """Everything else."""

    def carry_out(self) -> None:
        """Take the actions. Call it after each call of the core."""
        for action in self.core.actions():
            match action:
                case actions.Open(link, way):
                    self.links[link] = way
                case actions.Drop(link):
                    self.links.pop(link, None)
                case actions.Send(link, message):
                    assert link in self.links, f"{message['type']} on a link that is not open"
                    self.sent.append((link, message))
                case actions.FetchToken():
                    self.wanted_tokens.append(action)
                case _:
                    self.told.append(action)

    def advance(self, seconds: float) -> None:
        """Let time pass, with every alarm on the way."""
        end = self.now + seconds
        while (at := self.core.next_at) is not None and at <= end:
            self.now = max(self.now, at)
            self.core.run_due()
            self.carry_out()
        self.now = end

    def give_token(self, token: str = "token") -> None:
        """Answer the newest wish for a token; older ones are out of date."""
        wanted, self.wanted_tokens = self.wanted_tokens[-1], []
        self.core.token_arrived(wanted.number, token)
        self.carry_out()

    def open(self) -> int:
        """Open the newest link. Returns its number."""
        link = max(self.links)
        self.core.opened(link)
        self.carry_out()
        return link

    def receive(self, link: int, frame: Frame) -> None:
        self.core.received(link, frame)
        self.carry_out()

    def end(self, link: int, code: int = 1006, reason: str = "") -> None:
        self.links.pop(link, None)
        self.core.ended(link, code, reason)
        self.carry_out()

    @property
    def last(self) -> Message:
        """The message that was sent last."""
        return self.sent[-1][1]
