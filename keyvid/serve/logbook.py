"""The log of a server: a line for each request and each job, as text or as JSON."""

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any, Literal

LogFormat = Literal["text", "json"]

_PLAIN = re.compile(r"[\w./:@%+*-]+", re.ASCII)

log = logging.getLogger(__name__)


def begin(log_format: LogFormat) -> None:
    """Give all lines of keyvid's log a time, and its fields the form that is asked for.

    Args:
        log_format: "text" is for people, and has fields as name=value; "json" has an object a line.
    """
    formatter = _JsonLines() if log_format == "json" else _TextLines()
    handlers = logging.getLogger("keyvid").handlers
    for handler in handlers:
        handler.setFormatter(formatter)
    logging.getLogger("uvicorn").handlers = [*handlers]
    log.setLevel(logging.INFO)  # also where keyvid's other lines are for warnings alone


def note(event: str, **fields: Any) -> None:
    """Log an event, with or without `-v`.

    Args:
        fields: JSON values, not those that `logging.LogRecord` has; None is left out.
    """
    said = {name: value for name, value in fields.items() if value is not None}
    log.info("%s", event, extra={"fields": said})


class _TextLines(logging.Formatter):
    """Time, what happened, and fields."""

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        text = "".join(f" {name}={_written(value)}" for name, value in fields.items())
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        return f"{_time(record)} {level}{super().format(record)}{text}"


class _JsonLines(logging.Formatter):
    """An object with `time`, `level`, `event`, the fields, and a traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _time(record: logging.LogRecord) -> str:
    """Such as 2026-11-28T20:14:03.123Z."""
    text = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _written(value: Any) -> str:
    """A value as it stands behind an = sign: on one line, in quotes where it must be."""
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
