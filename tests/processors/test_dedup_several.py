"""One failure of a step that makes several assets: one problem, whose assets fail and heal by themselves."""

from typing import Any

import msgspec
import pytest

from pipeline.clock import HOUR, MINUTE
from pipeline.lineage import Impact
from pipeline.signals import Alert
from tests.processors.test_dedup import TWO, Driver, failure, plain, said, success

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("restarts", [False, True])]


def several(at_ns: int, *assets: str, partition: str | None = None, run: str = "", **fields: Any) -> Alert:
    """The step "dbt" fails, and these are not made."""
    one = failure(at_ns, partition=partition, asset=assets[0])
    return msgspec.structs.replace(one, assets=assets, step_key="dbt", run_id=run or one.run_id, **fields)


def well(at_ns: int, asset: str, partition: str | None = None) -> Alert:
    return success(at_ns, partition=partition, asset=asset)


async def test_it_is_told_once_and_is_over_when_the_last_asset_is_made(restarts: bool) -> None:
    driver = Driver(plain(), restarts)
    told = await driver.feed(several(TWO, "a", "b", "c"))
    assert [(a.asset, a.assets, a.failing, a.count) for a in told] == [("a", ("a", "b", "c"), 3, 1)]
    assert await driver.feed(well(TWO + MINUTE, "b"), well(TWO + MINUTE, "a"), well(TWO + MINUTE, "a")) == []
    assert said(await driver.feed(well(TWO + 2 * MINUTE, "c"))) == [("resolved", 1, 0.033)]
    assert [key[0] for key in driver.state.stored] == ["past"]


async def test_an_asset_that_was_well_till_then_is_told_at_once(restarts: bool) -> None:
    driver = Driver(plain(), restarts)
    told = await driver.feed(several(TWO, "a"), several(TWO + MINUTE, "a"), several(TWO + 2 * MINUTE, "a", "b"))
    assert [(a.state, a.reason, a.assets, a.count) for a in told] == [
        ("firing", "first", ("a",), 1), ("digest", "more_assets", ("a", "b"), 2)
    ]  # fmt: skip


async def test_assets_that_one_failure_takes_along_later_join_without_being_counted(restarts: bool) -> None:
    driver = Driver(plain(), restarts)
    first, later = TWO, TWO + MINUTE
    told = await driver.feed(
        several(first, "g/a", run="r1", impact=Impact({"down": 2, "g/b": 1})),
        several(later, "g/b", run="r1", first_ns=first, last_ns=first, impact=Impact({"down": 1, "other": 1})),
        several(TWO + 2 * MINUTE, "g/b", run="r2"),
    )
    told += await driver.advance(TWO + HOUR + 1)
    assert said(told) == [("firing", 1, 0), ("digest", 1, 1)]
    assert await driver.feed(well(TWO + HOUR + 2, "g/b")) == []
    assert said(await driver.feed(well(TWO + HOUR + 2, "g/a"))) == [("resolved", 2, 1.0)]


async def test_a_partition_is_over_when_no_asset_fails_in_it(restarts: bool) -> None:
    driver = Driver(plain(), restarts)
    await driver.feed(several(TWO, "a", "b", partition="mon"), several(TWO + 1, "a", "b", partition="tue"))
    assert await driver.feed(well(TWO + 2, "a", "mon")) == []
    (digest,) = await driver.advance(TWO + HOUR + 1)
    assert (digest.partitions, digest.failing) == (("mon", "tue"), 3)
    assert await driver.feed(well(TWO + HOUR + 2, "b", "mon"), well(TWO + HOUR + 2, "a", "tue")) == []
    (resolved,) = await driver.feed(well(TWO + HOUR + 2, "b", "tue"))
    assert resolved.state == "resolved"


async def test_what_follows_from_any_of_its_assets_is_folded_into_it(restarts: bool) -> None:
    driver = Driver(plain(), restarts)
    late = msgspec.structs.replace(failure(TWO + 1, "late", asset="b"), kind="sla_breach")
    assert said(await driver.feed(several(TWO, "a", "b"), late)) == [("firing", 1, 0)]
    assert await driver.feed(well(TWO + MINUTE, "b")) == []
    other = msgspec.structs.replace(failure(TWO + 2 * MINUTE, "late again", asset="b"), kind="sla_breach")
    assert said(await driver.feed(other)) == [("firing", 1, 0.033)]  # b is made: this has another reason
