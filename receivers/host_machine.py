"""Disk, memory and load of this machine. The door to psutil for the host receiver."""

from collections.abc import Callable, Sequence
from typing import Final

import psutil

from receivers.readings import Figure, Level, Limits, Reading, percent, size

Before = Callable[[str], Level]
"""As how bad a thing was told."""

FIVE_MINUTES: Final = 1
"""Which of psutil's load averages: of 1, 5 and 15 minutes."""


def disk(mount: str, limits: Limits, before: Before) -> Reading:
    """The file system that `mount` is on. Raises OSError when there is no such folder."""
    usage = psutil.disk_usage(mount)
    thing, label = f"disk {mount}", (("mount_point", mount),)
    said = f"{usage.percent:.1f}% of {size(usage.total)} used, {size(usage.free)} free. {_limits(limits)}"
    return Reading(
        thing,
        f"Disk Almost Full: {mount}",
        limits.level(usage.percent, before(thing)),
        said,
        (
            Figure("disk_usage_percent", usage.percent, label),
            Figure("disk_used_bytes", float(usage.used), label),
            Figure("disk_total_bytes", float(usage.total), label),
        ),
    )


def memory(limits: Limits, before: Before) -> Reading:
    """What is in use and cannot be had without swapping."""
    usage = psutil.virtual_memory()
    used = usage.total - usage.available
    said = f"{usage.percent:.1f}% of {size(usage.total)} used, {size(usage.available)} available. {_limits(limits)}"
    return Reading(
        "memory",
        "Memory Almost Full",
        limits.level(usage.percent, before("memory")),
        said,
        (
            Figure("memory_usage_percent", usage.percent),
            Figure("memory_used_bytes", float(used)),
            Figure("memory_total_bytes", float(usage.total)),
        ),
    )


def load(limits: Limits, before: Before) -> Reading:
    """The load average of five minutes beside the CPUs that there are: 100 % is as much as they can do."""
    average, cpus = psutil.getloadavg()[FIVE_MINUTES], psutil.cpu_count() or 1
    share = percent(average, cpus)
    said = (
        f"A load of {average:.2f} over five minutes on {cpus} CPUs: {share:.0f}% of what they can do. {_limits(limits)}"
    )
    figures = (Figure("load_average", average), Figure("load_percent", share))
    return Reading("load", "High Load", limits.level(share, before("load")), said, figures)


def _limits(limits: Limits) -> str:
    named: Sequence[tuple[float, str]] = ((limits.warning, "WARNING"), (limits.critical, "CRITICAL"))
    return "Limits: " + ", ".join(f"{limit:g}% {level}" for limit, level in named if limit) + "."
