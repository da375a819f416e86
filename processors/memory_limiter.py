"""The `memory_limiter` processor: no more input while memory is short. Source: the Collector's memorylimiterprocessor.

What is in the pipelines passes; what is closed is the intake (`pipeline.components.Limits`), so that nothing is lost
and nothing is processed twice. Memory is the resident set of the process, which Python does not give back by itself:
without a nudge to the allocator a peak would keep the intake closed for ever.
"""

import ctypes
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
import psutil

from pipeline.batch import Batch
from pipeline.components import Context, ProcessorSpec
from pipeline.options import Duration, Size
from pipeline.signals import Signal


class MemoryLimiterConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Closes the intake while the process takes more memory than it should, and collects garbage. First in a pipeline.

    Over `limit` less `spike_limit` no more input is taken; over `limit` garbage is collected, too. Names and meaning as
    in the Collector; memory is what the operating system counts (RSS), measured every `check_interval`.
    """

    check_interval: Duration = Duration("1s")
    """How often memory is measured."""
    limit: Size = Size(0)
    """Bytes of memory at most (`400MiB`). 0: `limit_percentage` says."""
    limit_percentage: float = 0.0
    """The same in percent of the machine's or container's memory; `limit` goes before."""
    spike_limit: Size = Size(0)
    """How far below the limit the intake closes: what may come in between two measurements. 0: a fifth of the limit."""
    spike_limit_percentage: float = 0.0
    """The same in percent of the machine's or container's memory; `spike_limit` goes before."""
    min_gc_interval_when_soft_limited: Duration = Duration("10s")
    """Over the soft limit, garbage is collected at most this often."""
    min_gc_interval_when_hard_limited: Duration = Duration("0s")
    """Over the hard limit, garbage is collected at most this often; 0: at each measurement."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """What is wrong with the options beyond their types: (option, message)."""
        if self.check_interval <= 0:
            yield "check_interval", "must be more than 0, as in `1s`"
        if not self.limit and not self.limit_percentage:
            yield "", "needs `limit` (`400MiB`) or `limit_percentage`"
        for name in ("limit_percentage", "spike_limit_percentage"):
            if not 0 <= getattr(self, name) <= 100:
                yield name, "must lie between 0 and 100"
        if self.limit and self.spike_limit >= self.limit:
            yield "spike_limit", "must be less than `limit`"
        if not self.limit and self.limit_percentage and self.spike_limit_percentage >= self.limit_percentage:
            yield "spike_limit_percentage", "must be less than `limit_percentage`"


class Machine(msgspec.Struct, frozen=True):
    """What the limiter asks of the machine: bytes the process has, bytes there are, and to collect garbage."""

    used: Callable[[], int]
    total: Callable[[], int]
    collect: Callable[[], None]


class MemoryLimiter:
    """The processor. `soft` and `hard` are its limits in bytes."""

    def __init__(self, config: MemoryLimiterConfig, context: Context, machine: Machine) -> None:
        total = machine.total() if config.limit_percentage or config.spike_limit_percentage else 0
        self.hard = int(config.limit or total * config.limit_percentage / 100)
        self.soft = self.hard - int(config.spike_limit or total * config.spike_limit_percentage / 100 or self.hard / 5)
        self._config, self._context, self._machine = config, context, machine
        self._asked_s: float | None = None
        self._collected_s: float | None = None
        self._closed = False

    async def process(self, batch: Batch[object], /) -> Batch[object]:
        """Everything passes."""
        return batch

    def refuses(self, now_s: float) -> bool:
        """Whether the intake is closed. Measures at most once in `check_interval`; asking costs nothing between."""
        if self._asked_s is None or now_s - self._asked_s >= self._config.check_interval:
            self._asked_s = now_s
            self._measure(now_s)
        return self._closed

    def _measure(self, now_s: float) -> None:
        used = self._machine.used()
        if used > self.soft and self._may_collect(used, now_s):
            self._collected_s = now_s
            self._machine.collect()
            used = self._machine.used()
        if (used > self.soft) != self._closed:
            self._closed = not self._closed
            self._say(used)

    def _may_collect(self, used: int, now_s: float) -> bool:
        config = self._config
        hard = used > self.hard
        wait = config.min_gc_interval_when_hard_limited if hard else config.min_gc_interval_when_soft_limited
        return self._collected_s is None or now_s - self._collected_s >= wait

    def _say(self, used: int) -> None:
        facts = {"used": str(Size(used)), "soft_limit": str(Size(self.soft)), "hard_limit": str(Size(self.hard))}
        if self._closed:
            self._context.log.warning("Memory is short, no more input is taken.", extra=facts)
        else:
            self._context.log.info("Memory is back, input is taken again.", extra=facts)


_CGROUP: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def total_memory(limits: tuple[Path, ...] = _CGROUP) -> int:
    """Bytes that the process may have: the machine's, or the container's where that has fewer."""
    total = int(psutil.virtual_memory().total)
    for path in limits:
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, int(text))
    return total


def collect_garbage() -> None:
    """Collect, then ask the C library to give back what it keeps (glibc only; elsewhere there is no such call)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def this_machine() -> Machine:
    """The real one."""
    process = psutil.Process()
    return Machine(lambda: int(process.memory_info().rss), total_memory, collect_garbage)


@asynccontextmanager
async def build(config: MemoryLimiterConfig, context: Context) -> AsyncIterator[MemoryLimiter]:
    """Read the limits."""
    yield MemoryLimiter(config, context, this_machine())


SPEC = ProcessorSpec("memory_limiter", MemoryLimiterConfig, build, takes=frozenset(Signal))
