"""mypy, for tests that check Python which was written for others."""

import subprocess
import sys
from pathlib import Path


def check_python(folder: Path, *names: str) -> None:
    """Check Python files strictly. Fails the test with what mypy says."""
    options = ["--strict", "--config-file=", "--cache-dir", str(folder.parent / "mypy")]
    command = [sys.executable, "-m", "mypy", *options, *names]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
