"""The intake's states: which event leads where, and what leads to each event. The stream is played by hand."""

from collections.abc import Iterator
from unittest.mock import patch

import pytest

from beaconfire_gateway.fanout.encoding import Stored
from beaconfire_gateway.stream import replay
from beaconfire_gateway.stream.intake import TRANSITIONS, Event, Intake, State
from beaconfire_kit import broker
from tests.gateway.stream.played_stream import SUBJECTS, Stage

NOTHING = [lambda: None]
READY = [State.SUBSCRIBING, State.READING_HISTORY, State.REPAIRING, State.LIVE]


class Recorded(Intake):
    """An intake that records its states, and whatever it reports, in order."""

    def __init__(self, stage: Stage) -> None:
        self.states = [State.SUBSCRIBING]
        self.reported: list[tuple[str, object]] = []
        self.delivered: list[int] = []
        super().__init__(
            stage.client,
            deliver=self._record,
            on_state=lambda answers: self.reported.append(("answers", answers)),
            on_epoch=lambda epoch, _position: self.reported.append(("epoch", epoch)),
            on_gap=lambda position: self.reported.append(("gap", position)),
            on_doubt=lambda: self.reported.append(("doubt", None)),
            history_s=60.0,
        )

    def _record(self, offset: int, _stored: Stored) -> None:
        self.delivered.append(offset)

    def _follow(self, event: Event) -> None:
        super()._follow(event)
        self.states.append(self.state)

    def take_states(self) -> list[State]:
        """Return the states since the last call."""
        states, self.states = self.states, []
        return states


@pytest.fixture(name="stage")
def _stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


@pytest.fixture(name="intake")
def _intake(stage: Stage) -> Recorded:
    """An intake that has not started."""
    intake = Recorded(stage)
    stage.run(intake)
    return intake


@pytest.fixture(name="live")
def _live(stage: Stage, intake: Recorded) -> Recorded:
    """An intake that is live and level with the stream."""
    stage.turn(20)
    stage.stream.unheard.clear()  # it was read
    assert intake.take_states()[:4] == READY
    pass_silence(stage)  # the first one publishes an anchor, too
    pass_silence(stage)
    intake.take_states()
    intake.reported.clear()
    return intake


def hear_everything(stage: Stage) -> None:
    while stage.stream.unheard:
        stage.hear(stage.stream.unheard.pop(0))


def pass_silence(stage: Stage) -> None:
    """Let it be silent until the intake has probed, and has heard its own tick."""
    stage.wait(1.3)
    stage.turn(5)
    hear_everything(stage)
    stage.wait(0.3)
    stage.turn(20)
    hear_everything(stage)
    stage.turn()


def publish(stage: Stage, count: int) -> None:
    for _ in range(count):
        stage.stream.store(SUBJECTS[0])


# The table.


def test_every_state_is_reached_and_leads_back_to_live() -> None:
    """From the start every state can be reached, and from every state the intake becomes live again."""
    assert _reached_from(State.SUBSCRIBING) == set(State)
    assert all(State.LIVE in _reached_from(state) for state in State)


def test_every_event_leads_somewhere() -> None:
    """No event is without a meaning."""
    assert {event for events in TRANSITIONS.values() for event in events} == set(Event)


def test_an_error_stops_no_state_that_was_live_once() -> None:
    """A bug of ours leads back to where the next step is chosen; while the position is unknown, to finding it."""
    after_error = {state: events.get(Event.FAILED) for state, events in TRANSITIONS.items()}

    assert after_error.pop(State.SWITCHING) is State.SWITCHING
    assert {state for state, after in after_error.items() if after is None} == set(READY[:2])
    assert set(after_error.values()) == {None, State.LIVE}


def test_another_stream_is_only_left_by_its_end() -> None:
    """Nothing but the end of the new stream ends SWITCHING: nothing is delivered at a position of the old one."""
    leads = {event for event, state in TRANSITIONS[State.SWITCHING].items() if state is not State.SWITCHING}

    assert leads == {Event.END_FOUND}


def _reached_from(state: State) -> set[State]:
    reached, new = set[State](), {state}
    while new:
        reached |= new
        new = {after for one in new for after in TRANSITIONS[one].values()} - reached
    return reached


