"""Run by a Python that has Dagster: what its own reader makes of each line of stdin, a JSON value a line.

null where it raises; else the entry's run id, step key, and the classes of a step's error from the outside in (None
for other events, and for those that it could not read whole, which it keeps as ENGINE_EVENT).
"""

import json
import sys
import warnings
from typing import Any

warnings.simplefilter("ignore")

from dagster._core.events.log import EventLogEntry  # noqa: E402  # it warns when imported
from dagster._serdes import deserialize_value  # noqa: E402


def told(line: bytes) -> "list[Any] | None":
    try:
        entry = deserialize_value(line.decode(), EventLogEntry)
    except Exception:
        return None
    event = entry.dagster_event
    step = (event.step_key if event is not None else None) or entry.step_key
    return [entry.run_id, step or "", classes(event) if event is not None else None]


def classes(event: Any) -> "list[str] | None":
    names = []
    try:
        data = {"STEP_FAILURE": "step_failure_data", "STEP_UP_FOR_RETRY": "step_retry_data"}[event.event_type_value]
        error = getattr(event, data).error
        while error is not None:
            names.append(error.cls_name if isinstance(error.cls_name, str) else "")
            error = error.cause
    except Exception:
        return None
    return names


for line in sys.stdin.buffer:
    print(json.dumps(told(line.rstrip(b"\n")), default=str))
