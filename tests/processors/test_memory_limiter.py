"""When the intake closes and opens, and how often garbage is collected."""

from pathlib import Path

import pytest

from pipeline.batch import Batch
from pipeline.components import Limits
from pipeline.options import Duration, Size
from pipeline.testing.context import FakeContext
from processors.memory_limiter import (
    SPEC,
    Machine,
    MemoryLimiter,
    MemoryLimiterConfig,
    collect_garbage,
    this_machine,
    total_memory,
)

pytestmark = pytest.mark.anyio

MB = 2**20


class Memory:
    """A machine of 1000 MiB; collecting garbage frees `garbage`."""

    def __init__(self) -> None:
        self.used, self.garbage, self.asked, self.collected = 0, 0, 0, 0

    def limiter(self, **options: object) -> MemoryLimiter:
        config = MemoryLimiterConfig(**({"limit": Size("100MiB")} | options))  # type: ignore[arg-type]
        assert list(config.problems()) == []
        return MemoryLimiter(
            config, FakeContext("memory_limiter"), Machine(self._used, lambda: 1000 * MB, self._collect)
        )

    def _used(self) -> int:
        self.asked += 1
        return self.used * MB

    def _collect(self) -> None:
        self.collected += 1
        self.used, self.garbage = self.used - self.garbage, 0


def test_the_intake_closes_over_the_soft_limit_and_opens_below_it(caplog: pytest.LogCaptureFixture) -> None:
    memory = Memory()
    limiter = memory.limiter()
    answers = []
    for second, used in enumerate((50, 80, 81, 99, 120, 81, 80, 10)):
        memory.used = used
        answers.append(limiter.refuses(second))
    assert answers == [False, False, True, True, True, True, False, False]
    assert [record.message for record in caplog.records] == ["Memory is short, no more input is taken."]


def test_memory_is_measured_once_an_interval() -> None:
    memory = Memory()
    limiter = memory.limiter(check_interval=Duration("5s"))
    for tenth in range(100):
        limiter.refuses(tenth / 10)
    assert memory.asked == 2


def test_garbage_that_was_all_of_it_does_not_close_the_intake() -> None:
    memory = Memory()
    memory.used, memory.garbage = 95, 40
    assert not memory.limiter().refuses(0)
    assert memory.collected == 1


def test_garbage_is_collected_seldom_over_the_soft_and_always_over_the_hard_limit() -> None:
    memory = Memory()
    limiter = memory.limiter()
    memory.used = 90
    for second in range(20):
        limiter.refuses(second)
    assert memory.collected == 2
    memory.used = 101
    for second in range(20, 25):
        limiter.refuses(second)
    assert memory.collected == 7


@pytest.mark.parametrize(
    ("options", "soft", "hard"),
    [
        ({}, 80, 100),
        ({"spike_limit": Size("30MiB")}, 70, 100),
        ({"limit": Size(0), "limit_percentage": 50.0}, 400, 500),
        ({"limit": Size(0), "limit_percentage": 50.0, "spike_limit_percentage": 10.0}, 400, 500),
        ({"limit_percentage": 50.0}, 80, 100),
    ],
)
def test_limits_are_bytes_or_parts_of_what_there_is(options: dict[str, object], soft: int, hard: int) -> None:
    limiter = Memory().limiter(**options)
    assert (limiter.soft, limiter.hard) == (soft * MB, hard * MB)


def test_a_container_has_what_its_cgroup_gives(tmp_path: Path) -> None:
    machine = total_memory(())
    limited, unlimited = tmp_path / "memory.max", tmp_path / "none"
    limited.write_text("1048576\n")
    unlimited.write_text("max\n")
    assert total_memory((tmp_path / "missing", unlimited)) == machine > MB
    assert total_memory((limited,)) == MB


async def test_everything_passes_and_the_runtime_finds_the_limit() -> None:
    async with SPEC.build(MemoryLimiterConfig(limit=Size("1GiB")), FakeContext("memory_limiter")) as processor:
        batch: Batch[object] = Batch([1, 2], "s", 1)
        assert await processor.process(batch) is batch
        assert isinstance(processor, Limits)
        assert not processor.refuses(0.0)


def test_this_machine_is_measured() -> None:
    collect_garbage()
    assert 0 < this_machine().used() < this_machine().total()


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({}, ""),
        ({"limit": Size("1MiB"), "spike_limit": Size("1MiB")}, "spike_limit"),
        ({"limit_percentage": 120.0}, "limit_percentage"),
        ({"limit_percentage": 50.0, "spike_limit_percentage": 50.0}, "spike_limit_percentage"),
        ({"limit": Size("1MiB"), "check_interval": Duration(0)}, "check_interval"),
    ],
)
def test_options_that_cannot_be_meant_are_problems(options: dict[str, object], option: str) -> None:
    assert [found for found, _ in MemoryLimiterConfig(**options).problems()] == [option]  # type: ignore[arg-type]
