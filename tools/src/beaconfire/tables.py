"""Print tables on the command line. They never cut a value off, because users copy ids from them."""

from collections.abc import Collection, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_WIDEST = 10_000
_FOLDED = 6
"""A folded column may become this narrow before the table is wider than the terminal."""


def listing(
    headers: Sequence[str], rows: Sequence[Sequence[str]], *, whole: Collection[str], title: str | None = None
) -> Table:
    """Return a table of plain text. Columns in `whole` stay on one line.

    Others are folded if the terminal is too narrow.
    """
    table = Table(box=None, title=title, title_justify="left")
    for number, header in enumerate(headers):
        if header in whole:
            longest = max(cell_len(text) for text in (header, *(row[number] for row in rows)))
            table.add_column(header, no_wrap=True, overflow="ignore", min_width=longest)
        else:
            table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*(Text(text) for text in row))
    return table


def print_table(table: Table, console: Console | None = None) -> None:
    """Print a table so that it fits the terminal. For a program that reads it, each row is one line.

    If the terminal has no room for the columns that stay whole, lines are longer than it is wide.
    """
    console = console or Console(highlight=False)
    width = console.width
    console.width = max(width, _least(table)) if console.is_terminal else max(width, _natural(table, console))
    try:
        console.print(table)
    finally:
        console.width = width


def _least(table: Table) -> int:
    padding = 2 * len(table.columns)
    return padding + sum(column.min_width or _FOLDED for column in table.columns)


def _natural(table: Table, console: Console) -> int:
    return Measurement.get(console, console.options.update(width=_WIDEST), table).maximum
