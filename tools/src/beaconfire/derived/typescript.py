"""Write the events of a catalogue as TypeScript declarations, for `import type` in browsers and Node."""

import json
import re
from collections.abc import Sequence

from beaconfire.derived.payload_shapes import payload_shapes
from beaconfire.derived.shapes import Choice, Declaration, ListOf, Literals, Member, Named, Primitive, Record, Shape
from beaconfire.derived.words import plain_text
from beaconfire_kit.catalogue.fragment import EventType
from beaconfire_kit.catalogue.messages import metadata_schema

HEAD = """\
// Written by `beaconfire catalogue types --lang ts`. Do not edit.

"""
ENVELOPE = """\
/** One event as in an `event` frame, as the publisher sent it. It always has an id. */
export interface EventMessage<Type extends string, Version extends number, Payload> {
  readonly id: string;
  readonly type: Type;
  readonly version: Version;
  readonly payload: Payload;
  readonly metadata: EventMetadata;
}

"""
METADATA = "EventMetadata"
_OF_THE_LANGUAGE = (
    "any",
    "bigint",
    "boolean",
    "never",
    "null",
    "number",
    "object",
    "string",
    "symbol",
    "undefined",
    "void",
)
_RESERVED = ("AnyEvent", "EventMessage", "EventType", "Events", "unknown", *_OF_THE_LANGUAGE)
_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_PRIMITIVES = {"integer": "number", "anything": "unknown", "nothing": "never"}


def typescript(types: Sequence[EventType], *, head: str = HEAD) -> str:
    """Return the whole file: a type for each payload, `Events` (the messages by type), and `AnyEvent`, their union."""
    metadata = {**metadata_schema(), "description": "The user and service that caused the event, and when."}
    found = payload_shapes(types, reserved=_RESERVED, more={METADATA: metadata})
    messages: dict[str, list[str]] = {}
    for event, payload in found.messages:
        messages.setdefault(event.name, []).append(
            f"EventMessage<{json.dumps(event.name)}, {event.version}, {payload}>"
        )
    rows = "".join(f"  readonly {_key(name)}: {' | '.join(versions)};\n" for name, versions in messages.items())
    events = f"/** Every event of the catalogue, by its type. */\nexport interface Events {{\n{rows}}}\n"
    ends = "export type EventType = keyof Events;\nexport type AnyEvent = Events[EventType];\n"
    return head + ENVELOPE + "\n".join([*map(_declaration, found.declarations), events, ends])


def _declaration(one: Declaration) -> str:
    comment = _comment(one.description, "")
    if isinstance(one.shape, Record) and (one.shape.members or one.shape.others is None):
        return f"{comment}export interface {one.name} {{\n{_body(one.shape)}}}\n"
    return f"{comment}export type {one.name} = {_type(one.shape)};\n"


def _body(record: Record) -> str:
    text = "".join(map(_member, record.members))
    if record.others is None:
        return text if record.members else "  readonly [key: string]: unknown;\n"
    kinds = [_type(one.shape) for one in record.members] + [_type(record.others)]
    if any(not one.is_required for one in record.members):
        kinds.append("undefined")
    return f"{text}  readonly [key: string]: {' | '.join(dict.fromkeys(kinds))};\n"


def _member(one: Member) -> str:
    optional = "" if one.is_required else "?"
    return f"{_comment(one.description, '  ')}  readonly {_key(one.name)}{optional}: {_type(one.shape)};\n"


def _type(shape: Shape) -> str:
    match shape:
        case Primitive(name):
            return _PRIMITIVES.get(name, name)
        case Literals(values):
            return " | ".join(json.dumps(value) for value in values)
        case Named(name):
            return name
        case Choice(options):
            return " | ".join(map(_type, options))
        case ListOf(item, ()):
            return f"readonly {_enclosed(_type(item))}[]"
        case ListOf(item, first, required):
            beginning = [f"{_enclosed(_type(one))}{'' if at < required else '?'}" for at, one in enumerate(first)]
            rest = [] if item == Primitive("nothing") else [f"...{_enclosed(_type(item))}[]"]
            return f"readonly [{', '.join([*beginning, *rest])}]"
        case Record():
            # `Record<string, …>` may not contain the type that is being declared. An index signature may.
            return "{ " + _body(shape).strip().replace("\n ", "") + " }"


def _enclosed(type_: str) -> str:
    return f"({type_})" if "|" in type_ or type_.startswith("readonly ") else type_


def _key(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) else json.dumps(name)


def _comment(text: str, indent: str) -> str:
    lines = plain_text(text).replace("*/", "*\\/").splitlines()
    if not lines:
        return ""
    if len(lines) == 1:
        return f"{indent}/** {lines[0]} */\n"
    return f"{indent}/**\n" + "".join(f"{indent} * {line}".rstrip() + "\n" for line in lines) + f"{indent} */\n"
