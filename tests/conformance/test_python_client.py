"""The core of the Python client meets the fixtures."""

from collections import deque
from typing import Any

import pytest

from beaconfire_client.core.actions import Delivered, Refused, Resynced, State
from beaconfire_client.core.backoff import cap_s
from beaconfire_client.core.protocol import retry_of_error
from beaconfire_client.core.sizes import bytes_of
from tests.clients.python.core.driver import Driver
from tests.conformance.fixtures import misses, read, scripts

ACK = {
    "type": "connection.ack",
    "sessionId": "session-1",
    "userId": "u1",
    "cursor": "e1:1",
    "heartbeatS": 25,
    "degraded": False,
    "rooms": {},
}
OUTCOMES = {"no": State.ERROR, "backoff": State.CONNECTING, "token": State.CONNECTING}


class Stage:
    """Plays the gateway and the application of a script."""

    def __init__(self) -> None:
        self.driver = Driver(transport="websocket")
        self.consumers: dict[int, str] = {}
        self.link = self.old_link = 0
        self.tokens = 0
        self.id: Any = 0
        self.read = 0

    def step(self, step: dict[str, Any]) -> None:
        """Do one step, or check what it expects."""
        (kind, value), *_ = step.items()
        self.driver.advance(0)
        getattr(self, f"_{kind}")(value, step)
        self._go_on()

    def _go_on(self) -> None:
        self.driver.carry_out()
        while self.driver.wanted_tokens:
            self.tokens += 1
            self.driver.give_token(f"token-{self.tokens}")

    def _app(self, what: str, step: dict[str, Any]) -> None:
        core = self.driver.core
        if what == "connect":
            core.connect()
        elif what == "subscribe":
            number = core.subscribe(step["room"], types=step.get("types"), cursor=step.get("cursor"))
            self.consumers[number] = step["room"]
        else:
            (number,) = (one for one, room in self.consumers.items() if room == step["room"])
            core.unsubscribe(number)
        self.driver.carry_out()
        self.driver.advance(0)

    def _opens(self, _: Any, step: dict[str, Any]) -> None:
        self.old_link, self.link = self.link, max(self.driver.links)
        assert self.link != self.old_link, "no connection is being opened"
        self.driver.core.opened(self.link)

    def _client(self, wanted: dict[str, Any], step: dict[str, Any]) -> None:
        assert self.read < len(self.driver.sent), f"nothing was sent instead of {wanted}"
        link, message = self.driver.sent[self.read]
        self.read += 1
        self.id = message["id"]
        assert link == self.link
        assert misses(message, wanted) == []
        assert [key for key in step.get("absent", ()) if message.get(key) is not None] == []

    def _gateway(self, frame: dict[str, Any], step: dict[str, Any]) -> None:
        answers = frame["type"] in ("connection.ack", "reply", "restored", "error")
        link = self.old_link if step.get("on") == "old" else self.link
        self.driver.receive(link, {**frame, **({"id": self.id} if answers else {})})

    def _breaks(self, code: int, _: Any) -> None:
        self.driver.end(self.link, code)

    def _publish(self, _offset: int, _: Any) -> None:
        """The gateway alone does this."""

    def _passMs(self, ms: int, _: Any) -> None:  # noqa: N802  (the word of the fixtures)
        self.driver.advance(ms / 1000)

    def _hears(self, offsets: list[int | None], _: Any) -> None:
        assert [one.frame.get("offset") for one in self.driver.told if isinstance(one, Delivered)] == offsets

    def _told(self, wanted: dict[str, Any], _: Any) -> None:
        told = [one.resync for one in self.driver.told if isinstance(one, Resynced)][-1]
        assert {"rooms": list(told.rooms), "reason": told.reason} == wanted

    def _refused(self, room: str, step: dict[str, Any]) -> None:
        refused = [one for one in self.driver.told if isinstance(one, Refused) and self.consumers[one.consumer] == room]
        assert [(one.refusal.code, one.will_retry) for one in refused] == [(step["code"], False)]

    def _silent(self, types: list[str], _: Any) -> None:
        assert [message["type"] for _, message in self.driver.sent[self.read :] if message["type"] in types] == []

    def _state(self, state: str, step: dict[str, Any]) -> None:
        status = self.driver.core.status
        assert status.state == state
        assert "code" not in step or (status.reason is not None and status.reason.code == step["code"])


