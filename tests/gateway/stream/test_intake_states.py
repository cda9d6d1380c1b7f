"""The intake's states: which event leads where, and what leads to each event. The stream is played by hand."""

from collections.abc import Iterator
from unittest.mock import patch

import pytest

from beaconfire_gateway.fanout.checking import Stored
from beaconfire_gateway.stream.intake import TRANSITIONS, Event, Intake, State
from beaconfire_kit import broker
from tests.gateway.catalogues import Unchanging
from tests.gateway.stream.played_stream import SUBJECTS, Stage

NOTHING = [lambda: None]
READY = [State.SUBSCRIBING, State.READING_HISTORY, State.REPAIRING, State.LIVE]


class Recorded(Intake):
    """An intake that records its states, and whatever it reports, in order."""

    def __init__(self, stage: Stage) -> None:
        self.states = [State.SUBSCRIBING]
        self.reported: list[tuple[str, object]] = []
        self.delivered: list[int] = []
        self.revisions = Unchanging()
        super().__init__(
            stage.client,
            stage.reader,
            self.revisions,
            deliver=self._record,
            on_state=lambda answers: self.reported.append(("answers", answers)),
            on_epoch=lambda epoch, _position: self.reported.append(("epoch", epoch)),
            on_gap=lambda position: self.reported.append(("gap", position)),
            on_doubt=lambda: self.reported.append(("doubt", None)),
            history_s=60.0,
            max_behind=4,
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


def test_every_intake_state_is_reachable_and_leads_back_to_live() -> None:
    assert _reached_from(State.SUBSCRIBING) == set(State)
    assert all(State.LIVE in _reached_from(state) for state in State)


def test_every_intake_event_has_a_transition() -> None:
    assert {event for events in TRANSITIONS.values() for event in events} == set(Event)


def test_error_after_the_intake_was_live_leads_to_a_state_that_goes_on() -> None:
    """While the position or the catalogue is unknown, it leads to finding it."""
    after_error = {state: events.get(Event.FAILED) for state, events in TRANSITIONS.items()}

    assert after_error.pop(State.SWITCHING) is State.SWITCHING
    assert after_error.pop(State.HOLDING) is State.HOLDING
    assert {state for state, after in after_error.items() if after is None} == set(READY[:2])
    assert set(after_error.values()) == {None, State.LIVE}


def test_switching_ends_only_with_the_end_of_the_new_stream() -> None:
    """No event is delivered at a position of the old stream."""
    leads = {event for event, state in TRANSITIONS[State.SWITCHING].items() if state is not State.SWITCHING}

    assert leads == {Event.END_FOUND}


def _reached_from(state: State) -> set[State]:
    reached, new = set[State](), {state}
    while new:
        reached |= new
        new = {after for one in new for after in TRANSITIONS[one].values()} - reached
    return reached


# Courses of a real stream.


def test_intake_reads_the_newest_history_and_reports_the_epoch_before_the_first_message(
    stage: Stage, intake: Recorded
) -> None:
    publish(stage, 3)
    stage.turn(20)

    assert intake.take_states()[:4] == READY
    assert intake.ready
    assert intake.reported == [("epoch", "e1")]
    assert intake.delivered == list(range(1, intake.position + 1))


def test_end_of_the_stream_is_found_again_if_the_first_read_fails_before_its_first_message(
    stage: Stage, intake: Recorded
) -> None:
    stage.stream.armed["state"] = [*NOTHING * 2, lambda: _cut(stage)]  # the third answer is the last before the read
    stage.turn(20)
    stage.stream.is_away = False
    stage.wait(0.2)
    stage.turn(20)

    assert intake.take_states()[:5] == [*READY[:2], State.READING_HISTORY, *READY[2:]]


def test_intake_goes_on_at_the_end_of_a_stream_recreated_during_its_first_read(stage: Stage, intake: Recorded) -> None:
    publish(stage, 6)
    stage.stream.remove(3, "erased")
    stage.stream.armed["read"] = [*NOTHING * 5, stage.stream.recreate]  # at the last message of the read
    stage.turn(40)

    states = intake.take_states()
    assert states[:4] == [*READY[:2], State.SWITCHING, State.LIVE]
    assert intake.reported[-1] == ("epoch", stage.stream.epoch)
    assert intake.position <= stage.stream.last


def test_tick_after_a_second_of_silence_shows_that_nothing_is_missing(stage: Stage, live: Recorded) -> None:
    before = stage.stream.last
    pass_silence(stage)

    assert live.take_states() == [State.PROBING, State.LIVE]
    assert stage.stream.everything[before + 1].stored.subject == broker.TICK
    assert live.position == stage.stream.last


def test_tick_after_a_silence_finds_lost_messages_and_they_are_read(stage: Stage, live: Recorded) -> None:
    publish(stage, 3)
    stage.stream.unheard.clear()
    pass_silence(stage)

    assert live.take_states()[:3] == [State.PROBING, State.REPAIRING, State.LIVE]
    assert live.delivered == list(range(1, stage.stream.last + 1))


def test_message_behind_a_hole_is_held_until_the_hole_is_read(stage: Stage, live: Recorded) -> None:
    publish(stage, 3)
    stage.hear(stage.stream.unheard.pop())
    held = live.position < stage.stream.last
    stage.turn(20)

    assert held
    assert live.take_states() == [State.REPAIRING, State.LIVE]
    assert live.delivered == list(range(1, stage.stream.last + 1))


def test_nothing_behind_a_missing_young_offset_is_delivered_before_it_was_read_again(
    stage: Stage, live: Recorded
) -> None:
    """Then it is reported as a gap."""
    publish(stage, 4)
    gone = stage.stream.last - 2
    stage.stream.remove(gone, "erased")
    stage.hear(stage.stream.last)
    stage.turn(30)

    assert live.take_states() == [State.REPAIRING, State.HOLDING, State.REPAIRING, State.LIVE]
    assert live.reported == [("gap", gone)]
    assert live.delivered == [offset for offset in range(1, live.position + 1) if offset != gone]


def test_hole_removed_by_retention_is_reported_before_the_messages_behind_it(stage: Stage, live: Recorded) -> None:
    publish(stage, 4)
    last = stage.stream.last
    for offset in [one for one in stage.stream.there if one < last]:
        stage.stream.remove(offset, "retention")
    stage.hear(last)
    stage.turn(30)

    assert live.take_states() == [State.REPAIRING, State.HOLDING, State.REPAIRING, State.LIVE]
    assert live.reported == [("gap", last - 1)]
    assert last in live.delivered


def test_message_heard_again_makes_the_intake_verify_the_stream_and_is_not_delivered(
    stage: Stage, live: Recorded
) -> None:
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


def test_intake_goes_on_at_the_end_of_another_stream_after_a_reconnect(stage: Stage, live: Recorded) -> None:
    stage.stream.recreate()
    publish(stage, 40)
    stage.stream.unheard.clear()
    live.reconnected()
    stage.turn(30)

    assert live.take_states() == [State.VERIFYING, State.SWITCHING, State.LIVE]
    assert live.reported == [("epoch", stage.stream.epoch)]
    assert live.position == stage.stream.last


def test_anchor_with_another_epoch_makes_the_intake_switch(stage: Stage, live: Recorded) -> None:
    stage.stream.epoch = "renewed"
    stage.stream.store(broker.ANCHOR, b"renewed")
    hear_everything(stage)
    stage.turn(30)

    assert live.take_states() == [State.VERIFYING, State.SWITCHING, State.LIVE]
    assert live.reported == [("epoch", "renewed")]


def test_tick_at_or_below_the_position_shows_another_stream(stage: Stage, live: Recorded) -> None:
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


def test_hole_in_a_stream_with_another_epoch_is_not_read(stage: Stage, live: Recorded) -> None:
    stage.stream.epoch = "restored"
    publish(stage, 3)
    stage.hear(stage.stream.last)
    stage.turn(30)

    assert live.take_states()[:3] == [State.REPAIRING, State.SWITCHING, State.LIVE]
    assert live.reported == [("epoch", "restored")]


def test_clients_are_told_once_that_the_broker_does_not_answer_until_a_tick_is_acknowledged(
    stage: Stage, live: Recorded
) -> None:
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


def test_exception_in_an_intake_state_is_logged_and_the_intake_goes_on(stage: Stage, live: Recorded) -> None:
    with patch.object(stage.stream, "find_end", side_effect=RuntimeError("a bug of ours")):
        stage.wait(1.3)
        stage.turn(5)
    states = live.take_states()
    stage.wait(0.2)
    pass_silence(stage)

    assert states[0] is State.PROBING
    assert live.state is State.LIVE
    assert live.position == stage.stream.last


def test_intake_that_cannot_start_fails(stage: Stage) -> None:
    """The process then ends, and its supervisor restarts it."""
    intake = Recorded(stage)
    with patch.object(stage.stream, "find_end", side_effect=RuntimeError("a bug of ours")):
        stage.run(intake)
        with pytest.raises(AssertionError):
            stage.turn(10)

    assert isinstance(stage.task.exception(), RuntimeError)


def test_offsets_removed_between_the_question_and_the_read_are_reported(stage: Stage, live: Recorded) -> None:
    """Retention that removes old offsets after the stream was asked, and before the hole is read, is a gap, too."""
    stage.now += 130.0  # the next messages may be old enough to have been ticks
    publish(stage, 4)
    last = stage.stream.last

    def retain() -> None:
        for offset in [one for one in stage.stream.there if one < last]:
            stage.stream.remove(offset, "retention")

    stage.stream.armed["state"] = [retain]
    stage.hear(last)
    stage.turn(30)

    assert live.take_states()[0] is State.REPAIRING
    assert live.reported == [("gap", last - 1)]
    assert last in live.delivered


def test_intake_holds_at_a_marker_until_its_revision_can_be_read(stage: Stage, live: Recorded) -> None:
    live.revisions.is_lost = True
    publish(stage, 1)
    marker = stage.stream.store(broker.CATALOGUE)
    publish(stage, 2)
    hear_everything(stage)
    stage.turn(5)
    stage.wait(0.2)
    stage.turn(5)
    held_at, why = live.position, live.why_not_ready()
    states = live.take_states()
    live.revisions.is_lost = False
    stage.wait(0.2)
    stage.turn(30)

    assert (states, held_at, why) == ([State.HOLDING], marker, "lost")
    assert live.take_states() == [State.REPAIRING, State.LIVE]
    assert live.delivered == list(range(1, stage.stream.last + 1))
    assert live.why_not_ready() is None


def test_hole_that_has_a_marker_is_read_up_to_it_until_its_revision_can_be_read(stage: Stage, live: Recorded) -> None:
    live.revisions.is_lost = True
    publish(stage, 1)
    marker = stage.stream.store(broker.CATALOGUE)
    publish(stage, 6)
    stage.hear(stage.stream.last)
    stage.turn(30)
    held_at, states = live.position, live.take_states()
    live.revisions.is_lost = False
    stage.wait(0.2)
    stage.turn(40)

    assert (states, held_at) == ([State.REPAIRING, State.HOLDING], marker)
    assert live.take_states()[:2] == [State.REPAIRING, State.LIVE]
    assert live.delivered == list(range(1, live.position + 1))
    assert live.position > marker + 6
    assert live.reported == []


def test_messages_that_come_while_it_holds_are_kept_within_a_bound_and_read_again(stage: Stage, live: Recorded) -> None:
    live.revisions.is_lost = True
    live._sequence._max_held = 3
    stage.stream.store(broker.CATALOGUE)
    publish(stage, 20)
    hear_everything(stage)
    stage.turn(5)
    held = len(live._sequence._held)
    live.revisions.is_lost = False
    stage.wait(0.2)
    stage.turn(60)

    assert held <= 3
    assert live.delivered == list(range(1, stage.stream.last + 1))


def test_intake_that_holds_notices_another_stream(stage: Stage, live: Recorded) -> None:
    live.revisions.is_lost = True
    stage.stream.store(broker.CATALOGUE)
    hear_everything(stage)
    stage.turn(5)
    stage.stream.recreate()
    stage.stream.unheard.clear()
    stage.wait(0.2)
    stage.turn(20)
    states = live.take_states()
    live.revisions.is_lost = False
    stage.wait(0.2)
    stage.turn(20)

    assert states == [State.HOLDING, State.SWITCHING]
    assert live.take_states() == [State.LIVE]
    assert live.reported == [("epoch", stage.stream.epoch)]


def test_markers_are_read_before_offsets_are_passed_over_that_are_gone(stage: Stage, live: Recorded) -> None:
    """One of them may have been a marker."""
    publish(stage, 4)
    last = stage.stream.last
    for offset in [one for one in stage.stream.there if one < last]:
        stage.stream.remove(offset, "retention")
    live.revisions.read_up_to.clear()
    live.revisions.is_lost = True
    stage.hear(last)
    stage.turn(20)
    before = list(live.reported)
    live.revisions.is_lost = False
    stage.wait(0.2)
    stage.turn(30)

    assert before == []
    assert live.reported == [("gap", last - 1)]
    assert live.revisions.read_up_to[-1] > last


def test_intake_does_not_start_before_a_catalogue_can_be_read(stage: Stage) -> None:
    intake = Recorded(stage)
    intake.revisions.is_lost = True
    stage.run(intake)
    stage.turn(20)
    before, why = intake.take_states(), intake.why_not_ready()
    intake.revisions.is_lost = False
    stage.wait(0.2)
    stage.turn(20)

    assert (before, why) == (READY[:2], "lost")
    assert intake.take_states()[:2] == READY[2:]


def test_event_that_a_state_does_not_list_cannot_end_it(stage: Stage, live: Recorded) -> None:
    with pytest.raises(KeyError):
        live._follow(Event.HISTORY_READ)
    assert live.state is State.LIVE


def _cut(stage: Stage) -> None:
    stage.stream.is_away = True
    stage.stream.cuts += 1
