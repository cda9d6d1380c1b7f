"""Write the fixtures of tests/conformance that follow from the code and from PROTOCOL.md."""

import json
import re
from typing import Any

from beaconfire_kit.errors import TABLE, Retry

_CHAPTER = re.compile(r"\n## (\d+)\. (.*?)(?=\n## |\Z)", re.DOTALL)
_EXAMPLES = re.compile(r"^```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_OF_WEBSOCKETS = {
    **dict.fromkeys((1002, 1003, 1007, 1009), Retry.NO),
    **dict.fromkeys((1000, 1001, 1006, 1011, 1012, 1013, 1014), Retry.BACKOFF),
}
"""PROTOCOL.md §6, "other close codes"."""
_UNKNOWN = (1015, 3000, 4000, 4499, 4999)
FIRST_CAP_MS, LAST_CAP_MS, ATTEMPTS = 1000, 32_000, 10
"""Back-off: the longest first pause, the longest of all, and the attempts in a row."""


def closes() -> str:
    """Return `closes.json`: what to do after each close code."""
    rows: dict[int, dict[str, Any]] = {close: {"close": close, "retry": Retry.BACKOFF} for close in _UNKNOWN}
    rows |= {close: {"close": close, "retry": retry} for close, retry in _OF_WEBSOCKETS.items()}
    for row in reversed(TABLE):  # of several errors with one close code, the first counts
        if row.close is not None:
            rows[row.close] = {"close": row.close, "code": row.code, "retry": row.retry}
    return _lines(rows[close] for close in sorted(rows))


def errors() -> str:
    """Return `errors.json`: what to do after each error in a reply, an `error` or an HTTP answer."""
    return _lines({"code": row.code, "status": row.status, "close": row.close, "retry": row.retry} for row in TABLE)


def backoff() -> str:
    """Return `backoff.json`: the longest pause before each attempt, of which the real one is a random part."""
    pauses = [min(LAST_CAP_MS, FIRST_CAP_MS * 2**number) for number in range(ATTEMPTS - 1)]
    return json.dumps({"attempts": ATTEMPTS, "longestPausesMs": pauses}) + "\n"


def messages(page: str) -> str:
    """Return `messages.json`: the examples of PROTOCOL.md, by who sends them."""
    chapters = dict(_CHAPTER.findall(page))
    sent = {"client": chapters["4"], "gateway": chapters["5"]}
    found = {
        who: [json.loads(line) for block in _EXAMPLES.findall(text) for line in block.splitlines()]
        for who, text in sent.items()
    }
    rows = (f'"{who}": {_lines(examples).rstrip()}' for who, examples in found.items())
    return "{" + ",\n".join(rows) + "}\n"


def _lines(rows: Any) -> str:
    """A JSON list with one row on each line."""
    return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n"
