"""What a service does with traces, apart from sending them: its settings, the contexts that it accepts, and nothing at
all while traces are off."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from beaconfire_kit import tracing
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.events.campaign import SettlementUpdated
from beaconfire_kit.invalid_event import MAX_EVENT_BYTES
from beaconfire_kit.trace_context import carried_by
from beaconfire_kit.trace_settings import read_trace_settings

TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"


def body(**metadata: Any) -> bytes:
    return json.dumps({"id": "e1", "type": "t", "payload": {}, "metadata": metadata}).encode()


def envelope(filler: str = "") -> Envelope:
    event = SettlementUpdated(campaign_id="c1", settlement_id="s1", operation="update", changed_fields=(filler,))
    return Envelope(event, Metadata(source="api"))


def configured(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_event_carries_its_context_in_its_metadata() -> None:
    found = carried_by(body(traceparent=TRACEPARENT, tracestate="shop=1", correlationId="r1"))

    assert found is not None
    assert found.context == {"traceparent": TRACEPARENT, "tracestate": "shop=1"}
    assert (found.type, found.id, found.correlation_id) == ("t", "e1", "r1")


@pytest.mark.parametrize(
    "event",
    [
        b"{}",
        body(),
        body(traceparent=None),
        body(traceparent=1),
        body(traceparent=TRACEPARENT.upper()),
        body(traceparent=f"{TRACEPARENT}\r\nNats-TTL: 1s"),
        body(traceparent=f"{TRACEPARENT}\n"),
        json.dumps({"payload": {"traceparent": TRACEPARENT}, "metadata": {}}).encode(),
        json.dumps({"traceparent": TRACEPARENT, "metadata": None}).encode(),
        json.dumps(["traceparent", TRACEPARENT]).encode(),
        b'{"traceparent":',
    ],
)
def test_whatever_is_no_context_is_ignored(event: bytes) -> None:
    assert carried_by(event) is None


@pytest.mark.parametrize("tracestate", [1, "", "a=1\r\nNats-TTL: 1s", "a=" + "1" * 511, "é=1"])
def test_malformed_tracestate_is_left_out(tracestate: object) -> None:
    found = carried_by(body(traceparent=TRACEPARENT, tracestate=tracestate))

    assert found is not None
    assert found.context == {"traceparent": TRACEPARENT}


def test_event_with_a_malformed_context_is_read_as_one_without() -> None:
    """Releases before ignored these fields, so no event may become invalid by them."""
    read = Metadata.model_validate({"source": "api", "traceparent": 1, "tracestate": "\n"})

    assert (read.traceparent, read.tracestate) == (None, None)


def test_event_that_its_context_would_make_too_large_is_published_without_it() -> None:
    context = {"traceparent": TRACEPARENT}
    small = envelope()
    large = envelope("x" * (MAX_EVENT_BYTES - len(small.encode()) - 10))

    assert json.loads(small.encode_with(context))["metadata"]["traceparent"] == TRACEPARENT
    assert "traceparent" not in json.loads(large.encode_with(context))["metadata"]


def test_nothing_is_traced_while_traces_are_off() -> None:
    event = envelope()
    with tracing.running("quests", None), tracing.step("a part"), tracing.publishing([("a.b", body())]):
        assert tracing.created("a.b", event.about()) is None
        assert tracing.headers_of(body(traceparent=TRACEPARENT)) is None
        assert tracing.outgoing() == {}


def test_opentelemetrys_sdk_is_not_imported_while_traces_are_off() -> None:
    """FastStream imports names of conventions, if they are installed, and nothing that works."""
    program = (
        "import sys, beaconfire_gateway.__main__, beaconfire_publisher.__main__, beaconfire_auth.__main__\n"
        "from beaconfire_kit import tracing\n"
        "assert tracing.read_settings() is None\n"
        "print([one for one in sys.modules if one.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "[]"


def test_service_without_the_extra_says_what_to_install() -> None:
    program = (
        "import sys\n"
        "sys.modules['opentelemetry'] = None\n"  # as if it were not installed
        "from beaconfire_kit import tracing\n"
        "tracing.read_settings()"
    )
    said = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={"OTEL_TRACES_EXPORTER": "otlp"},
    )

    assert said.returncode == 2
    assert "beaconfire-gateway[traces]" in said.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_TRACES_EXPORTER": ""},
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"},
    ],
)
def test_traces_are_off_unless_an_exporter_is_named(
    monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]
) -> None:
    """Other variables may be set for everything on a machine."""
    configured(monkeypatch, **variables)

    assert read_trace_settings() is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "1%"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
    ],
)
def test_wrong_setting_is_refused_with_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str
) -> None:
    """OpenTelemetry's library would trace everything instead, or nothing."""
    configured(monkeypatch, **{"OTEL_TRACES_EXPORTER": "otlp", variable: value})
    with pytest.raises(SystemExit) as ended:
        read_trace_settings()

    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"{variable}: ")


@pytest.mark.parametrize(
    ("variables", "endpoint"),
    [
        ({}, "http://localhost:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c.example/otel/"}, "https://c.example/otel/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://c.example/mine"}, "https://c.example/mine"),
    ],
)
def test_endpoint_is_where_the_standard_says(
    monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str], endpoint: str
) -> None:
    configured(monkeypatch, OTEL_TRACES_EXPORTER="otlp", **variables)
    settings = read_trace_settings()

    assert settings is not None
    assert settings.endpoint == endpoint