# What really happens.


def test_start(stage: Stage, intake: Recorded) -> None:
    """An intake reads the newest history before it is live, and reports the epoch before the first message."""
    publish(stage, 3)
    stage.turn(20)

    assert intake.take_states()[:4] == READY
    assert intake.ready
    assert intake.reported == [("epoch", "e1")]
    assert intake.delivered == list(range(1, intake.position + 1))


def test_a_history_that_cannot_be_read_is_read_again(stage: Stage, intake: Recorded) -> None:
    """If the first read fails before its first message, the end of the stream is found again."""
    stage.stream.armed["state"] = [*NOTHING * 2, lambda: _cut(stage)]  # the third answer is the last before the read
    stage.turn(20)
    stage.stream.is_away = False
    stage.wait(0.2)
    stage.turn(20)

    assert intake.take_states()[:5] == [*READY[:2], State.READING_HISTORY, *READY[2:]]


def test_a_stream_recreated_during_the_first_read(stage: Stage, intake: Recorded) -> None:
    """If a stream is recreated while its history is read, the intake goes on at the end of the new one."""
    publish(stage, 6)
    stage.stream.remove(3, "erased")
    stage.stream.armed["read"] = [*NOTHING * 5, stage.stream.recreate]  # at the last message of the read
    stage.turn(40)

    states = intake.take_states()
    assert states[:4] == [*READY[:2], State.SWITCHING, State.LIVE]
    assert intake.reported[-1] == ("epoch", stage.stream.epoch)
    assert intake.position <= stage.stream.last


def test_silence_without_a_hole(stage: Stage, live: Recorded) -> None:
    """After a second of silence a tick shows that nothing is missing."""
    before = stage.stream.last
    pass_silence(stage)

    assert live.take_states() == [State.PROBING, State.LIVE]
    assert stage.stream.everything[before + 1].stored.subject == broker.TICK
    assert live.position == stage.stream.last


def test_silence_with_a_hole(stage: Stage, live: Recorded) -> None:
    """Messages that were lost with nothing behind them are found by the tick, and read."""
    publish(stage, 3)
    stage.stream.unheard.clear()
    pass_silence(stage)

    assert live.take_states()[:3] == [State.PROBING, State.REPAIRING, State.LIVE]
    assert live.delivered == list(range(1, stage.stream.last + 1))


def test_a_message_behind_a_hole(stage: Stage, live: Recorded) -> None:
    """A message behind a hole is held until the hole is read."""
    publish(stage, 3)
    stage.hear(stage.stream.unheard.pop())
    held = live.position < stage.stream.last
    stage.turn(20)

    assert held
    assert live.take_states() == [State.REPAIRING, State.LIVE]
    assert live.delivered == list(range(1, stage.stream.last + 1))


def test_a_jump_is_held_until_it_is_explained(stage: Stage, live: Recorded) -> None:
    """Behind a young offset that is gone nothing is delivered before it was read once more and reported as a gap."""
    publish(stage, 4)
    gone = stage.stream.last - 2
    stage.stream.remove(gone, "erased")
    stage.hear(stage.stream.last)
    stage.turn(30)

    assert live.take_states() == [State.REPAIRING, State.LIVE]
    assert live.reported == [("gap", gone)]
    assert live.delivered[-2:] == [gone + 1, gone + 2]


def test_retention_is_reported_before_what_follows(stage: Stage, live: Recorded) -> None:
    """If retention removed the hole, the gap is reported, and the messages behind it follow."""
    publish(stage, 4)
    last = stage.stream.last
    for offset in [one for one in stage.stream.there if one < last]:
        stage.stream.remove(offset, "retention")
    stage.hear(last)
    stage.turn(30)

    assert live.take_states() == [State.REPAIRING, State.LIVE]
    assert live.reported == [("gap", last - 1)]
    assert live.delivered[-1] == last


