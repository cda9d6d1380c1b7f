"""The alert rules of deploy/, as tests read them."""

from pathlib import Path
from typing import Any

import yaml

ALERTS = Path(__file__).parents[2] / "deploy" / "alerts"


def rules() -> list[dict[str, Any]]:
    """Every rule of every file."""
    files = sorted(ALERTS.glob("*.yml"))
    assert files
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]
