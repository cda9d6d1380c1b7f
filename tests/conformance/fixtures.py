"""The fixtures as Python sees them. docs/howto/write_a_client.md explains them."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "fixtures"


def read(name: str) -> Any:
    """Read one file of the fixtures."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def scripts(side: str) -> list[str]:
    """Return the names of the scripts that a side takes part in: `client` or `gateway`."""
    names = sorted(path.stem for path in (FOLDER / "scripts").glob("*.json"))
    return [name for name in names if side in read(f"scripts/{name}")["sides"]]


def misses(frame: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Return the fields in which a message is not as a script wants it. It may have others."""
    return [f"{key}: {frame.get(key)!r}, not {value!r}" for key, value in wanted.items() if frame.get(key) != value]
