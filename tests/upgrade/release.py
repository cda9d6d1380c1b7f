"""The release before this version, as `make record` left it in this folder."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "before"
WHEELS = FOLDER / "wheels"
COMMIT: str = json.loads((FOLDER / "release.json").read_text())["commit"]


def path(name: str) -> Path:
    """Return the path of one of its documents."""
    return FOLDER / "documents" / name


def document(name: str) -> Any:
    """Read one of its documents in JSON."""
    return json.loads(path(name).read_text())
