"""Whatever the order of events, each consumer gets each event of its room once and in order (Hypothesis)."""

from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from beaconfire_client.core.actions import Delivered, Joined, Left, Refused, Resynced
from tests.clients.python.core.driver import Driver
from tests.clients.python.core.imagined_gateway import EPOCH, ImaginedGateway, Session

ROOMS = ("campaign:c1", "campaign:c1/settlement:s1", "campaign:c2")
EVENTS = (("campaign:c1",), ("campaign:c1", "campaign:c1/settlement:s1"), ("campaign:c2",))


@dataclass
class Heard:
    """What a consumer got. `since` is the offset after which it must have everything; None while that is unknown."""

    room: str
    since: int | None
    offsets: list[int] = field(default_factory=list)
    is_paused: bool = False


class Conversations(RuleBasedStateMachine):
    """Messages wait in both directions, connections are lost, rooms are refused, consumers come, go and pause."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver(max_attempts=None, transport="websocket")
        self.gateway = ImaginedGateway()
        self.consumers: dict[int, Heard] = {}
        self.driver.core.connect()
        self._go()

    # The world moves.

    @rule()
    def everything_flows(self) -> None:
        """Without this, most runs would end before the client is connected."""
        self._settle()

    @rule(event=st.sampled_from(EVENTS))
    def publish(self, event: tuple[str, ...]) -> None:
        self.gateway.publish(*event)

    @rule(room=st.sampled_from(ROOMS), back=st.none() | st.integers(0, 5))
    def subscribe(self, room: str, back: int | None) -> None:
        since = None if back is None else max(0, self.gateway.end - back)
        cursor = None if since is None else f"{EPOCH}:{since}"
        number = self.driver.core.subscribe(room, cursor=cursor)
        self.consumers[number] = Heard(room, since)
        self._go()

    @precondition(lambda self: self.consumers)
    @rule(data=st.data())
    def unsubscribe(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.consumers)))
        self._check(self.consumers.pop(number), is_settled=False)
        self.driver.core.unsubscribe(number)
        self._go()

    @precondition(lambda self: self.consumers)
    @rule(data=st.data())
    def pause_or_resume(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.consumers)))
        one = self.consumers[number]
        one.is_paused = not one.is_paused
        (self.driver.core.pause if one.is_paused else self.driver.core.resume)(number)
        self._go()

    @precondition(lambda self: self.gateway.sessions)
    @rule(data=st.data(), count=st.integers(1, 5))
    def gateway_handles_messages(self, data: st.DataObject, count: int) -> None:
        link = data.draw(st.sampled_from(sorted(self.gateway.sessions)))
        for _ in range(min(count, len(self.gateway.sessions[link].incoming))):
            self.gateway.handle(link)

    @precondition(lambda self: self.gateway.sessions)
    @rule(data=st.data(), count=st.integers(1, 5))
    def client_receives_messages(self, data: st.DataObject, count: int) -> None:
        self._deliver(data.draw(st.sampled_from(sorted(self.gateway.sessions))), count)

    @precondition(lambda self: self.driver.wanted_tokens)
    @rule()
    def token_arrives(self) -> None:
        self.driver.give_token()
        self._go()

    @precondition(lambda self: self.driver.links.keys() - self.gateway.sessions.keys())
    @rule()
    def link_opens(self) -> None:
        link = min(self.driver.links.keys() - self.gateway.sessions.keys())
        self.gateway.sessions[link] = Session()
        self.driver.core.opened(link)
        self._go()

    @precondition(lambda self: self.driver.links)
    @rule(data=st.data())
    def link_breaks(self, data: st.DataObject) -> None:
        self.driver.end(data.draw(st.sampled_from(sorted(self.driver.links))))
        self._go()

    @precondition(lambda self: self.gateway.sessions)
    @rule()
    def gateway_is_about_to_stop(self) -> None:
        link = min(self.gateway.sessions)
        if self.gateway.sessions[link].is_connected:
            self.gateway.sessions[link].outgoing.append({"type": "goaway", "afterMs": 0, "withinMs": 5000})

    @precondition(lambda self: self.gateway.sessions)
    @rule(room=st.sampled_from(ROOMS))
    def lease_ends(self, room: str) -> None:
        self.gateway.expire(min(self.gateway.sessions), room)

    @rule(rooms=st.sets(st.sampled_from(ROOMS)), is_busy=st.booleans())
    def gateway_refuses(self, rooms: set[str], is_busy: bool) -> None:
        self.gateway.refused, self.gateway.is_busy = rooms, is_busy

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 8.0]))
    def time_passes(self, seconds: float) -> None:
        self.driver.advance(seconds)
        self._go()

    # In the end, nothing is in the way any more.

    def teardown(self) -> None:
        self.gateway.refused, self.gateway.is_busy = set(), False
        for number, one in self.consumers.items():
            if one.is_paused:
                self.driver.core.resume(number)
        for _ in range(12):
            self._settle()
        for one in self.consumers.values():
            assert one.since is not None, f"{one.room} was never joined"
            self._check(one, is_settled=True)

    def _settle(self) -> None:
        self._go()
        if self.driver.wanted_tokens:
            self.token_arrives()
        if self.driver.links.keys() - self.gateway.sessions.keys():
            self.link_opens()
        for _ in range(3):
            for link in sorted(self.gateway.sessions):
                if link in self.gateway.sessions:
                    while self.gateway.sessions[link].incoming:
                        self.gateway.handle(link)
                    self._deliver(link, 10_000)
        self.driver.advance(3)
        self._go()

    def _deliver(self, link: int, count: int) -> None:
        session = self.gateway.sessions[link]
        while count and session.outgoing and link in self.driver.links:
            count -= 1
            self.driver.receive(link, session.outgoing.popleft())
            self._go()

    def _go(self) -> None:
        """Hand over what the core has sent and told."""
        self.driver.carry_out()
        for link in self.gateway.sessions.keys() - self.driver.links.keys():
            del self.gateway.sessions[link]
        for link, message in self.driver.sent:
            if link in self.gateway.sessions:
                self.gateway.sessions[link].incoming.append(message)
        self.driver.sent.clear()
        told, self.driver.told = self.driver.told, []
        for action in told:
            match action:
                case Delivered(number, frame):
                    if (one := self.consumers.get(number)) is not None:
                        one.offsets.append(frame["offset"])
                case Joined(number):
                    if (one := self.consumers.get(number)) is not None and one.since is None:
                        one.since = max(self.gateway.end, *one.offsets, 0)
                case Left() | Resynced():
                    raise AssertionError(f"nothing was lost: {action}")
                case Refused(_, _, will_retry):
                    assert will_retry

    def _check(self, one: Heard, *, is_settled: bool) -> None:
        """Everything from its first event on, once and in order; at the end also everything since it joined."""
        assert one.offsets == sorted(set(one.offsets)), f"{one.room}: {one.offsets}"
        first = one.offsets[0] if one.offsets else self.gateway.end + 1
        if one.since is not None:
            first = min(first, one.since + 1) if is_settled or one.offsets else first
        last = self.gateway.end if is_settled else (one.offsets[-1] if one.offsets else 0)
        expected = [n for n in range(first, last + 1) if one.room in self.gateway.events[n - 1]]
        assert one.offsets == expected, f"{one.room} since {one.since}: {one.offsets}, expected {expected}"


TestConversations = Conversations.TestCase
TestConversations.settings = settings(
    max_examples=200, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
