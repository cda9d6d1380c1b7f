"""Small fragments of a catalogue for tests."""

from collections.abc import Mapping
from typing import Any


def document(name: str, title: str = "Test", **channels: Mapping[str, Any]) -> dict[str, Any]:
    """Return a fragment of this name. Without channels it declares no types."""
    return {
        "asyncapi": "3.0.0",
        "info": {"title": title, "version": "1"},
        "x-beaconfire": {"fragment": name},
        "channels": dict(channels),
    }


def note(name: str, *types: str, root: str = "user", longest: int = 100) -> dict[str, Any]:
    """Return a fragment with events on `user.{userId}.note.{noteId}`, whose `text` has at most `longest` characters."""

    def payload() -> dict[str, Any]:
        return {"type": "object", "properties": {"text": {"type": "string", "maxLength": longest}}}

    channel = {
        "address": f"{root}.{{{root}Id}}.note.{{noteId}}",
        "messages": {type_: {"name": type_, "payload": payload()} for type_ in types or ("note.written",)},
    }
    return document(name, notes=channel)


def with_root(name: str, kind: str, type_: str = "note.written") -> dict[str, Any]:
    """Return a fragment with a root of its own and one event there."""
    found = note(name, type_, root=kind)
    found["x-beaconfire"]["roots"] = {kind: {}}
    return found
