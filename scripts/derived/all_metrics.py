"""Find every metric of the services: those that their modules declare, and those about a gateway's workers.

Each module declares its metrics at its top, as `beaconfire_kit.metrics` says. So they are read from the source.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from beaconfire_gateway.process import worker_operations
from beaconfire_gateway.process.supervisor import Board

ROOT = Path(__file__).parents[2]
PREFIX = "beaconfire_"
KINDS = {"metrics.Counter": "counter", "metrics.Gauge": "gauge", "metrics.Histogram": "histogram"}


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as its module declares it."""

    name: str
    """As queries write it: a counter's ends with `_total`."""
    kind: str
    labels: tuple[str, ...]
    text: str

    @property
    def part(self) -> str:
        """The part that counts."""
        return self.name.removeprefix(PREFIX).split("_")[0]

    @property
    def series(self) -> tuple[str, ...]:
        """The names of its series."""
        if self.kind == "histogram":
            return tuple(f"{self.name}_{end}" for end in ("bucket", "count", "sum"))
        return (self.name,)


@cache
def all_metrics() -> Sequence[Metric]:
    """Return every metric, sorted by name."""
    sources = [ROOT / "shared" / "src", *(ROOT / "services").glob("*/src")]
    declared = [one for source in sources for path in source.rglob("*.py") for one in _declared_in(path)]
    of_workers = [
        Metric(one.name + ("_total" if one.type == "counter" else ""), one.type, ("worker",), one.documentation)
        for one in worker_operations.about(Board(1), ())
    ]
    return sorted((*declared, *of_workers), key=lambda one: one.name)


def _declared_in(path: Path) -> Iterator[Metric]:
    for node in ast.walk(ast.parse(path.read_text())):
        kind = KINDS.get(ast.unparse(node.func)) if isinstance(node, ast.Call) else None
        if isinstance(node, ast.Call) and kind is not None:
            name, text, *labels = map(ast.literal_eval, node.args)
            yield Metric(name, kind, tuple(labels[0]) if labels else (), text)
