"""beaconfire.tables: ids that a person copies out of a table are whole, in a pipe and on any terminal."""

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from beaconfire import outboxes
from beaconfire.operating import keys_table, service_tokens_table
from beaconfire.outboxes import Refused, Seen, WaitingRoot
from beaconfire.tables import print_table

KEYS = [
    {
        "kid": f"0123456789abcde{number}",
        "state": "verifying",
        "createdAt": 1_800_000_000,
        "signsFrom": 1_800_000_000,
        "verifiesUntil": 1_800_010_000,
        "serviceTokens": 12,
    }
    for number in range(3)
]
TOKENS = [
    {
        "id": f"fedcba987654321{number}",
        "service": "a_service_with_a_name_as_long_as_an_id_may_be_" + "x" * 18,
        "publish": ["campaign.*.settlement.>", "workspace.*." + "a_long_word" * 10 + ".>", "campaign.[bold].>"],
        "expiresAt": "2026-11-30T02:11:42Z",
        "usedAt": "2026-11-30T02:11:42Z",
        "revokedAt": "2026-11-30T02:11:42Z",
    }
    for number in range(3)
]


def printed(table: Table, *, width: int, terminal: bool) -> str:
    console = Console(file=StringIO(), width=width, force_terminal=terminal, color_system=None, highlight=False)
    print_table(table, console)
    assert console.width == width
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize(
    ("table", "rows", "name"), [(keys_table, KEYS, "kid"), (service_tokens_table, TOKENS, "id")], ids=["keys", "tokens"]
)
def test_ids_are_whole(
    table: Callable[[Any], Table], rows: list[dict[str, Any]], name: str, width: int, *, terminal: bool
) -> None:
    """Each id stands whole at the beginning of a line, and nothing is replaced by dots."""
    text = printed(table(rows), width=width, terminal=terminal)

    assert [line.split()[0] for line in text.splitlines() if line[1:2].strip()][1:] == [row[name] for row in rows]
    assert "…" not in text


@pytest.mark.parametrize("width", [20, 80])
def test_a_row_is_a_line_in_a_pipe(width: int) -> None:
    """What a program reads is not folded, so that `grep` and `cut` work on it."""
    lines = printed(keys_table(KEYS), width=width, terminal=False).splitlines()

    assert len(lines) == 1 + len(KEYS)
    assert all(str(row["serviceTokens"]) == line.split()[-1] for row, line in zip(KEYS, lines[1:], strict=True))


def test_it_fits_a_terminal_of_80_columns() -> None:
    """Long subjects are folded; no line is longer than the terminal is wide."""
    for table in (keys_table(KEYS), service_tokens_table(TOKENS)):
        assert max(map(len, printed(table, width=80, terminal=True).splitlines())) <= 80


def test_words_are_no_markup() -> None:
    """What looks like rich's markup is printed as it is."""
    assert "campaign.[bold].>" in printed(service_tokens_table(TOKENS), width=300, terminal=False)


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("terminal", [True, False])
def test_outboxes(width: int, *, terminal: bool) -> None:
    """The roots and the ids of events that `beaconfire outbox` shows are whole, too."""
    root, event_id = "campaign:" + "c" * 64, "e" * 128
    refused = Refused(event_id, f"campaign.{'c' * 64}.settlement.{'s' * 64}", "no [permission] to publish", 3.0)
    seen = Seen("publisher", 1, [WaitingRoot(root, 7, 12.0)], 1, [refused])
    console = Console(file=StringIO(), width=width, force_terminal=terminal, color_system=None, highlight=False)
    outboxes.print_readable([seen], console)
    text = console.file.getvalue()  # type: ignore[attr-defined]

    assert {root, event_id} <= set(text.split())
    assert "…" not in text


def test_empty_tables() -> None:
    """Without rows there is the head alone."""
    assert printed(keys_table([]), width=80, terminal=True).split()[0] == "key"
