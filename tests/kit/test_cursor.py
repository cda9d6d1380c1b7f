"""The one place that reads and writes `<epoch>:<offset>`."""

import pytest

from beaconfire_kit.cursor import Cursor


@pytest.mark.parametrize("text", ["9f0c3b1a2d4e:812", "e:0", ":7", "e:1:2"])
def test_cursor_is_written_as_it_was_read(text: str) -> None:
    assert str(Cursor.parse(text)) == text


@pytest.mark.parametrize("text", ["", ":", "7", "e", "e:", "e:-1", "e:+1", "e: 1", "e:1.5", "e:0x1", "e:\u0661", "e:²"])
def test_malformed_cursor_is_read_as_none(text: str) -> None:
    """A cursor ends in a colon and ASCII digits."""
    assert Cursor.parse(text) is None


def test_epoch_of_a_cursor_may_contain_a_colon() -> None:
    assert Cursor.parse("a:b:7") == Cursor("a:b", 7)
