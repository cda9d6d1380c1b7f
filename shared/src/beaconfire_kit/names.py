"""Check display names: any script and emoji, without characters that only deceive.

Unicode's categories decide, not a profile of PRECIS (RFC 8264), which is for identifiers. It refuses emoji with
joiners, the middle dot of Chinese names, and joiners that Bengali and Persian need.
"""

import unicodedata

MAX_NAME = 200

_JOINERS = "\u200c\u200d"
_EMOJI_TAGS = range(0xE0020, 0xE0080)
_FLAG = "\U0001f3f4"
_SELECTORS = (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0), range(0x180B, 0x180E), range(0x180F, 0x1810))
_EMOJI = range(0x1F000, 0x1FB00)  # those that are newer than Python's tables count as assigned
_UNSEEN = frozenset("\u200b\u2060\ufeff\u00ad\u200e\u200f\u061c")
"""Removed silently: they come with copied text, and are invisible."""
_VISIBLE_FORMATS = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180e\u2800\u3164\uffa0\U00016fe4\U0001d159")
_OF_WORDS = frozenset("LMN")


def display_name(text: str) -> str:
    """Return a name as it is stored and shown. Raises ValueError that says what is wrong.

    Spaces of every kind become the plain one, letters are composed (NFC), and invisible characters are taken out.
    Joiners stay between letters and in emoji. Control characters, overrides of the writing direction, surrogates,
    private and unassigned characters are refused.
    """
    kept: list[str] = []
    pending = ""
    for letter in unicodedata.normalize("NFC", "".join(map(_spaced, text))).strip():
        if letter in _UNSEEN:
            continue
        if letter in _JOINERS:
            pending = letter
            continue
        _check(letter, kept[-1] if kept else "")
        if pending and kept and _may_join(kept[-1], letter):
            kept.append(pending)
        pending = ""
        kept.append(letter)
    name = "".join(kept).strip()
    if not 1 <= len(name) <= MAX_NAME or not any(map(_is_seen, name)):
        raise ValueError(f"a name has 1 to {MAX_NAME} characters, and one of them can be seen")
    return name


def is_unseen(letter: str) -> bool:
    """Return whether this character is invisible: a joiner, a selector, a filler, or a mark of direction."""
    return letter in _UNSEEN or letter in _JOINERS or letter in _BLANK or _is_selector(letter)


def _spaced(letter: str) -> str:
    return " " if unicodedata.category(letter) == "Zs" else letter


def _check(letter: str, before: str) -> None:
    """Raise ValueError for a character that is not allowed in a name, or not in this place."""
    category, code = unicodedata.category(letter), ord(letter)
    if category[0] in "LMNPS" or letter == " " or letter in _VISIBLE_FORMATS:
        return
    if category == "Cn" and code in _EMOJI:
        return
    if code in _EMOJI_TAGS and before and (before == _FLAG or ord(before) in _EMOJI_TAGS):
        return
    raise ValueError(f"a name cannot contain U+{code:04X} ({unicodedata.name(letter, _kind(category))})")


def _kind(category: str) -> str:
    kinds = {"Cc": "a control character", "Cs": "half of a surrogate pair", "Co": "a private character"}
    return kinds.get(category, "a character that is not assigned")


def _may_join(before: str, after: str) -> bool:
    if _is_emoji(after):
        return _is_emoji(before) or _is_selector(before) or ord(before) in _EMOJI_TAGS
    return unicodedata.category(before)[0] in _OF_WORDS and unicodedata.category(after)[0] in _OF_WORDS


def _is_emoji(letter: str) -> bool:
    return unicodedata.category(letter) in ("So", "Sk", "Sm") or ord(letter) in _EMOJI


def _is_selector(letter: str) -> bool:
    return any(ord(letter) in one for one in _SELECTORS)


def _is_seen(letter: str) -> bool:
    category = unicodedata.category(letter)
    return (category[0] in "LNPS" or ord(letter) in _EMOJI) and letter not in _BLANK
