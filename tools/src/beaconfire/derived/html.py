"""Write a reference page of a catalogue as one HTML file: no other file, no request, and nothing of it is executed."""

import base64
import hashlib
import re
from collections.abc import Iterable
from html import escape
from pathlib import Path

from beaconfire.derived.fields import Field
from beaconfire.derived.reference import Entry, Section, sections
from beaconfire_kit.catalogue.catalogue import Catalogue

_HERE = Path(__file__).parent
_STYLE = (_HERE / "page.css").read_text()
_SCRIPT = (_HERE / "page.js").read_text()
_CODE = re.compile(r"(`[^`\n]+`)")
_PARAMETER = re.compile(r"(\{[^{}]*\})")
_TOKEN = re.compile(r'("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null)\b|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)')
TITLE = "Events"


def html(catalogue: Catalogue, *, title: str = TITLE) -> str:
    """Return the whole page. Texts of the fragments are shown as they are: they cannot add markup or scripts."""
    found = [one for one in sections(catalogue) if one.entries]
    count = sum(len(one.entries) for one in found)
    events = f"{count} {'event' if count == 1 else 'events'}"
    others = len(catalogue.fragments)
    fragments = f"{others} {'fragment' if others == 1 else 'fragments'}"
    sources = f"style-src '{_hash(_STYLE)}'; script-src '{_hash(_SCRIPT)}'"
    policy = f"default-src 'none'; {sources}; base-uri 'none'; form-action 'none'"
    revision = f"revision {catalogue.revision}" if catalogue.revision else "not pushed"
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="generator" content="beaconfire catalogue docs">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the events</a>
<aside>
<header>
<a class="brand" href="#top">{escape(title)}</a>
<span class="dim">{revision}</span>
</header>
<label class="search"><span class="hidden">Search</span>
<input id="search" type="search" placeholder="Search events and fields" autocomplete="off" spellcheck="false">
<kbd>/</kbd></label>
<nav aria-label="Events">
{"".join(map(_menu, found))}</nav>
<p id="none" class="dim" hidden>No event matches.</p>
<button id="theme" type="button">Dark or light</button>
</aside>
<main id="content">
<div id="top" class="intro">
<h1>{escape(title)}</h1>
<p class="lead">{events} in {fragments}.</p>
<p>Every event is one JSON message, <code>{{"id", "type", "version", "payload", "metadata"}}</code>. It is published on
its subject, and goes to exactly the rooms that the subject names. Each pair of a subject, like
<code>campaign.c1</code>, is a room: <code>campaign:c1</code>. An <em>id</em> matches
<code>[A-Za-z0-9_-]{{1,64}}</code>. A <em>time</em> is ISO 8601 with a UTC offset.</p>
</div>
{"".join(map(_section, found))}</main>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _menu(section: Section) -> str:
    rows = "".join(
        f'<li data-words="{_words(entry)}"><a href="#{_anchor(entry)}">{_breakable(entry.title)}</a></li>\n'
        for entry in section.entries
    )
    return f"<details open><summary>{escape(section.title)}</summary>\n<ul>\n{rows}</ul></details>\n"


def _section(section: Section) -> str:
    roots = "".join(
        f"<li><code>{escape(one.kind)}</code>{_traits(one.members, one.presence)}</li>" for one in section.roots
    )
    listed = f'<p>Roots, outermost in a subject:</p>\n<ul class="roots">{roots}</ul>\n' if roots else ""
    return (
        f'<section>\n<div class="fragment"><h2>{escape(section.title)}</h2>\n'
        f'<p class="dim">Fragment <code>{escape(section.name)}</code></p>\n{listed}</div>\n'
        f"{''.join(map(_entry, section.entries))}</section>\n"
    )


def _traits(members: bool, presence: bool) -> str:
    traits = [word for word, has in (("members", members), ("presence", presence)) if has]
    return f' <span class="dim">{", ".join(traits)}</span>' if traits else ""


def _entry(entry: Entry) -> str:
    anchor = _anchor(entry)
    rooms = " ".join(f"<code>{_subject(room)}</code>" for room in entry.rooms)
    notes = "".join(f'<p class="note">{_inline(note)}</p>\n' for note in entry.notes)
    return f"""\
<article id="{anchor}" data-words="{_words(entry)}">
<h3><a href="#{anchor}">{_breakable(entry.title)}</a> <span class="badge">version {entry.version}</span></h3>
<div class="prose">{_paragraphs(entry.description)}</div>
{notes}<dl>
<dt>Subject</dt><dd><code>{_subject(entry.subject)}</code></dd>
<dt>Rooms</dt><dd>{rooms}</dd>
</dl>
<div class="sides">
{_table(entry.fields)}
{_example(entry.example)}</div>
</article>
"""


def _table(fields: Iterable[Field]) -> str:
    rows = "".join(
        f'<tr><th scope="row"><code>{_breakable(one.path)}</code>{"" if one.is_required else " <i>optional</i>"}</th>'
        f"<td>{_inline(one.kind)}{_detail(one.description)}</td></tr>\n"
        for one in fields
    )
    if not rows:
        return '<p class="dim">The payload has no declared fields.</p>'
    head = "<thead><tr><th>Payload</th><th>Type</th></tr></thead>"
    return f'<div class="scroll"><table>\n{head}\n<tbody>\n{rows}</tbody></table></div>'


def _detail(text: str) -> str:
    return f'<div class="dim">{_paragraphs(text)}</div>' if text else ""


def _example(text: str) -> str:
    return (
        f'<div class="example"><h4>Example</h4><pre tabindex="0"><code>{_json(text)}</code></pre></div>\n'
        if text
        else ""
    )


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{_inline(one)}</p>" for one in re.split(r"\n\s*\n", text) if one.strip())


def _inline(text: str) -> str:
    """Return a text with code between backticks shown as code, and everything else as it is."""
    parts = _CODE.split(text)
    return "".join(f"<code>{escape(one[1:-1])}</code>" if at % 2 else escape(one) for at, one in enumerate(parts))


def _subject(text: str) -> str:
    parts = _PARAMETER.split(text)
    return "".join(f"<var>{escape(one)}</var>" if at % 2 else _breakable(one) for at, one in enumerate(parts))


def _breakable(text: str) -> str:
    """Return a name that may wrap behind its dots and underscores."""
    return re.sub(r"(?<=[._:])(?=.)", "<wbr>", text) if escape(text) == text else escape(text)


def _json(text: str) -> str:
    """Return JSON with its names, texts and numbers told apart."""
    out, end = [], 0
    for found in _TOKEN.finditer(text):
        out.append(escape(text[end : found.start()]))
        string, colon, word, number = found.groups()
        kind = "k" if colon else "s" if string else "w" if word else "n"
        out.append(f'<span class="{kind}">{escape(string or word or number)}</span>{colon or ""}')
        end = found.end()
    return "".join([*out, escape(text[end:])])


def _words(entry: Entry) -> str:
    """Return what a search finds the event by."""
    words = [entry.title, entry.subject, *(one.path for one in entry.fields), entry.description]
    return escape(" ".join(words).lower())


def _anchor(entry: Entry) -> str:
    return "event-" + re.sub(r"[^A-Za-z0-9._-]", "-", entry.anchor)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
