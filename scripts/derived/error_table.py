"""The error table where others read it: PROTOCOL.md §6 and the browser client."""

import json

from beaconfire_kit.errors import TABLE, ErrorCode

BEGIN = "<!-- generated: errors -->"
END = "<!-- end -->"

SCRIPT_HEAD = """\
// Written by `make generate` from shared/src/beaconfire_kit/errors.py. Do not edit.

/**
 * @typedef {object} ErrorRow
 * @property {number} status  the HTTP status
 * @property {"no" | "token" | "backoff"} retry  what to do next (PROTOCOL.md §6)
 * @property {number | null} close  the close code, null where the error never ends a connection
 * @property {string} meaning
 */

"""


def script() -> str:
    """`clients/js/src/errors.js`."""
    rows = "".join(f"  {row.code}: {_literal(row)},\n" for row in TABLE)
    declaration = "/** @type {Readonly<Record<string, ErrorRow>>} */\nexport const ERRORS = Object.freeze({\n"
    return f"{SCRIPT_HEAD}{declaration}{rows}}});\n"


def protocol_with_table(page: str) -> str:
    """PROTOCOL.md with the table between its marks brought up to date. Raises ValueError where there are no marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"PROTOCOL.md has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{_markdown()}{END}{after}"


def _markdown() -> str:
    rows = "".join(
        f"| `{row.code}` | {row.status} | {row.close or ''} | {row.retry.value} | {row.meaning} |\n" for row in TABLE
    )
    return f"| code | HTTP | close | retry | meaning |\n|---|---|---|---|---|\n{rows}"


def _literal(row: ErrorCode) -> str:
    close = "null" if row.close is None else str(row.close)
    retry, meaning = json.dumps(row.retry.value), json.dumps(row.meaning, ensure_ascii=False)
    return f"{{ status: {row.status}, retry: {retry}, close: {close}, meaning: {meaning} }}"
