"""Small fragments of a catalogue for tests."""

from typing import Any


def document(title: str) -> dict[str, Any]:
    """Return a document without any types."""
    return {"asyncapi": "3.0.0", "info": {"title": title, "version": "1"}}
