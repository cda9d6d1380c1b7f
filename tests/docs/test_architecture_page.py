"""The sequence diagrams of docs/topics/architecture.md can be drawn, and name what exists."""

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import get_args

import pytest
from pydantic.alias_generators import to_camel

from beaconfire_gateway.wire import messages
from beaconfire_kit import errors
from tests.architecture.sources import ROOT
from tests.docs.served import served
from tests.docs.tree import blocks

PAGE = "docs/topics/architecture.md"
DIAGRAMS = [block.text for block in blocks(PAGE) if block.language == "mermaid"]
SECTIONS = [
    "Connect and authorize",
    "From a click to the other screens",
    "Repair of a gap in the live events",
    "A change of the catalogue",
    "A client that was away",
    "A removed member",
    "A gateway is replaced",
    "Workers",
    "Who is here, who is typing, and what is selected",
]

_PARTICIPANT = re.compile(r"participant (\w+) as (\S.*)")
_ARROW = re.compile(r"(\w+)(?:->>|-->>|-x|--x|-\)|--\))(\w+): (\S.*)")
_NOTE = re.compile(r"Note over (\w+)(?:,(\w+))?: (\S.*)")
_MESSAGE = re.compile(r"([a-z.]+) \{([^}]*)\}")
_CALL = re.compile(r"\b(GET|POST|PUT|PATCH|DELETE) (/[^\s,]*)")


def lines(diagram: str) -> list[str]:
    return [line.strip() for line in diagram.splitlines() if line.strip()]


def texts() -> Iterator[str]:
    """What is written on the arrows of all diagrams."""
    for diagram in DIAGRAMS:
        yield from (found[3] for line in lines(diagram) if (found := _ARROW.fullmatch(line)))


def test_each_section_with_a_story_has_its_diagram() -> None:
    sections = (ROOT / PAGE).read_text().split("\n## ")
    stories = [section.partition("\n")[0] for section in sections if "```mermaid" in section]

    assert stories == SECTIONS
    assert len(DIAGRAMS) == len(SECTIONS)


@pytest.mark.parametrize("diagram", DIAGRAMS, ids=SECTIONS)
def test_diagram_is_a_sequence_of_participants_that_it_declares(diagram: str) -> None:
    first, *rest = lines(diagram)
    declared = [found[1] for line in rest if (found := _PARTICIPANT.fullmatch(line))]
    arrows = [found for line in rest if (found := _ARROW.fullmatch(line))]
    notes = [found for line in rest if (found := _NOTE.fullmatch(line))]
    frames = Counter(line.split()[0] for line in rest if line.split()[0] in ("alt", "else", "end"))
    used = {name for arrow in arrows for name in arrow.group(1, 2)}

    assert first == "sequenceDiagram"
    assert len(declared) + len(arrows) + len(notes) + frames.total() == len(rest), "a line is none of these"
    assert sorted(used) == sorted(declared)
    assert {name for note in notes for name in note.group(1, 2) if name} <= used
    assert frames["alt"] == frames["end"]


def test_every_message_in_a_diagram_has_the_fields_that_the_diagram_shows() -> None:
    known = defaultdict[str, set[str]](set)  # several messages may share a type
    for one in (*get_args(messages.Request), *get_args(messages.Message)):
        known[one.TYPE] |= {to_camel(field.name) for field in dataclasses.fields(one)}
    shown = [found.groups() for text in texts() if (found := _MESSAGE.match(text)) and found[1] in known]

    assert {type_ for type_, _ in shown} >= {"connect", "connection.ack", "resync", "room.left", "goaway"}
    for type_, fields in shown:
        assert {field.split()[0] for field in fields.split(", ")} <= known[type_], type_


def test_every_call_in_a_diagram_is_served() -> None:
    patterns = [re.compile(re.escape(call).replace(r"\{\}", "[^/]+")) for call in served()]
    calls = [f"{method} {path}" for text in texts() for method, path in _CALL.findall(text)]

    assert len(calls) >= 4
    assert [call for call in calls if not any(pattern.fullmatch(call) for pattern in patterns)] == []


def test_every_close_code_of_the_page_is_in_the_table_of_errors() -> None:
    known = {row.close for row in errors.TABLE}
    named = {int(code) for code in re.findall(r"\b4[0-9]{3}\b", (ROOT / PAGE).read_text())}

    assert named
    assert named <= known
