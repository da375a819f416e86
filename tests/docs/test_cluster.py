"""docs/cluster.md names tests, metrics, files and figures that are there."""

import re
from itertools import chain
from pathlib import Path

from pipeline.runtime import fence, workers
from pipeline.topology.several import CONFIGURATION, moved

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cluster.md").read_text()


def test_every_test_and_configuration_that_it_names_is_there() -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", PAGE)) | {CONFIGURATION}
    assert len(named) > 2
    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_every_metric_that_it_names_is_one_of_ours() -> None:
    named = {re.sub(r"_total$", "", name) for name in re.findall(r"`(dagtel_\w+)", PAGE)}
    files = chain((ROOT / "pipeline" / "runtime").glob("*.py"), [ROOT / "receivers" / "kafka.py"])
    code = "".join(file.read_text() for file in files)
    assert {name for name in named if f'"{name}"' not in code} == set()


def test_its_figures_are_those_of_the_code() -> None:
    waits = ", ".join(f"{wait:g}" for wait in workers.WAITS_S[1:-1])
    assert f"started again after {workers.WAITS_S[0]:g} s, then {waits} and {workers.WAITS_S[-1]:g} s" in PAGE
    assert f"the last look is older than {fence.FRESH_S:g} s" in " ".join(PAGE.split())
    ports = [", ".join(moved(f":{port}", number)[1:] for number in (1, 2)) for port in (8888, 13133)]
    assert all(pair in PAGE for pair in ports)
