"""Write the error table into PROTOCOL.md and into the clients."""

import json

from beaconfire_kit.errors import TABLE, ErrorCode, Retry

MARK = "errors"
LINE_LENGTH = 120

SCRIPT_HEAD = """\
// Written by `make generate` from shared/src/beaconfire_kit/errors.py. Do not edit.

/**
 * @typedef {object} ErrorRow
 * @property {number} status  the HTTP status
 * @property {"no" | "token" | "backoff"} retry  what to do next (PROTOCOL.md §6)
 * @property {number | null} close  the close code; null if the error never closes a connection
 * @property {string} meaning
 */

"""

VERDICTS_HEAD = """\
// Written by `make generate` from shared/src/beaconfire_kit/errors.py. Do not edit.

/**
 * For each error code, what to do next and, if the error can close a connection, the close code (PROTOCOL.md §6).
 * An error that is not here is not worth trying again, and closes no connection.
 * @type {Readonly<Record<string, readonly ["no" | "token" | "backoff", number?]>>}
 */
"""

MODULE_HEAD = '''\
"""The errors of PROTOCOL.md §6.

Written by `make generate` from shared/src/beaconfire_kit/errors.py. Do not edit.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Retry = Literal["no", "token", "backoff"]
"""What a client does next."""


class ErrorRow(NamedTuple):
    """A row of the table. `close` is None if the error never closes a connection."""

    code: str
    status: int
    close: int | None
    retry: Retry
    meaning: str


'''


def script() -> str:
    """`clients/js/src/errors.js`."""
    rows = "".join(f"  {row.code}: {_literal(row)},\n" for row in TABLE)
    declaration = "/** @type {Readonly<Record<string, ErrorRow>>} */\nexport const ERRORS = Object.freeze({\n"
    return f"{SCRIPT_HEAD}{declaration}{rows}}});\n"


def module() -> str:
    """`clients/python/src/beaconfire_client/core/error_table.py`."""
    rows = "".join(_python(row) for row in TABLE)
    return f"{MODULE_HEAD}ERRORS: Mapping[str, ErrorRow] = {{\n    row.code: row\n    for row in (\n{rows}    )\n}}\n"


def verdicts() -> str:
    """`clients/js/src/verdicts.js`: what the client itself needs of the table."""
    told = [row for row in TABLE if row.close or row.retry != Retry.NO]
    rows = "".join(f"  {row.code}: {_verdict(row)},\n" for row in told)
    return f"{VERDICTS_HEAD}export const VERDICTS = {{\n{rows}}};\n"


def markdown() -> str:
    """The table of PROTOCOL.md §6."""
    rows = "".join(
        f"| `{row.code}` | {row.status} | {row.close or ''} | {row.retry.value} | {row.meaning} |\n" for row in TABLE
    )
    return f"| code | HTTP | close | retry | meaning |\n|---|---|---|---|---|\n{rows}"


def _verdict(row: ErrorCode) -> str:
    return json.dumps([row.retry.value, row.close] if row.close else [row.retry.value])


def _literal(row: ErrorCode) -> str:
    close = "null" if row.close is None else str(row.close)
    retry, meaning = json.dumps(row.retry.value), json.dumps(row.meaning, ensure_ascii=False)
    return f"{{ status: {row.status}, retry: {retry}, close: {close}, meaning: {meaning} }}"


def _python(row: ErrorCode) -> str:
    code, retry, meaning = (json.dumps(text, ensure_ascii=False) for text in (row.code, row.retry.value, row.meaning))
    fields = f"{code}, {row.status}, {row.close}, {retry}, {meaning}"
    line = f"        ErrorRow({fields}),\n"
    # As the formatter breaks lines.
    return line if len(line) <= LINE_LENGTH + 1 else f"        ErrorRow(\n            {fields}\n        ),\n"
