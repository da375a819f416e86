"""What Dagster's own reader takes is never lost: both read the same recorded lines, damaged in many ways."""

import json
import os
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pipeline import events as ev
from pipeline.errors import DecodeError
from pipeline.events import Event
from receivers.dagster_wire import decode

PYTHON = os.environ.get("DAGTEL_TEST_DAGSTER_PYTHON", "")
HERE = Path(__file__).parent
CASES = 4000

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not PYTHON, reason="DAGTEL_TEST_DAGSTER_PYTHON names no Python with Dagster"),
]

VALUES: list[Any] = [
    *(None, True, False, 0, -1, 3.5, 10**25, float("nan"), float("inf"), 1e308, "", "x", "é", "1", "INFO"),
    *([], [1], {}, {"__enum__": "AssetCheckSeverity.WARN"}, {"__enum__": "Nope.X"}, {"__class__": "Nope", "a": 1}),
    *({"__class__": "AssetKey", "path": ["q"]}, {"__class__": None}, {"__set__": [1]}),
]
CLASSES = (
    *("EventLogEntry", "DagsterEventRecord", "LogMessageRecord", "EventRecord", "DagsterEvent", "AssetKey"),
    *("AssetMaterialization", "EngineEventData", "SerializableErrorInfo", "EventMetadataEntry", "Unheard"),
)
TYPES = (
    *("RUN_START", "PIPELINE_INIT_FAILURE", "STEP_MATERIALIZATION", "PIPELINE_PROCESS_START", "UNHEARD", "STEP_START"),
    *("STEP_FAILURE", "ASSET_MATERIALIZATION", "ENGINE_EVENT", "HANDLED_OUTPUT"),
)


def recorded() -> list[list[bytes]]:
    """Some lines of each type."""
    kinds: dict[str, list[bytes]] = {}
    for version in ("1.13", "1.10", "1.7"):
        for line in (HERE.parent / "data" / f"dagster-{version}.jsonl").read_bytes().splitlines():
            event = json.loads(line)["dagster_event"]
            found = kinds.setdefault(event["event_type_value"] if event else "LOG", [])
            if len(line) < 20_000 and len(found) < 40:
                found.append(line)
    return [kinds[name] for name in sorted(kinds)]


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value[:4]) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*at, key)
        yield from places(item, (*at, key))


def damage(entry: dict[str, Any], chance: Random) -> None:
    """Something is gone, added, or of another kind."""
    every = list(places(entry))
    *way, key = chance.choice([p for p in every if len(p) <= 3] if chance.random() < 0.6 else every)
    at: Any = entry
    for part in way:
        at = at[part]
    what = chance.random()
    if what < 0.25:
        del at[key]
    elif what < 0.35 and isinstance(at, dict):
        at[chance.choice(["extra", "__class__", "job_name", "step_key"])] = deepcopy(chance.choice(VALUES))
    elif key in ("__class__", "event_type_value") and what < 0.8:
        at[key] = chance.choice(CLASSES if key == "__class__" else TYPES)
    else:
        at[key] = deepcopy(chance.choice(VALUES))


def written(entry: dict[str, Any], chance: Random) -> bytes:
    text = json.dumps(entry, ensure_ascii=chance.random() < 0.7, separators=chance.choice([(", ", ": "), (",", ":")]))
    what = chance.random()
    if what < 0.03:
        text = f"\ufeff{text}"
    elif what < 0.06:
        text = f"  {text}\t "
    elif what < 0.08:
        text = f"{text}x"
    elif what < 0.10:
        text = text.replace('"__class__"', '"\\u005f_class__"', 1)
    elif what < 0.12:
        text = f'{{"run_id": "first", {text[1:]}'
    return text.encode()


def damaged(seed: int) -> list[bytes]:
    chance, kinds = Random(seed), recorded()
    cases = []
    for _ in range(CASES):
        entry = json.loads(chance.choice(chance.choice(kinds)))
        damage(entry, chance)
        if entry and chance.random() < 0.4:
            damage(entry, chance)
        cases.append(written(entry, chance))
    return cases


def theirs(cases: list[bytes]) -> list[Any]:
    done = subprocess.run(
        [PYTHON, str(HERE / "dagster_reader.py")], input=b"\n".join(cases), capture_output=True, check=True, timeout=300
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def ours(case: bytes) -> Event | str:
    try:
        return decode(case, source="test", offset=1)
    except DecodeError as error:
        return str(error)


def classes(event: Event) -> list[str]:
    detail = event.detail
    return list(detail.error.chain) if isinstance(detail, ev.StepFailed | ev.RetryScheduled) and detail.error else []


@pytest.mark.parametrize("seed", range(3))
def test_what_dagsters_reader_takes_is_read_with_the_same_run_step_and_error(seed: int) -> None:
    cases = damaged(seed)
    read = theirs(cases)
    assert len(read) == len(cases)
    assert sum(found is not None for found in read) > CASES // 4
    for case, found in zip(cases, read, strict=True):
        if found is None:
            continue
        event = ours(case)
        assert isinstance(event, Event), (event, case)
        assert [event.run_id, event.step_key or ""] == [found[0], found[1] or event.step_key], case
        if found[2] is not None:
            assert classes(event) == found[2], case
