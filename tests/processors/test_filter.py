"""What a filter leaves out, and what it does when it cannot say."""

from collections.abc import Sequence

import pytest

from pipeline.batch import Batch
from pipeline.facts import Json
from pipeline.signals import Edges, LogRecord
from pipeline.testing.context import FakeContext
from processors.filter import SPEC, FilterConfig

pytestmark = pytest.mark.anyio


def log(level: str = "INFO", message: str = "", **extra: Json) -> LogRecord:
    return LogRecord(1, level, "LOG", message, "e", extra=extra)


async def kept(items: Sequence[object], **options: object) -> list[object]:
    config = FilterConfig(**options)  # type: ignore[arg-type]
    assert list(config.problems()) == []
    async with SPEC.build(config, FakeContext("filter")) as processor:
        return list((await processor.process(Batch(items, "s", 1))).items)


async def test_an_item_of_which_a_drop_condition_is_true_is_left_out() -> None:
    items = [log("DEBUG"), log("INFO", "beat"), log("ERROR")]
    assert await kept(items, drop=('level == "DEBUG"', 'message == "beat"')) == [items[2]]


async def test_with_keep_only_items_of_which_one_is_true_stay_and_drop_goes_over_it() -> None:
    items = [log("DEBUG"), log("ERROR"), log("ERROR", "noise"), log("WARNING")]
    found = await kept(items, keep=('level == "ERROR"', 'level == "WARNING"'), drop=('message == "noise"',))
    assert found == [items[1], items[3]]


async def test_a_batch_of_which_nothing_is_left_out_is_the_same_batch() -> None:
    async with SPEC.build(FilterConfig(drop=("derived",)), FakeContext("filter")) as processor:
        batch: Batch[object] = Batch([log()], "s", 1)
        assert await processor.process(batch) is batch
        assert list((await processor.process(Batch([], "s", 1))).items) == []


@pytest.mark.parametrize(("on_error", "stays"), [("keep", True), ("drop", False)])
async def test_an_item_that_cannot_be_judged_is_kept_unless_told_otherwise(
    on_error: str, stays: bool, caplog: pytest.LogCaptureFixture
) -> None:
    unsure, fine = log(), log(user=7)
    found = await kept([unsure, unsure, fine], drop=("extra.user == 8",), on_error=on_error)
    assert found == ([unsure, unsure, fine] if stays else [fine])
    assert len(caplog.records) == 1


async def test_what_travels_beside_the_signals_own_items_passes() -> None:
    edges = Edges("a", ("b",), 1)
    assert await kept([edges], drop=('kind == "asset_failure"',)) == [edges]


def test_expressions_that_cannot_be_used_are_problems_of_their_option() -> None:
    found = list(FilterConfig(drop=("level ==", "derived"), keep=("nope",)).problems())
    assert [option for option, _ in found] == ["drop", "keep"]
    assert [option for option, _ in FilterConfig().problems()] == [""]
