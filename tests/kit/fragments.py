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


def note(name: str, type_: str = "note.written", *, root: str = "user") -> dict[str, Any]:
    """Return a fragment with one event, `user.{userId}.note.{noteId}`."""
    channel = {
        "address": f"{root}.{{{root}Id}}.note.{{noteId}}",
        "messages": {type_: {"name": type_, "payload": {"type": "object", "properties": {"text": {"type": "string"}}}}},
    }
    return document(name, notes=channel)


def with_root(name: str, kind: str, type_: str = "note.written") -> dict[str, Any]:
    """Return a fragment with a root of its own and one event there."""
    found = note(name, type_, root=kind)
    found["x-beaconfire"]["roots"] = {kind: {}}
    return found
