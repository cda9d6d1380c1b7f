"""Cursors as tests read them."""

from beaconfire_kit.cursor import Cursor


def cursor_of(text: str) -> Cursor:
    """Parse the cursor of a frame or a header. Fails the test if it is not one."""
    cursor = Cursor.parse(text)
    assert cursor is not None, f"not a cursor: {text!r}"
    return cursor