def connected(driver: Driver, **limits: int) -> int:
    """Connect a client that has no rooms yet. Returns its link."""
    driver.core.connect()
    driver.carry_out()
    driver.give_token()
    link = driver.open()
    announced = {"maxFrameBytes": 16_384, "maxRooms": 100, "messagesPerMinute": 100, "roomsPerMinute": 600, **limits}
    driver.receive(link, {**ACK, "id": driver.last["id"], "limits": announced})
    return link


@pytest.mark.parametrize("name", scripts("client"))
def test_python_client_follows_the_script(name: str) -> None:
    stage = Stage()
    for step in read(f"scripts/{name}")["steps"]:
        stage.step(step)


@pytest.mark.parametrize("row", read("closes"), ids=lambda row: str(row["close"]))
def test_python_client_does_after_a_close_what_the_table_says(row: dict[str, Any]) -> None:
    driver = Driver(transport="websocket")
    driver.end(connected(driver), row["close"])

    assert driver.core.status.state is OUTCOMES[row["retry"]]
    assert [wanted.reason for wanted in driver.wanted_tokens] == (["refused"] if row["retry"] == "token" else [])
    if row["retry"] == "no" and "code" in row:
        assert driver.core.status.reason is not None
        assert driver.core.status.reason.code == row["code"]


def test_python_client_has_the_verdict_of_every_error() -> None:
    assert {row["code"]: retry_of_error(row["code"]) for row in read("errors")} == {
        row["code"]: row["retry"] for row in read("errors")
    }


def test_python_client_waits_no_longer_than_the_longest_pauses_and_stops_after_the_last_attempt() -> None:
    wanted = read("backoff")
    driver = Driver(transport="websocket", chance=0.999_999)
    driver.core.connect()
    driver.carry_out()
    pauses = []
    for _ in range(wanted["attempts"]):
        driver.give_token()
        driver.end(max(driver.links))
        if driver.core.next_at is not None:
            pauses.append(driver.core.next_at - driver.now)
            driver.advance(pauses[-1])

    assert [round(pause_s * 1000) for pause_s in pauses] == wanted["longestPausesMs"]
    assert [cap_s(number) * 1000 for number in range(len(pauses))] == wanted["longestPausesMs"]
    assert driver.core.status.state is State.ERROR


@pytest.mark.parametrize("case", read("limits"), ids=lambda case: case["why"])
def test_python_client_keeps_the_limits_and_joins_every_room(case: dict[str, Any]) -> None:
    limits = case["limits"]
    names = [f"campaign:c1/settlement:a-rather-long-name-{number:03}" for number in range(case["rooms"])]
    driver = Driver(transport="websocket")
    link = connected(driver, **limits)
    for name in names:
        driver.core.subscribe(name)
    joined: list[str] = []
    allowed = {"messages": limits["messagesPerMinute"], "rooms": limits["roomsPerMinute"]}
    left: dict[str, float] = dict(allowed)
    waiting: deque[Any] = deque()
    answered = len(driver.sent)
    end = driver.now + case["withinMs"] / 1000
    while len(joined) < len(names) and driver.now < end:
        driver.advance(0.1)
        left = {limit: min(allowed[limit], left[limit] + allowed[limit] / 600) for limit in allowed}
        waiting.extend(message for _, message in driver.sent[answered:])
        answered = len(driver.sent)
        assert len(waiting) <= 100
        while waiting:
            message = waiting.popleft()
            rooms = message.get("rooms", [])
            assert bytes_of(message) <= limits["maxFrameBytes"]
            assert len(rooms) <= 100
            left = {"messages": left["messages"] - 1, "rooms": left["rooms"] - len(rooms)}
            # A message may have been sent up to 0.1 s before it is counted.
            assert all(left[limit] > -allowed[limit] / 600 - 0.001 for limit in allowed), "more than the limit allows"
            joined += rooms
            answers = {room: {"success": True} for room in rooms}
            driver.receive(link, {"type": "reply", "id": message["id"], "success": True, "rooms": answers})

    assert sorted(joined) == names[: case.get("joined", len(names))]


def test_python_client_ignores_no_message_of_the_gateway_that_the_protocol_shows() -> None:
    """Every example can be received, and leaves the connection open."""
    for frame in read("messages")["gateway"]:
        driver = Driver(transport="websocket")
        link = connected(driver)
        driver.core.subscribe("campaign:c1", presence=True)
        driver.advance(0)
        driver.receive(link, frame)

        assert driver.core.status.state is State.CONNECTED, frame
