"""The JSON Schema of AsyncAPI 3.0 documents."""

import json
from pathlib import Path

# Of the AsyncAPI Initiative, Apache-2.0, as in its npm package @asyncapi/specs 6.11.1.
SPECIFICATION = json.loads((Path(__file__).parent / "asyncapi-3.0.0.json").read_text())
