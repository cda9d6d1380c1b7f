"""Read the settings of traces: the standard variables `OTEL_…`, which every OpenTelemetry SDK knows.

Those that decide what a service does are here, so that a wrong value is refused when it starts. The SDK reads the
others itself: `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_BSP_MAX_QUEUE_SIZE`, `OTEL_RESOURCE_ATTRIBUTES` and so on.
"""

import sys
from typing import Literal, NoReturn, TypeVar

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from beaconfire_kit.setting_types import HttpAddress, OptionalHttpAddress

OTEL_PREFIX = "OTEL_"

S = TypeVar("S", bound=BaseSettings)


class _Switch(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=OTEL_PREFIX, extra="ignore", frozen=True, env_ignore_empty=True)

    traces_exporter: Literal["none", "otlp"] = Field("none", description="`otlp` sends traces to a collector")
    sdk_disabled: bool = Field(False, description="`true` switches traces off, whatever the exporter is")


class TraceSettings(_Switch):
    """The settings of traces. They count only if traces are on."""

    exporter_otlp_endpoint: HttpAddress = Field(
        "http://localhost:4318", description="The collector's address; `/v1/traces` is appended"
    )
    exporter_otlp_traces_endpoint: OptionalHttpAddress = Field(
        "", description="The complete address for traces; if set, OTEL_EXPORTER_OTLP_ENDPOINT is ignored"
    )
    exporter_otlp_protocol: Literal["http/protobuf"] = Field(
        "http/protobuf", description="The protocol to the collector"
    )
    exporter_otlp_traces_protocol: Literal["http/protobuf"] = Field(
        "http/protobuf", description="The protocol to the collector, for traces only"
    )
    traces_sampler: Literal[
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
    ] = Field("parentbased_always_on", description="Which changes are traced")
    traces_sampler_arg: float = Field(
        1.0, ge=0, le=1, description="The share of changes that the samplers `…traceidratio` trace, 0 to 1"
    )
    service_name: str = Field("", description="The service's name in traces; if empty, `beaconfire-gateway` and so on")

    @property
    def endpoint(self) -> str:
        """The whole address for traces."""
        return self.exporter_otlp_traces_endpoint or f"{self.exporter_otlp_endpoint.rstrip('/')}/v1/traces"


def read_trace_settings() -> TraceSettings | None:
    """Read the settings of traces. None if traces are off.

    A wrong value ends the process with exit code 2, and a sentence for each. While traces are off, the other variables
    may have any value: they may be set for everything on a machine.
    """
    switch = _read(_Switch)
    if switch.sdk_disabled or switch.traces_exporter == "none":
        return None
    return _read(TraceSettings)


def trace_variables() -> dict[str, FieldInfo]:
    """Return the settings by the names of their variables."""
    return {_variable(name): field for name, field in TraceSettings.model_fields.items()}


def _read(cls: type[S]) -> S:
    try:
        return cls()
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        refuse(*(f"{_variable(one['loc'][0])}: {one['msg'].removeprefix('Value error, ')}" for one in problems))


def _variable(name: object) -> str:
    return f"{OTEL_PREFIX}{str(name).upper()}"


def refuse(*sentences: str) -> NoReturn:
    """End the process, with exit code 2 and these sentences."""
    for sentence in sentences:
        print(sentence, file=sys.stderr)  # noqa: T201
    raise SystemExit(2)
