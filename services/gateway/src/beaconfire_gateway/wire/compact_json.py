"""Write JSON as gateways send it."""

import json
from typing import Any


def to_json(value: Any) -> bytes:
    """Return compact JSON in UTF-8."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