def test_a_message_heard_again(stage: Stage, live: Recorded) -> None:
    """A message at or below the position makes the intake verify the stream, and is not delivered again."""
    publish(stage, 1)
    hear_everything(stage)
    stage.turn(5)
    live.take_states()
    before = list(live.delivered)
    stage.wait(1.0)
    stage.hear(live.position)
    stage.turn(20)

    assert live.take_states()[0] is State.VERIFYING
    assert live.delivered[: len(before)] == before
    assert len(set(live.delivered)) == len(live.delivered)
    assert live.reported == []


def test_a_reconnect_to_another_stream(stage: Stage, live: Recorded) -> None:
    """After a reconnect to a stream that was recreated and filled, the intake goes on at its end."""
    stage.stream.recreate()
    publish(stage, 40)
    stage.stream.unheard.clear()
    live.reconnected()
    stage.turn(30)

    assert live.take_states() == [State.VERIFYING, State.SWITCHING, State.LIVE]
    assert live.reported == [("epoch", stage.stream.epoch)]
    assert live.position == stage.stream.last


def test_an_operator_renews_the_epoch(stage: Stage, live: Recorded) -> None:
    """An anchor that names another epoch makes the intake switch, although nothing else is different."""
    stage.stream.epoch = "renewed"
    stage.stream.store(broker.ANCHOR, b"renewed")
    hear_everything(stage)
    stage.turn(30)

    assert live.take_states() == [State.VERIFYING, State.SWITCHING, State.LIVE]
    assert live.reported == [("epoch", "renewed")]


def test_a_stream_that_went_back(stage: Stage, live: Recorded) -> None:
    """A tick at or below the position shows another stream, whatever epoch it claims."""
    publish(stage, 9)
    hear_everything(stage)
    epoch = live.epoch
    stage.stream.recreate()
    stage.stream.epoch = epoch
    stage.stream.unheard.clear()
    live.take_states()
    stage.wait(1.3)
    stage.turn(30)

    assert live.take_states() == [State.PROBING, State.SWITCHING, State.LIVE]
    assert live.position == stage.stream.last


def test_another_stream_is_found_by_a_repair(stage: Stage, live: Recorded) -> None:
    """A hole in a stream with another epoch is not read: the intake switches."""
    stage.stream.epoch = "restored"
    publish(stage, 3)
    stage.hear(stage.stream.last)
    stage.turn(30)

    assert live.take_states()[:3] == [State.REPAIRING, State.SWITCHING, State.LIVE]
    assert live.reported == [("epoch", "restored")]


def test_no_answer_is_degraded_until_a_tick_is_acknowledged(stage: Stage, live: Recorded) -> None:
    """Without an acknowledged tick clients are told once, and the intake probes until there is one."""
    stage.stream.is_away = True
    for _ in range(4):
        stage.wait(1.3)
        stage.turn(5)
    away = live.take_states()
    stage.stream.is_away = False
    stage.wait(0.2)
    pass_silence(stage)

    assert set(away) == {State.PROBING, State.LIVE}
    assert len(away) > 4
    assert live.reported == [("answers", False), ("answers", True)]


def test_a_bug_of_ours_is_survived(stage: Stage, live: Recorded) -> None:
    """An exception in a state is logged, and the intake goes on."""
    with patch.object(replay, "find_end", side_effect=RuntimeError("a bug of ours")):
        stage.wait(1.3)
        stage.turn(5)
    states = live.take_states()
    stage.wait(0.2)
    pass_silence(stage)

    assert states[0] is State.PROBING
    assert live.state is State.LIVE
    assert live.position == stage.stream.last


def test_an_error_before_it_is_live_ends_it(stage: Stage) -> None:
    """An intake that cannot start fails, so that its process is started again."""
    intake = Recorded(stage)
    with patch.object(replay, "find_end", side_effect=RuntimeError("a bug of ours")):
        stage.run(intake)
        with pytest.raises(AssertionError):
            stage.turn(10)

    assert isinstance(stage.task.exception(), RuntimeError)


def test_transitions_follow_the_table(stage: Stage, live: Recorded) -> None:
    """An event that a state does not list cannot end it."""
    with pytest.raises(KeyError):
        live._follow(Event.HISTORY_READ)
    assert live.state is State.LIVE


def _cut(stage: Stage) -> None:
    stage.stream.is_away = True
    stage.stream.cuts += 1
