"""`get_logger`: structured log lines that go through Dagster's event log, and so arrive in Loki as JSON fields.

Dagster stores one text a line. The fields travel at its end, as compact JSON after a marker:

    api_fetch_success ⟦dagtel⟧{"rows_returned":487}

The daemon takes them off again; in Dagster's own page they stand readable behind the event's name.
"""

import json
import logging
import sys
import traceback
from collections.abc import Mapping

from opentelemetry import trace

from dagster_dagtel.step import run_logger
from dagster_dagtel.values import Json, clean, plain, text

MARK = " ⟦dagtel⟧"
MAX_FIELDS = 32_768
_MAX_STACK = 16_384
_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


def get_logger(name: str | None = None) -> "Logger":
    """A logger of events with fields: `logger.info("api_fetch_success", rows_returned=487)`.

    In a step (and in its threads, resources and IO managers) the line goes to Dagster's event log. Outside a run it
    goes to the standard logger `name` (default `dagtel`), the fields as `extra`.
    """
    return Logger(name or "dagtel", {})


class Logger:
    """Immutable: `bind` gives another one. All field names are allowed; values may be anything (see `values.plain`)."""

    __slots__ = ("_fields", "_name")

    def __init__(self, name: str, fields: Mapping[str, object]) -> None:
        self._name = name
        self._fields = fields

    def bind(self, /, **fields: object) -> "Logger":
        """A logger that adds `fields` to each of its lines."""
        return Logger(self._name, {**self._fields, **fields})

    def unbind(self, /, *names: str) -> "Logger":
        """A logger without these bound fields; names that are not bound are fine."""
        return Logger(self._name, {k: v for k, v in self._fields.items() if k not in names})

    def debug(self, event: str, /, *args: object, **fields: object) -> None:
        """Log `event` (`%`-formatted with `args`, if there are any) at DEBUG."""
        self.log(logging.DEBUG, event, *args, **fields)

    def info(self, event: str, /, *args: object, **fields: object) -> None:
        """Log `event` at INFO."""
        self.log(logging.INFO, event, *args, **fields)

    def warning(self, event: str, /, *args: object, **fields: object) -> None:
        """Log `event` at WARNING."""
        self.log(logging.WARNING, event, *args, **fields)

    def error(self, event: str, /, *args: object, **fields: object) -> None:
        """Log `event` at ERROR."""
        self.log(logging.ERROR, event, *args, **fields)

    def critical(self, event: str, /, *args: object, **fields: object) -> None:
        """Log `event` at CRITICAL."""
        self.log(logging.CRITICAL, event, *args, **fields)

    def exception(self, event: str, /, *args: object, **fields: object) -> None:
        """Log `event` at ERROR, with the exception that is being handled as error_type, error_message, error_stack.

        Fields given by the caller win.
        """
        self.log(logging.ERROR, event, *args, **{"exc_info": True, **fields})

    def log(self, level: int, event: str, /, *args: object, **fields: object) -> None:
        """Log `event` at a standard level; the field `exc_info` (True, or an exception) adds its error."""
        run = run_logger()
        log = run or logging.getLogger(self._name)
        if not log.isEnabledFor(level):
            return
        error = _error(fields.pop("exc_info", None))
        said = clean(_formatted(str(event), args), MAX_FIELDS)
        known = _known({**self._fields, **fields}, error)
        if run is None:
            log.log(level, "%s", said, exc_info=error, extra=_extra(known))
        else:
            log.log(level, _line(said, known), exc_info=error)


def _formatted(event: str, args: tuple[object, ...]) -> str:
    try:
        return event % args if args else event
    except (TypeError, ValueError):  # too few arguments, a stray %: a log call never fails its step
        return f"{event} {args!r}"


def _error(exc_info: object) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple) and len(exc_info) == 3:
        return exc_info[1] if isinstance(exc_info[1], BaseException) else None
    return sys.exc_info()[1] if exc_info else None


def _known(fields: Mapping[str, object], error: BaseException | None) -> dict[str, Json]:
    """The fields as JSON values, with the error's and, where there is a current span, its ids."""
    known: dict[str, Json] = {}
    if error is not None:
        known["error_type"] = type(error).__name__
        known["error_message"] = text(error)
        known["error_stack"] = clean("".join(traceback.format_exception(error)), _MAX_STACK)
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        known["trace_id"] = f"{span.trace_id:032x}"
        known["span_id"] = f"{span.span_id:016x}"
    known.update({key: plain(value) for key, value in fields.items()})
    return known


def _line(event: str, fields: dict[str, Json]) -> str:
    # The marker must be found once: it is taken out of the event's name, and escaped within the fields.
    said = event.replace(MARK.strip(), "")
    if not fields:
        return said
    return said + MARK + _encoded(fields).replace("⟦", "\\u27e6")


def _encoded(fields: dict[str, Json]) -> str:
    line = _compact(fields)
    if len(line) <= MAX_FIELDS:
        return line
    kept: dict[str, Json] = {}
    room = MAX_FIELDS
    for key, value in fields.items():
        room -= len(_compact({key: value}))
        if room > 0:
            kept[key] = value
    return _compact({**kept, "dagtel_fields_dropped": len(fields) - len(kept)})


def _compact(fields: dict[str, Json]) -> str:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def _extra(fields: dict[str, Json]) -> dict[str, Json]:
    """Fields for the standard library, which refuses the names of its own record: those get a `_` behind."""
    return {f"{key}_" if key in _OWN else key: value for key, value in fields.items()}
