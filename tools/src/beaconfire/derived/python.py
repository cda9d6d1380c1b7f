"""Write the events of a catalogue as Python types: a `TypedDict` for each payload and message.

They describe what `json.loads` gives, so they cost nothing when a program runs, and need no package besides `typing`.
"""

import keyword
from collections.abc import Iterable, Sequence

from beaconfire.derived.payload_shapes import payload_shapes
from beaconfire.derived.shapes import Choice, Declaration, ListOf, Literals, Named, Primitive, Record, Shape, parts
from beaconfire.derived.words import Names, plain_text
from beaconfire_kit.catalogue.fragment import EventType
from beaconfire_kit.catalogue.messages import metadata_schema

HEAD = '''\
"""The events of the catalogue. Written by `beaconfire catalogue types --lang python`. Do not edit.

    event: AnyEvent = json.loads(body)
    if event["type"] == …:  # a type checker now knows the payload

An object may have more keys than its type says: a later version of the catalogue may add some.
"""

from typing import Any, Literal, Never, NotRequired, TypeAlias, TypedDict
'''
METADATA = "EventMetadata"
_TYPING = ("Any", "Literal", "Never", "NotRequired", "TypeAlias", "TypedDict")
_BUILTIN = (*_TYPING, "None", "bool", "dict", "float", "int", "list", "str")
_RESERVED = ("AnyEvent", *_BUILTIN)
_PRIMITIVES = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "null": "None",
    "anything": "Any",
    "nothing": "Never",
}


def python(types: Sequence[EventType]) -> str:
    """Return the whole module: a type for each payload and message, and `AnyEvent`, the union of the messages."""
    metadata = {**metadata_schema(), "description": "The user and service that caused the event, and when."}
    found = payload_shapes(types, reserved=_RESERVED, more={METADATA: metadata})
    writer = _Writer(found.declarations)
    written = [writer.declaration(one) for one in found.declarations]
    names = Names(one.name for one in found.declarations)
    messages = [(names.claim(f"{payload}Event"), event, payload) for event, payload in found.messages]
    written += [writer.message(name, event, payload) for name, event, payload in messages]
    union = "\n    | ".join(name for name, _, _ in messages)
    written.append(f"AnyEvent: TypeAlias = (\n    {union}\n)\n" if messages else "AnyEvent: TypeAlias = Never\n")
    return HEAD + "".join(f"\n\n{one}" for one in written)


class _Writer:
    """Writes the declarations, in order."""

    def __init__(self, declarations: Iterable[Declaration]) -> None:
        self._names = {one.name for one in declarations}
        self._classes: set[str] = set()
        """What is declared already and may stand in an expression. Everything else must be quoted."""

    def message(self, name: str, event: EventType, payload: str) -> str:
        rows = {
            "id": "str",
            "type": f"Literal[{_literal(event.name)}]",
            "version": f"Literal[{event.version}]",
            "payload": self._annotation(Named(payload)),
            "metadata": METADATA,
        }
        return f"class {name}(TypedDict):\n" + "".join(f"    {key}: {type_}\n" for key, type_ in rows.items())

    def declaration(self, one: Declaration) -> str:
        comment = _comment(one.description, "")
        if not (isinstance(one.shape, Record) and one.shape.members):
            type_ = self._annotation(one.shape)
            if type_ not in ("None", _quoted(_type(one.shape))):  # `None | None` is no expression
                self._classes.add(one.name)
            return f"{comment}{one.name}: TypeAlias = {type_}\n"
        members = one.shape.members
        rows = [(member.name, self._annotation(member.shape, member.is_required)) for member in members]
        self._classes.add(one.name)
        if not all(self._fits_a_class(name) for name, _ in rows):
            fields = "".join(f"        {_literal(name)}: {type_},\n" for name, type_ in rows)
            return f"{comment}{one.name} = TypedDict(\n    {_literal(one.name)},\n    {{\n{fields}    }},\n)\n"
        comments = (_comment(member.description, "    ") for member in members)
        body = "".join(f"{note}    {name}: {type_}\n" for note, (name, type_) in zip(comments, rows, strict=True))
        return f"{comment}class {one.name}(TypedDict):\n{body}"

    def _annotation(self, shape: Shape, is_required: bool = True) -> str:
        type_ = _type(shape) if is_required else f"NotRequired[{_type(shape)}]"
        return type_ if _named(shape) <= self._classes else _quoted(type_)

    def _fits_a_class(self, name: str) -> bool:
        """Return whether a class may have this attribute, and its annotations still mean what they mean outside."""
        is_name = name.isidentifier() and name.isascii() and not keyword.iskeyword(name) and not name.startswith("__")
        return is_name and name not in _BUILTIN and name not in self._names


def _named(shape: Shape) -> set[str]:
    """Return the names in a shape."""
    return {shape.name} if isinstance(shape, Named) else {name for one in parts(shape) for name in _named(one)}


def _type(shape: Shape) -> str:
    match shape:
        case Primitive(name):
            return _PRIMITIVES[name]
        case Literals((None,)):
            return "None"
        case Literals(values):
            return f"Literal[{', '.join(map(_literal, values))}]"
        case Named(name):
            return name
        case Choice(options):
            return " | ".join(dict.fromkeys(map(_type, options)))
        case ListOf():
            types = [one for one in parts(shape) if one != Primitive("nothing")]
            return f"list[{' | '.join(dict.fromkeys(map(_type, types))) or 'Never'}]"
        case Record(_, others):
            return f"dict[str, {_type(others) if others else 'Any'}]"


def _quoted(type_: str) -> str:
    return repr(type_) if '"' in type_ or "\\" in type_ else f'"{type_}"'


def _comment(text: str, indent: str) -> str:
    return "".join(f"{indent}# {line}".rstrip() + "\n" for line in plain_text(text).splitlines())


def _literal(value: str | int | bool | None) -> str:
    return ascii(value)
