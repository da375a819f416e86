"""docs/delivery.md names tests, metrics and options that are there."""

import re
from pathlib import Path

from pipeline.cli.describe import block_options
from pipeline.delivery import Delivery

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "delivery.md").read_text()


def test_every_test_that_it_names_is_there() -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", PAGE))
    assert len(named) > 5
    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_every_metric_that_it_names_is_one_of_ours() -> None:
    named = {re.sub(r"_total$", "", name) for name in re.findall(r"`(dagtel_\w+)", PAGE)}
    code = "".join((ROOT / "pipeline" / "runtime" / f"{name}.py").read_text() for name in ("telemetry", "service"))
    assert {name for name in named if f'"{name}"' not in code} == set()


def test_every_option_of_delivery_that_it_names_is_there() -> None:
    options = {option.name for option in block_options(Delivery)}
    blocks = "sending_queue|retry_on_failure|circuit_breaker"
    named = set(re.findall(rf"`((?:{blocks})\.\w+)`", PAGE))
    assert named <= options
    assert named >= {"sending_queue.queue_size", "circuit_breaker.failures", "retry_on_failure.max_retry_after"}
