"""Write `docs/reference/events.md`: every event with its subject, rooms, fields and an example."""

import inspect
import json
import re
from typing import Any

from pydantic.alias_generators import to_camel

from beaconfire_kit.broker import EPHEMERAL_PREFIX
from beaconfire_kit.event import Event, events
from scripts.derived.examples import example
from scripts.derived.schema import payload_schema

HEAD = """\
# Events

Written by `make generate` from `shared/src/beaconfire_kit/events/`. Do not edit.

Every event is one JSON message, `{"id", "type", "version", "payload", "metadata"}` (see "Publishing" in PROTOCOL.md).
It is published on its subject, and reaches exactly the rooms that the subject names.

A field marked *optional* may be missing. An *id* matches `[A-Za-z0-9_-]{1,64}`. A *time* is ISO 8601 with a UTC offset.

The same information is available as JSON Schema (`schemas/events.json`), as AsyncAPI 3.0 (`asyncapi.json`) and as
TypeScript types (`clients/js/src/events.d.ts`).

"""


def reference() -> str:
    """Return the whole page: a table of all events, then one section each, in the order of their declaration."""
    rows = "".join(f"| [`{type_}`](#{_anchor(type_)}) | `{subject(cls)}` |\n" for type_, cls in events().items())
    sections = "\n".join(_section(cls) for cls in events().values())
    return f"{HEAD}| type | subject |\n|---|---|\n{rows}\n{sections}"


def subject(cls: type[Event]) -> str:
    """Return the subject as a publisher writes it, with the payload's names of the ids."""
    path = re.sub(r"\{([a-z_]+)\}", lambda field: f"{{{to_camel(field[1])}}}", cls.subject)
    return EPHEMERAL_PREFIX + path if cls.ephemeral else path


def rooms(cls: type[Event]) -> list[str]:
    """Return the rooms that the event reaches, outermost first."""
    tokens = subject(cls).removeprefix(EPHEMERAL_PREFIX).split(".")
    return [f"{kind}:{id_}" for kind, id_ in zip(tokens[::2], tokens[1::2], strict=False)]


def kind(schema: dict[str, Any]) -> str:
    """Return a field's type in words."""
    options = schema.get("anyOf", [schema])
    return " or ".join(dict.fromkeys(_kind(option) for option in options))


def _section(cls: type[Event]) -> str:
    schema = payload_schema(cls)
    required = schema.get("required", [])
    fields = "".join(
        f"| `{name}` | {kind(field)}{'' if name in required else ', *optional*'} |\n"
        for name, field in schema["properties"].items()
    )
    notes = (
        "This event is not stored and has no offset. A client that is not connected does not receive it.\n\n"
        if cls.ephemeral
        else ""
    )
    body = json.dumps(example(cls), indent=2, ensure_ascii=False)
    return f"""\
## {cls.type}

{inspect.cleandoc(cls.__doc__ or "")}

* version: {cls.version}
* subject: `{subject(cls)}`
* rooms: {", ".join(f"`{room}`" for room in rooms(cls))}

{notes}| payload | |
|---|---|
{fields}
```json
{body}
```
"""


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    match schema.get("type"):
        case "string" if schema.get("format") == "date-time":
            return "time"
        case "string" if "pattern" in schema:
            return "id"
        case "string":
            return f"text of up to {schema['maxLength']:,} characters" if "maxLength" in schema else "text"
        case "number":
            return "number"
        case "integer":
            return f"whole number from {schema['minimum']}" if "minimum" in schema else "whole number"
        case "boolean":
            return "`true` or `false`"
        case "array":
            return f"list of {kind(schema.get('items', {}))}"
        case "null":
            return "`null`"
        case other:
            return str(other or "anything")


def _anchor(title: str) -> str:
    """Return the fragment of a heading's link on GitHub."""
    return title.replace(".", "")
