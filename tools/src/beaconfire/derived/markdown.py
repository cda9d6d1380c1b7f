"""Write a reference page of a catalogue in Markdown."""

import re
from collections.abc import Iterator

from beaconfire.derived.reference import Entry, Section, sections
from beaconfire_kit.catalogue.catalogue import Catalogue

HEAD = """\
# Events

Written by `beaconfire catalogue docs --format markdown`. Do not edit.

Every event is one JSON message, `{"id", "type", "version", "payload", "metadata"}` (see "Publishing" in PROTOCOL.md).
It is published on its subject, and goes to exactly the rooms that the subject names.

A field marked *optional* may be missing. An *id* matches `[A-Za-z0-9_-]{1,64}`. A *time* is ISO 8601 with a UTC offset.

"""
_SPECIAL = re.compile(r"[\\\[\]<>*|`~&]|(?<!\w)_|_(?!\w)|^[#=+-]", re.MULTILINE)
_CODE = re.compile(r"(`[^`\n]+`)")


def markdown(catalogue: Catalogue, *, head: str = HEAD) -> str:
    """Return the whole page: for each fragment a table of its events, and all about each of them."""
    return head + "\n".join(_section(one) for one in sections(catalogue) if one.entries)


def _section(section: Section) -> str:
    parts = [f"## {_text(section.title)}\n\n{_roots(section)}{_table(section)}", *map(_entry, section.entries)]
    return "\n".join(parts)


def _roots(section: Section) -> str:
    if not section.roots:
        return ""
    kinds = ", ".join(f"`{root.kind}`" for root in section.roots)
    return f"Kinds of roots that this fragment declares: {kinds}.\n\n"


def _table(section: Section) -> str:
    rows = "".join(f"| [`{one.title}`](#{_heading_anchor(one.title)}) | `{one.subject}` |\n" for one in section.entries)
    return f"| type | subject |\n|---|---|\n{rows}"


def _entry(entry: Entry) -> str:
    parts = [f"### {_text(entry.title)}"]
    if entry.description:
        parts.append(_text(entry.description))
    rooms = ", ".join(f"`{room}`" for room in entry.rooms)
    parts.append(f"* version: {entry.version}\n* subject: `{entry.subject}`\n* rooms: {rooms}")
    parts += map(_text, entry.notes)
    if entry.fields:
        parts.append("| payload | | |\n|---|---|---|\n" + "\n".join(_rows(entry)))
    if entry.example:
        parts.append(f"{_fence(entry.example)}json\n{entry.example}\n{_fence(entry.example)}")
    return "\n\n".join(parts) + "\n"


def _rows(entry: Entry) -> Iterator[str]:
    for one in entry.fields:
        path = one.path.replace("`", "")
        optional = "" if one.is_required else ", *optional*"
        yield f"| {_cell(f'`{path}`')} | {_cell(one.kind)}{optional} | {_cell(one.description)} |"


def _text(text: str) -> str:
    """Return a text of strangers as Markdown that shows it. Only code between backticks keeps its meaning."""
    parts = _CODE.split("\n".join(line.strip() for line in text.splitlines()))
    return "".join(part if at % 2 else _escaped(part) for at, part in enumerate(parts))


def _cell(text: str) -> str:
    """As `_text`, for a cell of a table: on one line, where `|` ends a cell even in code."""
    parts = _CODE.split(" ".join(text.split()))
    return "".join(part.replace("|", "\\|") if at % 2 else _escaped(part) for at, part in enumerate(parts))


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", text)


def _fence(text: str) -> str:
    """Return a fence that no line of the text ends."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    return "`" * max(3, longest + 1)


def _heading_anchor(title: str) -> str:
    """Return the fragment of a heading's link on GitHub."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
