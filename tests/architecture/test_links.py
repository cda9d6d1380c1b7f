"""Links between the documents lead somewhere, and each page says where its words are explained."""

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT

PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "clients/*/*.md", "examples/*.md", "examples/*/*.md")
    for path in ROOT.glob(pattern)
)
_LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The fragments under which the headings of a page are found. A second heading with the same words ends in `-1`."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    found: Counter[str] = Counter()
    names = set()
    for heading in headings:
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        names.add(f"{name}-{found[name]}" if found[name] else name)
        found[name] += 1
    return names


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_relative_links_lead_to_existing_files_and_headings(page: Path) -> None:
    for link in _LINK.findall((ROOT / page).read_text()):
        path, _, fragment = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page

        assert target.exists(), link
        if fragment:
            assert fragment in anchors(target), link


GLOSSARY = """
The [glossary](../../PROTOCOL.md#1-words) explains words such as room, event, session, gateway, broker, stream, offset,
cursor, outbox, catalogue and operations port.
"""


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.parent.name in ("howto", "reference", "start", "topics")], ids=str
)
def test_each_page_links_to_the_glossary_below_its_title(page: Path) -> None:
    title, rest = (ROOT / page).read_text().split("\n", 1)

    assert title.startswith("# ")
    assert rest.startswith(GLOSSARY)
