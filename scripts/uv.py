"""Find uv, which builds wheels and reads the lock file."""

import os
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]


def uv() -> str:
    """Return the path of uv: the one that started us, the machine's, or the copy that `make setup` made."""
    return os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
