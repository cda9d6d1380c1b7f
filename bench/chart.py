"""Draw the results as an SVG chart: deliveries a second, of Beaconfire and of the peers."""

from collections.abc import Sequence
from html import escape

from bench.figures import OURS, PEERS, Results, number
from bench.scenarios import Scenario

_COLORS = {OURS: "#c2410c", **dict(zip(PEERS, ("#64748b", "#0f766e", "#7c3aed", "#a8a29e"), strict=True))}
_WIDTH, _LABEL, _BAR, _GAP = 760, 110, 18, 34
_ROOM = _WIDTH - _LABEL - 110  # for the longest bar and the figure after it


def draw(scenarios: Sequence[Scenario], results: Results) -> str:
    """Return the chart: a group of bars for each scenario that counts deliveries. Each group has its own scale."""
    parts: list[str] = []
    y = 16
    for row in (row for scenario in scenarios for row in scenario.rows if row.unit == "deliveries/s"):
        found = [(one, value) for one in (OURS, *PEERS) if (value := results.value(row.id, one)) is not None]
        if not found:
            continue
        parts.append(_text(8, y + 12, row.title, "bold"))
        y += 22
        most = max(value for _, value in found)
        for subject, value in found:
            length = max(1, round(_ROOM * value / most))
            parts.append(_text(8, y + 13, subject))
            parts.append(f'<rect x="{_LABEL}" y="{y}" width="{length}" height="{_BAR - 2}" fill="{_COLORS[subject]}"/>')
            parts.append(_text(_LABEL + length + 6, y + 13, number(value)))
            y += _BAR
        y += _GAP - _BAR
    style = "font:13px system-ui,sans-serif"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" style="{style}" role="img">\n'
        "<title>Deliveries a second at a mean latency of 80 ms, server on one core</title>\n"
        f'<rect width="{_WIDTH}" height="{y}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _text(x: int, y: int, text: str, weight: str = "normal") -> str:
    return f'<text x="{x}" y="{y}" font-weight="{weight}" fill="#1c1917">{escape(text)}</text>'
