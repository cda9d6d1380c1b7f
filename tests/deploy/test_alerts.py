"""deploy/alerts: Prometheus rules that name only metrics the services export."""

import re
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import REGISTRY

import beaconfire_auth.app  # noqa: F401
import beaconfire_gateway.process.app  # noqa: F401
import beaconfire_publisher.app
import beaconfire_publisher.worker  # noqa: F401  (each module declares its metrics when it is imported)

ALERTS = Path(__file__).parents[2] / "deploy" / "alerts"
WORDS = {"max", "min", "sum", "avg", "by", "without", "rate", "increase", "for", "and", "or", "unless", "e3"}
OF_PROMETHEUS = {"instance", "job"}


def rules() -> list[dict[str, Any]]:
    files = sorted(ALERTS.glob("*.yml"))
    assert files
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def declared() -> dict[str, set[str]]:
    """The labels of every metric, by the names of its series."""
    found: dict[str, set[str]] = {}
    for collector, names in REGISTRY._collector_to_names.items():
        for name in names:
            found[name] = set(getattr(collector, "_labelnames", ()))
    return found


def test_every_metric_and_label_of_an_alert_exists() -> None:
    """An alert on a renamed metric would never fire."""
    known = declared()
    for rule in rules():
        expression = re.sub(r"\[\w+\]", "", rule["expr"])
        labels = {
            label
            for group in re.findall(r"\b(?:by|without) \(([^)]*)\)", expression)
            for label in re.split(r",\s*", group)
        }
        expression = re.sub(r"\b(?:by|without) \([^)]*\)", "", expression)
        names = {name for name in re.findall(r"\b[a-z]\w+\b", expression) if name not in WORDS}

        assert names, rule["alert"]
        assert names <= known.keys(), rule["alert"]
        for name in names:
            assert labels <= known[name] | OF_PROMETHEUS, rule["alert"]


def test_every_alert_has_a_unique_name_a_severity_and_a_sentence() -> None:
    names = [rule["alert"] for rule in rules()]

    assert len(set(names)) == len(names)
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"].endswith((".", ")."))
