"""Write `deploy/grafana/beaconfire.json`: a dashboard for Grafana 9 or newer, of the services' metrics.

Each row answers one question of an operator, from what users notice down to the causes.
"""

import json
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 8, 8
"""Of a panel. Grafana's grid has 24 columns."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph: its title, the unit (Grafana's name), what it shows, and the queries by legend."""

    title: str
    unit: str
    text: str
    queries: dict[str, str]


def _rate(metric: str, by: str = "") -> str:
    rate = f"rate({metric}[$__rate_interval])"
    return f"sum by ({by}) ({rate})" if by else f"sum({rate})"


def _quantiles(metric: str) -> dict[str, str]:
    return {
        f"p{percent}": f"histogram_quantile({percent / 100}, sum by (le) (rate({metric}_bucket[$__rate_interval])))"
        for percent in (50, 99)
    }


ROWS: dict[str, list[Panel]] = {
    "Do users get their events?": [
        Panel(
            "Sessions",
            "short",
            "Connected clients by dialect, over all gateways.",
            {"{{dialect}} over {{transport}}": "sum by (dialect, transport) (beaconfire_gateway_sessions)"},
        ),
        Panel(
            "Events written to clients",
            "ops",
            "Event frames a second.",
            {"frames": _rate("beaconfire_gateway_event_frames_sent_total")},
        ),
        Panel(
            "Clients told to reload",
            "ops",
            "`resync` messages a second, by reason. There should be none.",
            {"{{reason}}": _rate("beaconfire_gateway_resyncs_total", "reason")},
        ),
        Panel(
            "Attempts to connect",
            "ops",
            "Attempts a second by outcome.",
            {"{{outcome}}": _rate("beaconfire_gateway_connects_total", "outcome")},
        ),
        Panel(
            "Ended sessions",
            "ops",
            "Sessions that ended, a second, by close code.",
            {"{{code}}": _rate("beaconfire_gateway_sessions_closed_total", "code")},
        ),
        Panel(
            "Time to reconnect",
            "s",
            "From losing a connection until the client connected again. Laptops that slept are among them.",
            _quantiles("beaconfire_gateway_reconnect_duration_seconds"),
        ),
        Panel(
            "Slow clients",
            "ops",
            "Times a second that a client's socket was full, and that a client was silent for too long.",
            {
                "full": _rate("beaconfire_gateway_slow_sessions_total"),
                "silent": _rate("beaconfire_gateway_sessions_timed_out_total"),
            },
        ),
    ],
    "How long does an event take?": [
        Panel(
            "Commit to stored",
            "s",
            "From a change in a service's database until the broker has stored its event.",
            _quantiles("beaconfire_outbox_store_latency_seconds"),
        ),
        Panel(
            "Stored to heard",
            "s",
            "From the broker's storing until the gateway hears the event.",
            _quantiles("beaconfire_gateway_hear_latency_seconds"),
        ),
        Panel(
            "Heard to written",
            "s",
            "From hearing an event until it is written to all its clients.",
            _quantiles("beaconfire_gateway_write_latency_seconds"),
        ),
    ],
    "Do events reach the stream?": [
        Panel(
            "Waiting events",
            "short",
            "Committed events that the broker has not acknowledged yet, and events that it refused.",
            {
                "waiting": "sum(beaconfire_outbox_pending_events)",
                "set aside": "sum(beaconfire_outbox_set_aside_events)",
            },
        ),
        Panel(
            "Age of the oldest waiting event",
            "s",
            "Above a minute, an alert fires.",
            {"{{instance}}": "beaconfire_outbox_oldest_event_age_seconds"},
        ),
        Panel(
            "Published events",
            "ops",
            "Events a second that the broker acknowledged, and that gateways delivered, by type.",
            {
                "published": _rate("beaconfire_outbox_events_published_total"),
                "{{type}}": _rate("beaconfire_gateway_events_delivered_total", "type"),
            },
        ),
    ],
    "Are the gateways level with the stream?": [
        Panel(
            "Lag behind the foremost gateway",
            "short",
            "Events that a gateway has not delivered yet, but another one has.",
            {"{{instance}}": "scalar(max(beaconfire_gateway_position)) - beaconfire_gateway_position"},
        ),
        Panel(
            "Holes and degraded gateways",
            "short",
            "Holes a second in what arrived live, and gateways that the broker does not answer.",
            {"holes": _rate("beaconfire_gateway_holes_total"), "degraded": "sum(beaconfire_gateway_degraded)"},
        ),
        Panel(
            "Events set aside",
            "ops",
            "Messages a second that were no valid event, by reason.",
            {"{{reason}}": _rate("beaconfire_gateway_events_set_aside_total", "reason")},
        ),
        Panel(
            "Catalogue's revision",
            "short",
            "Gateways with different revisions for longer than a moment cannot read the newest one.",
            {"{{instance}}": "beaconfire_gateway_catalogue_revision"},
        ),
        Panel(
            "What fills the stream",
            "Bps",
            "All events, and those of the busiest root.",
            {
                "all events": "max(beaconfire_gateway_stream_bytes_per_second)",
                "busiest root": "max(beaconfire_gateway_busiest_root_bytes_per_second)",
            },
        ),
        Panel(
            "Presence",
            "short",
            "Rooms with a present user, and other gateways that a gateway knows.",
            {
                "rooms": "max(beaconfire_gateway_presence_rooms)",
                "gateways known to {{instance}}": "beaconfire_gateway_presence_gateways",
            },
        ),
    ],
    "Are the services healthy?": [
        Panel(
            "HTTP requests",
            "ops",
            "Requests a second by status.",
            {"{{status}}": _rate("beaconfire_http_request_duration_seconds_count", "status")},
        ),
        Panel(
            "Slowest routes",
            "s",
            "The 99th percentile of the five slowest routes.",
            {
                "{{method}} {{route}}": "topk(5, histogram_quantile(0.99, sum by (le, method, route) "
                "(rate(beaconfire_http_request_duration_seconds_bucket[$__rate_interval]))))"
            },
        ),
        Panel(
            "Refusals over a limit",
            "ops",
            "Refused requests and connections a second, by limit.",
            {
                "gateway: {{limit}}": _rate("beaconfire_gateway_requests_over_limit_total", "limit"),
                "publisher: {{limit}}": _rate("beaconfire_publisher_requests_over_limit_total", "limit"),
                "auth: {{limit}}": _rate("beaconfire_auth_attempts_over_limit_total", "limit"),
            },
        ),
        Panel("Memory", "bytes", "Of each process.", {"{{job}} {{instance}}": "process_resident_memory_bytes"}),
        Panel(
            "CPU",
            "percentunit",
            "Of each process. A gateway process uses one core at most.",
            {"{{job}} {{instance}}": "rate(process_cpu_seconds_total[$__rate_interval])"},
        ),
        Panel(
            "Refused tokens and sign-ins",
            "ops",
            "Refused tokens and attempts to sign in a second.",
            {
                "token: {{reason}}": _rate("beaconfire_tokens_refused_total", "reason"),
                "sign-in: {{result}}": _rate("beaconfire_auth_sign_ins_total", "result"),
            },
        ),
    ],
}


def dashboard() -> str:
    """Return the dashboard as the JSON that Grafana imports. It asks for the Prometheus to read from."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        panels.append(_row(len(panels) + 1, title, top))
        top += 1
        for number, panel in enumerate(row):
            place = {"x": number % 3 * WIDTH, "y": top + number // 3 * HEIGHT, "w": WIDTH, "h": HEIGHT}
            panels.append(_panel(len(panels) + 1, panel, place))
        top += -(-len(row) // 3) * HEIGHT
    document = {
        "uid": "beaconfire",
        "title": "Beaconfire",
        "description": "Written by `make generate` from scripts/derived/dashboard.py.",
        "tags": ["beaconfire"],
        "schemaVersion": 38,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]
        },
        "panels": panels,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _row(number: int, title: str, top: int) -> dict[str, Any]:
    place = {"x": 0, "y": top, "w": 24, "h": 1}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${source}"}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.text,
        "datasource": source,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": {"fillOpacity": 8}}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": source, "expr": query, "legendFormat": legend}
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
    }
