"""deploy/alerts: Prometheus rules that name only metrics the services export."""

import re

from scripts.derived.all_metrics import all_metrics
from tests.architecture.sources import ROOT
from tests.deploy.alert_rules import rules

WORDS = {"max", "min", "sum", "avg", "by", "without", "rate", "increase", "for", "and", "or", "unless", "e3"}
OF_PROMETHEUS = {"instance", "job"}
PAGE = "docs/howto/alerts.md"


def declared() -> dict[str, set[str]]:
    """The labels of every metric, by the names of its series."""
    return {name: set(one.labels) for one in all_metrics() for name in one.series}


def test_every_metric_and_label_of_an_alert_exists() -> None:
    """An alert on a renamed metric would never fire."""
    known = declared() | {"up": set()}
    for rule in rules():
        expression = re.sub(r"\[\w+\]", "", rule["expr"])
        labels = {
            label
            for group in re.findall(r"\b(?:by|without) \(([^)]*)\)", expression)
            for label in re.split(r",\s*", group)
        }
        labels |= set(re.findall(r"(\w+)=~?\"", expression)) - {"le"}
        expression = re.sub(r"\b(?:by|without) \([^)]*\)|\{[^}]*\}", "", expression)
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


def test_every_alert_has_a_section_that_says_what_to_run_or_read() -> None:
    """The annotation of an alert leads to its section."""
    sections = dict(re.findall(r"^## (\w+)\n\n(.*?)(?=^## |\Z)", (ROOT / PAGE).read_text(), re.MULTILINE | re.DOTALL))

    assert list(sections.keys() ^ {rule["alert"] for rule in rules()}) == []
    for rule in rules():
        assert rule["annotations"]["runbook"] == f"{PAGE}#{rule['alert'].lower()}"
        assert re.search(r"`[^`]+`|\]\(", sections[rule["alert"]]) or "report" in sections[rule["alert"]]
