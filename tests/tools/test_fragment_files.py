"""Fragments are read from YAML and JSON files, and every error names the file and the line."""

from pathlib import Path

import pytest

from beaconfire.fragment_files import InvalidFile, load


def test_a_yaml_file_is_read_with_the_line_of_each_part(tmp_path: Path) -> None:
    path = tmp_path / "logistics.yaml"
    path.write_text("asyncapi: 3.0.0\nchannels:\n  a/b:\n    messages: [x, y]\n")

    document, lines = load(path)

    assert document == {"asyncapi": "3.0.0", "channels": {"a/b": {"messages": ["x", "y"]}}}
    assert (lines[""], lines["/channels/a~1b"], lines["/channels/a~1b/messages/1"]) == (1, 3, 4)


def test_a_json_file_is_read_with_the_line_of_each_part(tmp_path: Path) -> None:
    path = tmp_path / "logistics.json"
    path.write_text('{\n\t"asyncapi": "3.0.0",\n\t"title": "\\ud83d\\ude00",\n\t"n": 1e3\n}')

    document, lines = load(path)

    assert document == {"asyncapi": "3.0.0", "title": "\U0001f600", "n": 1000.0}
    assert lines["/n"] == 4


def test_plain_yaml_texts_mean_what_asyncapi_says(tmp_path: Path) -> None:
    """By the core schema of YAML 1.2, only true, false, null and numbers are no texts."""
    path = tmp_path / "values.yaml"
    path.write_text("values: [yes, on, 2026-01-01, 0x10, ~, null, true, 1, -2, 1.5, 1e3]\nempty:\n1: x\n")

    document, _ = load(path)

    assert document["values"] == ["yes", "on", "2026-01-01", "0x10", None, None, True, 1, -2, 1.5, 1000.0]
    assert (document["empty"], document["1"]) == (None, "x")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", r":3: the key 'a' is there twice, first in line 1"),
        ('{"a": {"b": 1,\n"b": 2}}', r":2: the key 'b' is there twice"),
        ("a: &x [1]\nb: *x\n", r":2: not YAML: an alias"),
        ("a: 1\n b: 2\n", r":2: not YAML: mapping values"),
        ("a: !!python/object:os.system 1\n", r":1: not YAML: could not determine a constructor"),
        ("? [a]\n: 1\n", r":1: not YAML: a key that is no text"),
        ('{"a": NaN}', r"NaN is not JSON"),
        ('{"a": 1e999}', r"too large"),
        ('{"a": 1,\n}', r":2: not JSON"),
        ("- 1\n", r"is no document"),
        ("", r"is no document"),
        ("[" * 10_000, r"nested too deeply"),
        ('{"a":' * 100_000, r"nested too deeply"),
        ("a: " + "x" * 1_100_000, r"larger than"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "broken"
    path.write_text(text)

    with pytest.raises(InvalidFile, match=problem) as refused:
        load(path)

    assert str(refused.value).startswith(str(path))


def test_a_file_that_is_not_utf_8_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"a: 1\nb: \xe9\n")

    with pytest.raises(InvalidFile, match=r":2: is not UTF-8"):
        load(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="No such file"):
        load(tmp_path / "missing.yaml")
