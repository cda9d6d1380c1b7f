"""Read fragments of the catalogue from YAML and JSON files, with the line of each part for errors.

YAML is read by the core schema of YAML 1.2, as AsyncAPI asks for: `yes`, `on` and `2026-01-01` are texts. A key that is
there twice is refused, and so are aliases, because a few of them can stand for gigabytes.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from beaconfire_kit.catalogue.pointers import below

MAX_BYTES = 1024 * 1024
STDIN = Path("-")
_PLAIN: Mapping[str, tuple[str, Sequence[str]]] = {
    "tag:yaml.org,2002:null": (r"(?:~|null|Null|NULL|)", ["~", "n", "N", ""]),
    "tag:yaml.org,2002:bool": (r"(?:true|True|TRUE|false|False|FALSE)", "tTfF"),
    "tag:yaml.org,2002:int": (r"[-+]?[0-9]+", "-+0123456789"),
    "tag:yaml.org,2002:float": (r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
}
"""What a plain text stands for: the pattern of each tag, and the characters with which it begins."""


class InvalidFile(ValueError):
    """A file cannot be read. The text begins with the file, and the line if there is one."""


def load(path: Path, *, begins: str = "asyncapi: 3.0.0") -> tuple[Mapping[str, Any], Mapping[str, int]]:
    """Return a document, and the line of each part by its JSON Pointer. `-` is the standard input. Raises InvalidFile.

    A file whose first character is `{` is JSON, and any other is YAML. `begins` tells the user how a document begins.
    """
    name = "standard input" if path == STDIN else str(path)
    text = _text(path, name)
    if text.lstrip().startswith("{"):
        document: Any = _json(name, text)
        _, lines = _yaml(name, text.replace("\t", " "))  # JSON has tabs only between tokens
    else:
        document, lines = _yaml(name, text)
    if not isinstance(document, dict):
        raise InvalidFile(f"{name}: is no document: it must begin with `{begins}`")
    try:
        json.dumps(document, allow_nan=False)
    except ValueError:
        raise InvalidFile(f"{name}: contains a number that is too large") from None
    except RecursionError:
        raise InvalidFile(f"{name}: is nested too deeply") from None
    return document, lines


def _text(path: Path, name: str) -> str:
    try:
        content = sys.stdin.buffer.read(MAX_BYTES + 1) if path == STDIN else _start_of(path)
        if len(content) > MAX_BYTES:
            raise InvalidFile(f"{name}: is larger than {MAX_BYTES:,} bytes")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InvalidFile(f"{name}:{line}: is not UTF-8") from None
    except OSError as error:
        raise InvalidFile(f"{name}: cannot be read: {error.strerror}") from None


def _start_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _json(name: str, text: str) -> Any:
    def refuse(constant: str) -> Any:
        raise InvalidFile(f"{name}: {constant} is not JSON. Write a number or null")

    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise InvalidFile(f"{name}:{error.lineno}: not JSON: {error.msg} in column {error.colno}") from None
    except RecursionError:
        raise InvalidFile(f"{name}: is nested too deeply") from None
    except InvalidFile:
        raise
    except ValueError:
        raise InvalidFile(f"{name}: contains a number that is too large") from None


def _yaml(name: str, text: str) -> tuple[Any, Mapping[str, int]]:
    """Return a document and the line of each part. Raises InvalidFile, also for a key that is there twice."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        lines: dict[str, int] = {}
        for place, line, key in _walk(node, ""):
            if place in lines:
                raise InvalidFile(f"{name}:{line}: the key {key!r} is there twice, first in line {lines[place]}")
            lines[place] = line
        return loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(name, error) from None
    except RecursionError:
        raise InvalidFile(f"{name}: is nested too deeply") from None
    except InvalidFile:
        raise
    except (yaml.YAMLError, ValueError, KeyError) as error:
        raise InvalidFile(f"{name}: not YAML: {' '.join(str(error).split())[:200]}") from None


def _walk(node: yaml.Node, place: str) -> Iterator[tuple[str, int, str]]:
    """Yield every part of a document: its place, its line, and its key."""
    if not place:
        yield "", node.start_mark.line + 1, ""
    if isinstance(node, yaml.SequenceNode):
        for index, one in enumerate(node.value):
            at = below(place, index)
            yield at, one.start_mark.line + 1, str(index)
            yield from _walk(one, at)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            at = below(place, str(key.value))
            yield at, key.start_mark.line + 1, str(key.value)
            yield from _walk(value, at)


def _not_yaml(name: str, error: yaml.MarkedYAMLError) -> InvalidFile:
    mark = error.problem_mark or error.context_mark
    what = " ".join(part for part in (error.context, error.problem) if part)
    return InvalidFile(f"{name}:{mark.line + 1}: not YAML: {what}" if mark else f"{name}: not YAML: {what}")


class _Loader(yaml.SafeLoader):
    """Makes plain values only, by the core schema of YAML 1.2, and refuses aliases."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML's own way to replace them)

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="an alias (`*name`). Write the text out", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        if not isinstance(node, yaml.MappingNode):
            raise yaml.MarkedYAMLError(problem="`!!map` before what is none", problem_mark=node.start_mark)
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key that is no text", problem_mark=key.start_mark)
        return {str(key.value): self.construct_object(value, deep=True) for key, value in node.value}

    def construct_yaml_int(self, node: Any) -> Any:
        return int(node.value)


# A document is JSON. It has no dates, sets or bytes, not even by their tags.
_VALUES = {"null", "bool", "int", "float", "str", "seq", "map"}
_Loader.yaml_constructors = {
    tag: make
    for tag, make in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or str(tag).rpartition(":")[2] in _VALUES
}
for _tag, (_pattern, _first) in _PLAIN.items():
    _Loader.add_implicit_resolver(_tag, re.compile(f"^{_pattern}$"), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_mapping)
