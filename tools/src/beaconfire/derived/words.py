"""Turn texts and names of strangers into words that are safe in source code.

Fragments are written by other teams. A description may try to end a comment, and a name may be no identifier.
"""

import re
import unicodedata
from collections.abc import Iterable

_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They change the order in which a reader sees the characters, so that a comment can look like code."""
_WORD = re.compile(r"[A-Za-z0-9]+")


def plain_text(text: str) -> str:
    """Return the text without control characters, lone surrogates and marks that reorder it. Lines end with `\\n`."""
    lines = "\n".join(text.splitlines())
    return "".join(one for one in lines if one == "\n" or not _is_hidden(one)).strip()


def pascal(text: str) -> str:
    """Return the text as a name of a type: `parcel.status_changed` is `ParcelStatusChanged`."""
    ascii_ = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    words = "".join(word[0].upper() + word[1:] for word in _WORD.findall(ascii_))
    if not words:
        return "Unnamed"
    return f"N{words}" if words[0].isdigit() else words


class Names:
    """Names of one file. Each is given once."""

    def __init__(self, reserved: Iterable[str]) -> None:
        self._taken = {name.lower() for name in reserved}

    def claim(self, wanted: str) -> str:
        """Return this name, or with a number behind it if it is taken, also in another case."""
        name, number = wanted, 1
        while name.lower() in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name.lower())
        return name


def _is_hidden(character: str) -> bool:
    return character in _BIDI or unicodedata.category(character) in ("Cc", "Cs")
