"""Write the error table into PROTOCOL.md and into the browser client."""

import json

from beaconfire_kit.errors import TABLE, ErrorCode

MARK = "errors"

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


def script() -> str:
    """`clients/js/src/errors.js`."""
    rows = "".join(f"  {row.code}: {_literal(row)},\n" for row in TABLE)
    declaration = "/** @type {Readonly<Record<string, ErrorRow>>} */\nexport const ERRORS = Object.freeze({\n"
    return f"{SCRIPT_HEAD}{declaration}{rows}}});\n"


def markdown() -> str:
    """The table of PROTOCOL.md §6."""
    rows = "".join(
        f"| `{row.code}` | {row.status} | {row.close or ''} | {row.retry.value} | {row.meaning} |\n" for row in TABLE
    )
    return f"| code | HTTP | close | retry | meaning |\n|---|---|---|---|---|\n{rows}"


def _literal(row: ErrorCode) -> str:
    close = "null" if row.close is None else str(row.close)
    retry, meaning = json.dumps(row.retry.value), json.dumps(row.meaning, ensure_ascii=False)
    return f"{{ status: {row.status}, retry: {retry}, close: {close}, meaning: {meaning} }}"
