"""Read files of members: CSV, JSON, or JSON Lines. Each member keeps its line, for errors that name it.

    root,user,role                                  root,issuer,sub,role
    workspace:w1,acme-42,owner                      workspace:w1,acme,42,owner

The role `none` (null in JSON) removes the member. JSON has the same names: `{"root", "user", "role"}`.
"""

import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from beaconfire_kit.backend import MemberChange
from beaconfire_kit.web import describe

_NAMES = {"user": "userId", "user_id": "userId", "userId": "userId", "root": "root", "role": "role"}
NAMES: Mapping[str, str] = {**_NAMES, "issuer": "issuer", "sub": "sub"}
"""The columns of a file, and the fields of a change."""
FORMATS = {".csv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl"}
REMOVED = "none"


class InvalidMembers(Exception):
    """The file cannot be read as members. The text names the file, the line and what is wrong."""


@dataclass(frozen=True, slots=True)
class Line:
    """A member of a file: the change, or what is wrong with it."""

    number: int
    change: Mapping[str, Any] | None
    problem: str = ""


def read(path: Path, form: str | None) -> list[Line]:
    """Read a file, or the standard input for `-`. Raises InvalidMembers if it is not such a file at all."""
    form = form or ("csv" if str(path) == "-" else FORMATS.get(path.suffix.lower()))
    if form is None:
        raise InvalidMembers(f"{path}: its format is not known by its name. Give --format csv, json or jsonl")
    try:
        content = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise InvalidMembers(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidMembers(f"{path}:{line}: this is not UTF-8. Save the file as UTF-8") from None
    readers = {"csv": _csv, "json": _json, "jsonl": _json_lines}
    return [_line(number, fields) for number, fields in readers[form](str(path), text)]


def _csv(path: str, text: str) -> Iterator[tuple[int, Any]]:
    first, _, _ = text.partition("\n")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=";" if ";" in first else ",", strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if unknown := [name for name in header if name not in NAMES] or not header:
            named = f"{unknown[0]!r} is no column" if isinstance(unknown, list) else "the file is empty"
            raise InvalidMembers(
                f"{path}:1: {named}. The first line names the columns: root,user,role or root,issuer,sub,role"
            )
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                yield reader.line_num, f"{len(row)} columns instead of {len(header)}"
                continue
            cells = {name: cell.strip() for name, cell in zip(header, row, strict=True)}
            if cells.get("role") == REMOVED:
                yield reader.line_num, {**_filled(cells), "role": None}
            else:
                yield reader.line_num, _filled(cells)
    except csv.Error as error:
        raise InvalidMembers(f"{path}:{reader.line_num}: {error}") from None


def _filled(cells: Mapping[str, str]) -> dict[str, str]:
    return {name: cell for name, cell in cells.items() if cell}


def _json(path: str, text: str) -> Iterator[tuple[int, Any]]:
    """Read the members of a list one after the other, to know the line of each."""
    decoder, at, line, seen = json.JSONDecoder(), _skip(text, 0), 1, 0

    def wrong(where: int, why: str) -> InvalidMembers:
        return InvalidMembers(f"{path}:{text.count(chr(10), 0, where) + 1}: {why}")

    if not text.startswith("[", at):
        raise wrong(at, "expected a JSON list of members, [{…}, …]")
    at = _skip(text, at + 1)
    while not text.startswith("]", at):
        try:
            fields, end = decoder.raw_decode(text, at)
        except ValueError as error:
            raise wrong(at, f"not JSON: {error}") from None
        line, seen = line + text.count("\n", seen, at), at
        yield line, fields
        at = _skip(text, end)
        if text.startswith(",", at):
            at = _skip(text, at + 1)
            if text.startswith("]", at):
                raise wrong(at, "expected another member after the comma")
        elif not text.startswith("]", at):
            raise wrong(at, "expected , or ] after a member")
    if (rest := _skip(text, at + 1)) < len(text):
        raise wrong(rest, "expected nothing after the list")


def _skip(text: str, at: int) -> int:
    """Return where the next character follows that is no white space."""
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _json_lines(_path: str, text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                yield number, f"not JSON: {error}"


def _line(number: int, fields: Any) -> Line:
    """Check a member as auth does, so that most mistakes are found before anything is sent."""
    if isinstance(fields, str):
        return Line(number, None, fields)
    if not isinstance(fields, dict):
        return Line(number, None, "expected an object with root, user and role")
    if unknown := [name for name in fields if name not in NAMES]:
        return Line(number, None, f"{unknown[0]!r} is no field: expected root, user (or issuer and sub) and role")
    change = {NAMES[name]: value for name, value in fields.items()}
    if change.get("role") == REMOVED:
        change["role"] = None
    elif "role" not in change:
        return Line(number, None, f"role: missing. Write owner, editor or viewer, or {REMOVED} to remove the member")
    try:
        MemberChange.model_validate(change, strict=False, by_name=False, by_alias=True)
    except ValidationError as error:
        return Line(number, None, describe(error))
    return Line(number, change)
