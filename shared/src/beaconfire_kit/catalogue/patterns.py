"""Judge the patterns of schemas: which can be used, and what they cost. No I/O."""

from functools import lru_cache

import jsonschema_rs

MAX_BYTES = 4_096
"""Of a compiled pattern: about fifty repetitions of a character."""


def problem_of(pattern: str) -> str:
    """Return why a pattern cannot be used, and what to do. Empty if it can."""
    if _compiles(pattern, MAX_BYTES):
        return ""
    if _compiles(pattern, 1 << 24):
        return (
            f"The pattern {_show(pattern)} is too large: it compiles to more than {MAX_BYTES // 1024} KiB. "
            "Use shorter repetitions, maxLength for the length, or a format."
        )
    if _compiles_with_backtracking(pattern):
        return (
            f"The pattern {_show(pattern)} looks around or refers back, which takes unbounded time. "
            "Write it without (?=, (?!, (?<, and \\1."
        )
    return f"The pattern {_show(pattern)} is not a regular expression, or is far too large. Correct it."


@lru_cache(maxsize=4_096)
def kib_of(pattern: str) -> int:
    """Return about how many KiB a pattern compiles to: 1, 2 or 4. It takes time in proportion."""
    return next((kib for kib in (1, 2) if _compiles(pattern, kib * 1_024)), MAX_BYTES // 1_024)


def _compiles(pattern: str, size: int) -> bool:
    options = jsonschema_rs.RegexOptions(size_limit=size)
    try:
        jsonschema_rs.Draft7Validator({"pattern": pattern}, pattern_options=options)
    except ValueError:
        return False
    return True


def _compiles_with_backtracking(pattern: str) -> bool:
    try:
        jsonschema_rs.Draft7Validator({"pattern": pattern})
    except ValueError:
        return False
    return True


def _show(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:80] + "…")
