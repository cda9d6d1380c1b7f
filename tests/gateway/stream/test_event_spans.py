"""A gateway makes one span of a traced event, and takes no step for traces while they are off."""

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, cast

from beaconfire_gateway.fanout.checking import Stored
from beaconfire_gateway.stream.delivery import Delivery
from beaconfire_gateway.stream.event_spans import MAX_UNWRITTEN, EventSpans
from beaconfire_gateway.stream.intake import Intake
from beaconfire_kit.spans import Spans
from beaconfire_kit.trace_settings import TraceSettings
from tests.gateway.conftest import Gateway

TRACED = Stored("campaign.c1.state", b'{"metadata":{"traceparent":"00-%s-%s-01"}}' % (b"a" * 32, b"b" * 16), False)
UNTRACED = Stored("campaign.c1.state", b'{"metadata":{}}', False)


class Writes:
    """Says what is written."""

    frames_sent = 0
    settled = 0


def bytecodes(call: Callable[[], object]) -> int:
    """How many bytecodes CPython executes in a call."""
    count = 0

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


async def test_gateway_gives_events_to_the_delivery_itself_while_traces_are_off(gateway: Gateway) -> None:
    """So an event takes the same steps as if there were no traces."""
    assert gateway.url
    # Those of earlier tests may not have been collected yet, but their connections are closed.
    found = [one for one in gc.get_objects() if isinstance(one, Intake) and one._nc.is_connected]

    assert found
    assert {cast(Any, one)._deliver.__func__ for one in found} == {Delivery.deliver}


def test_event_that_is_not_sampled_costs_few_steps_while_traces_are_on() -> None:
    spans = EventSpans(cast(Spans, None), Writes(), lambda _callback: None)
    traced = spans.around(lambda _offset, _stored: None)

    assert bytecodes(lambda: traced(1, UNTRACED)) - bytecodes(lambda: None) < 40


def test_span_ends_when_its_event_is_written_and_few_wait() -> None:
    """Events beyond are delivered without a span."""
    sdk, writes, turns = Spans("gateway", TraceSettings()), Writes(), list[Callable[[], None]]()
    delivered = list[int]()
    spans = EventSpans(sdk, writes, turns.append)
    deliver = spans.around(lambda offset, _stored: delivered.append(offset))
    for offset in range(1, MAX_UNWRITTEN + 3):
        deliver(offset, TRACED)
    waiting = list(cast(Any, spans)._unwritten)
    first, second = waiting[0][1], waiting[1][1]
    writes.settled = 1
    turns.pop()()
    (again,) = turns

    assert delivered == list(range(1, MAX_UNWRITTEN + 3))
    assert len(waiting) == MAX_UNWRITTEN
    assert (first.is_recording(), second.is_recording()) == (False, True)
    writes.settled = MAX_UNWRITTEN
    turns.clear()
    again()
    assert (second.is_recording(), turns) == (False, [])
    sdk.close()
