"""The benchmark of a pause runs the whole road."""

import pytest

from benchmarks.growth_pause import CORPUS, paused

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("assets", [CORPUS, 5])
async def test_each_checkpoint_holds_what_was_read_since_the_one_before(assets: int) -> None:
    first, second = await paused(assets, events=300, rounds=2)
    assert min(first.items, second.items) >= 300, "a log record an event, and more"
    assert min(first.rows, second.rows, first.payloads, second.payloads) > 0
