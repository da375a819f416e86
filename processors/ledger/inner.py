"""What takes time within a run or an attempt: pairs of markers, resources, IO managers. Pure.

Markers name themselves. Of IO managers only the end is told; an output's work begins with the STEP_OUTPUT before it,
an input's with the attempt's start or the input before it, because Dagster does these one after another.
"""

from typing import Literal

from pipeline.events import Event, IoHandled, Marker
from pipeline.outcomes import InnerEnded
from processors.ledger.states import RunState, StepState

_OPEN_MARKERS = 64


def marked(event: Event, run: RunState, step: StepState | None) -> InnerEnded | None:
    """A marker pair's start is remembered, its end gives the time between. A start alone never ends."""
    marker = event.detail
    if not isinstance(marker, Marker):
        return None
    markers = run.markers if step is None else step.markers or {}
    if marker.start and len(markers) < _OPEN_MARKERS:
        markers[marker.start] = event.at_ns
        if step is not None:
            step.markers = markers
    if not marker.end:
        return None
    since_ns = markers.pop(marker.end, None)
    if since_ns is None and step is not None:
        since_ns = run.markers.pop(marker.end, None)
    if since_ns is None:
        return None
    kind: Literal["resource", "marker"] = "resource" if event.type.startswith("RESOURCE_") else "marker"
    return _ended(event, run, marker.end, kind, since_ns, marker)


def handled(event: Event, run: RunState, step: StepState, io: IoHandled) -> InnerEnded | None:
    """HANDLED_OUTPUT, LOADED_INPUT."""
    if event.type == "LOADED_INPUT":
        since_ns, step.input_ns = step.input_ns, event.at_ns
        name = f"load {io.name}"
    else:
        since_ns, step.output_ns = step.output_ns, 0
        name = f"store {io.name}"
    return _ended(event, run, name, "io", since_ns, None) if since_ns else None


def _ended(
    event: Event,
    run: RunState,
    name: str,
    kind: Literal["resource", "io", "marker"],
    since_ns: int,
    marker: Marker | None,
) -> InnerEnded:
    return InnerEnded(
        run=event.run_id,
        job=run.job,
        step=event.step_key,
        attempt=event.attempt,
        name=name,
        kind=kind,
        at_ns=event.at_ns,
        started_ns=min(since_ns, event.at_ns),
        error=marker.error if marker is not None else None,
    )
