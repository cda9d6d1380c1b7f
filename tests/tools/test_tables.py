"""Ids in printed tables can be copied whole, in a pipe and on any terminal."""

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from beaconfire import outboxes
from beaconfire.operating import keys_table, service_tokens_table
from beaconfire.outboxes import Seen
from beaconfire.tables import print_table
from beaconfire_kit.outbox_table import Refused, WaitingRoot

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
def test_ids_are_printed_whole_at_the_beginning_of_a_line(
    table: Callable[[Any], Table], rows: list[dict[str, Any]], name: str, width: int, *, terminal: bool
) -> None:
    text = printed(table(rows), width=width, terminal=terminal)

    assert [line.split()[0] for line in text.splitlines() if line[1:2].strip()][1:] == [row[name] for row in rows]
    assert "…" not in text


@pytest.mark.parametrize("width", [20, 80])
def test_table_row_is_one_line_in_a_pipe(width: int) -> None:
    """One line per row lets `grep` and `cut` work on a table."""
    lines = printed(keys_table(KEYS), width=width, terminal=False).splitlines()

    assert len(lines) == 1 + len(KEYS)
    assert all(str(row["serviceTokens"]) == line.split()[-1] for row, line in zip(KEYS, lines[1:], strict=True))


def test_table_fits_a_terminal_of_80_columns() -> None:
    for table in (keys_table(KEYS), service_tokens_table(TOKENS)):
        assert max(map(len, printed(table, width=80, terminal=True).splitlines())) <= 80


def test_text_that_looks_like_rich_markup_is_printed_as_it_is() -> None:
    assert "campaign.[bold].>" in printed(service_tokens_table(TOKENS), width=300, terminal=False)


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("terminal", [True, False])
def test_outbox_tables_print_roots_and_event_ids_whole(width: int, *, terminal: bool) -> None:
    root, event_id = "campaign:" + "c" * 64, "e" * 128
    refused = Refused(event_id, f"campaign.{'c' * 64}.settlement.{'s' * 64}", "no [permission] to publish", 3.0)
    seen = Seen("publisher", 1, [WaitingRoot(root, 7, 12.0)], 1, [refused])
    console = Console(file=StringIO(), width=width, force_terminal=terminal, color_system=None, highlight=False)
    outboxes.print_readable([seen], console)
    text = console.file.getvalue()  # type: ignore[attr-defined]

    assert {root, event_id} <= set(text.split())
    assert "…" not in text


def test_table_without_rows_prints_only_its_head() -> None:
    assert printed(keys_table([]), width=80, terminal=True).split()[0] == "key"
