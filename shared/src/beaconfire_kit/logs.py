"""Structured logs: one line per fact, with a static sentence and fields. Ids come from context variables.

Payloads and tokens are never logged. `redact` is the last line of defence. It blanks fields with a secret's name, and
anything that looks like a JWT or has `token=` in a query.
"""

import logging
import re
import sys
import time
from collections.abc import Callable, Hashable, MutableMapping
from typing import Any, Literal

import structlog

_SECRET_FIELDS = re.compile(r"token|password|secret|authorization|cookie|payload|body", re.IGNORECASE)
# Text that starts like a JWT is blanked, whether its other parts follow or not. Looking for them from every `eyJ` of a
# text that a client chose would cost the square of its length.
_SECRET_TEXT = re.compile(r"eyJ[\w-]{5,}(\.[\w-]+)*|(?<=token=)[^\s&\"']+|(?<=[Bb]earer )\S+")
_BLANK = "[redacted]"
_HARMLESS_FIELDS = re.compile(r"(^|_)token_ids?$|_(count|bytes)$")
"""Fields named after a secret that only contain which one it was, how many, or how large."""
RESERVED = frozenset({"service", "level", "timestamp", "logger"})
"""Fields of every line. A caller's field with such a name gets another name."""


def configure(service: str, *, level: str = "info", format: Literal["json", "console"] = "json") -> None:  # noqa: A002
    """Set up logging for this process, also for libraries that use the standard library."""
    shared: list[structlog.types.Processor] = [
        rename_reserved_fields,
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer() if format == "json" else structlog.dev.ConsoleRenderer(pad_event_to=0)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("aiosqlite", "nats", "asyncio", "sqlalchemy.engine"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("aiohttp.server").addFilter(_without_peers_faults)
    structlog.contextvars.bind_contextvars(service=service)


def configure_command() -> None:
    """Keep log lines out of the output of a command, and log each report of the broker's client only once.

    The client tries several times in a second to reach a broker that is away.
    """
    reported: set[str] = set()

    def once(_logger: Any, _method: str, line: structlog.types.EventDict) -> structlog.types.EventDict:
        if line["event"] == "broker client reports":
            detail = str(line.get("detail"))
            if detail in reported:
                raise structlog.DropEvent
            reported.add(detail)
        return line

    structlog.configure(
        processors=[once, *structlog.get_config()["processors"]],
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


def _without_peers_faults(record: logging.LogRecord) -> bool:
    """Log malformed HTTP as the peer's fault, without a stack trace and without the data."""
    error = record.exc_info[1] if record.exc_info else None
    if type(error).__module__ == "aiohttp.http_exceptions":
        record.msg, record.args, record.exc_info = "refused a malformed HTTP request", (), None
        record.levelno, record.levelname = logging.INFO, "INFO"
    return record.levelno >= logging.getLogger().level


def get(name: str) -> structlog.stdlib.BoundLogger:
    """Return a logger. Call `log.info("static sentence", field=value)`."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger


def is_debugging() -> bool:
    """Return whether lines of the level `debug` are logged. Ask it before fields are made that cost something."""
    return logging.getLogger().isEnabledFor(logging.DEBUG)


def rename_reserved_fields(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Rename a caller's fields that collide with fields of every line: `service` becomes `service_`."""
    for name in RESERVED & fields.keys():
        fields[f"{name}_"] = fields.pop(name)
    return fields


def redact(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blank everything that must not be in a log."""
    for name, value in fields.items():
        if is_redacted(name) and not isinstance(value, int | float | None):
            fields[name] = _BLANK
        elif isinstance(value, str):
            fields[name] = blank(value)
    return fields


class Seldom:
    """Lets one line of each kind through in `every_s` seconds, so that a flood does not fill the log. Kinds are few."""

    def __init__(self, *, every_s: float = 10.0, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._monotonic = monotonic
        self._last: dict[Hashable, tuple[float, int]] = {}

    def passes(self, kind: Hashable) -> int | None:
        """Return how many lines of the kind were left out since the last one, or None if this one is left out, too."""
        now = self._monotonic()
        at, left_out = self._last.get(kind, (float("-inf"), 0))
        if now - at < self._every_s:
            self._last[kind] = at, left_out + 1
            return None
        self._last[kind] = now, 0
        return left_out


def is_redacted(name: str) -> bool:
    """Return whether a text in a field with this name is blanked."""
    return name != "event" and bool(_SECRET_FIELDS.search(name)) and not _HARMLESS_FIELDS.search(name)


def blank(text: str) -> str:
    """Return the text without anything that looks like a token."""
    return _SECRET_TEXT.sub(_BLANK, text)
