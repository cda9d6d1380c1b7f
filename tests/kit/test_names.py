"""Names of people in any script, without characters that only deceive."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beaconfire_kit.names import MAX_NAME, display_name

ACCEPTED = {
    "Persian": "علی\u200cرضا",
    "Persian, two words": "می\u200cخواهم فارسی",
    "Sinhala": "ශ්\u200dරී ලංකා",
    "Hindi": "क्\u200dष",
    "Hindi, without a ligature": "क्\u200cष",
    "Bengali, joiner before the virama": "র\u200d্য",
    "Malayalam": "ന്\u200d",
    "Tamil": "தமிழ்",
    "Arabic": "محمد عبد الله",
    "Arabic, stretched": "محـــمد",
    "Hebrew": "ז\u05f3בוטינסקי",
    "Chinese, middle dot": "卡尔·马克思",
    "Japanese, variant": "葛\U000e0100城",
    "Japanese, middle dot": "ジョン・スミス",
    "Korean": "김철수",
    "Catalan": "Gal·la",
    "Irish": "Seán Ó Néill-O\u2019Brien",
    "Vietnamese": "Nguyễn Thị Ánh",
    "emoji": "Mira 🔥",
    "family": "👨\u200d👩\u200d👧\u200d👦",
    "profession": "👩🏽\u200d🚀",
    "rainbow": "🏳\ufe0f\u200d🌈",
    "heart on fire": "❤\ufe0f\u200d🔥",
    "head that shakes": "🙂\u200d↔\ufe0f",
    "flag of a country": "🇮🇷",
    "flag of a region": "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "keycap": "1\ufe0f\u20e3",
    "newer than Python": "\U0001fae8",
    "200 characters": "x" * MAX_NAME,
}


@pytest.mark.parametrize("name", ACCEPTED.values(), ids=ACCEPTED)
def test_names_in_any_script_are_kept_in_composed_letters(name: str) -> None:
    kept = display_name(name)

    assert kept == unicodedata.normalize("NFC", name).removesuffix("\u200d")


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("  Ann  ", "Ann"),
        ("Ann\u00a0Lee", "Ann Lee"),
        ("\u202fAnn\u3000Lee\u2007", "Ann Lee"),
        ("Jose\u0301", "José"),
        ("A\u200bn\ufeffn\u2060\u00ad", "Ann"),
        ("\u200eAnn\u200f", "Ann"),
        ("\u200dAnn\u200c", "Ann"),
        ("Ann\u200c Lee", "Ann Lee"),
        ("علی\u200c\u200cرضا", "علی\u200cرضا"),
        ("Ann\u200d!", "Ann!"),
    ],
)
def test_spaces_composition_and_invisible_characters_make_no_different_name(typed: str, kept: str) -> None:
    assert display_name(typed) == kept


REFUSED = {
    "nothing": "",
    "spaces": " \u00a0\u3000",
    "joiners": "\u200c\u200d",
    "nothing to see": "\u3164",
    "braille without dots": "\u2800\u2800",
    "a mark alone": "\u0301",
    "line end": "a\nb",
    "tab": "a\tb",
    "NUL": "a\0b",
    "delete": "a\x7fb",
    "next line": "a\x85b",
    "line separator": "a\u2028b",
    "paragraph separator": "a\u2029b",
    "override, right to left": "a\u202eb",
    "override, left to right": "a\u202db",
    "embedding": "a\u202ab\u202c",
    "isolate": "a\u2066b\u2069",
    "high surrogate": "a\ud83d",
    "low surrogate": "\udc00b",
    "private": "\ue000",
    "noncharacter": "\ufdd0",
    "not assigned": "\u0378",
    "annotation": "a\ufff9b",
    "invisible plus": "a\u2064b",
    "language tag": "a\U000e0001b",
    "tag letters without a flag": "a\U000e0067\U000e0062",
    "too long": "x" * (MAX_NAME + 1),
}


@pytest.mark.parametrize("name", REFUSED.values(), ids=REFUSED)
def test_deceptive_names_are_refused_with_a_sentence_for_their_author(name: str) -> None:
    with pytest.raises(
        ValueError, match=r"^a name (cannot contain U\+[0-9A-F]{4,6} \(.+\)|has 1 to 200 characters)"
    ) as said:
        display_name(name)

    assert str(said.value).isprintable()


@given(st.text(st.characters(exclude_categories=[]), max_size=30))
def test_any_text_is_refused_or_is_a_name_that_stays_the_same(text: str) -> None:
    try:
        name = display_name(text)
    except ValueError:
        return

    assert display_name(name) == name
    assert len(name.encode()) <= 4 * MAX_NAME
