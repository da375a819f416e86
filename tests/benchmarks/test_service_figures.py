"""What the benchmarks read of the daemon: its histograms, its peak, how fast workers go."""

from math import inf

import pytest

from benchmarks.growth_workers import rate
from benchmarks.service import Histogram, histogram, peak_mib

PAGE = """\
# TYPE dagtel_checkpoint_pause_seconds histogram
dagtel_checkpoint_pause_seconds_bucket{le="0.01"} 90.0
dagtel_checkpoint_pause_seconds_bucket{le="0.05"} 99.0
dagtel_checkpoint_pause_seconds_bucket{le="0.1"} 100.0
dagtel_checkpoint_pause_seconds_bucket{le="+Inf"} 100.0
dagtel_checkpoint_pause_seconds_count 100.0
dagtel_checkpoint_pause_seconds_sum 0.5
dagtel_checkpoint_commit_seconds_bucket{le="0.01"} 1.0
dagtel_checkpoint_commit_seconds_sum 7.0
"""


def test_a_histogram_is_read_from_a_page_by_its_name() -> None:
    found = histogram(PAGE, "dagtel_checkpoint_pause_seconds")
    assert found == Histogram({0.01: 90, 0.05: 99, 0.1: 100, inf: 100}, 0.5)
    assert (found.count, found.mean) == (100, 0.005)


@pytest.mark.parametrize(("share", "bound"), [(0.5, 0.01), (0.9, 0.01), (0.99, 0.05), (0.995, 0.1), (1.0, 0.1)])
def test_buckets_say_the_least_bound_that_keeps_a_share(share: float, bound: float) -> None:
    assert histogram(PAGE, "dagtel_checkpoint_pause_seconds").at_most(share) == bound


def test_buckets_say_which_share_is_within_a_bound() -> None:
    assert histogram(PAGE, "dagtel_checkpoint_pause_seconds").within(0.05) == 0.99


def test_what_was_never_recorded_is_nothing() -> None:
    found = histogram("", "dagtel_checkpoint_pause_seconds")
    assert (found.count, found.mean, found.at_most(0.99), found.within(0.05)) == (0, 0.0, 0.0, 1.0)


def test_the_peak_is_read_in_mebibytes() -> None:
    assert peak_mib("VmPeak:\t  999 kB\nVmHWM:\t  204800 kB\nVmRSS:\t  1024 kB\n") == 200.0


def test_the_rate_leaves_out_the_first_and_the_last_tenth() -> None:
    """A start that takes long and an end that waits for a commit say nothing of the speed."""
    assert rate([(0.0, 0), (20.0, 100), (21.0, 500), (22.0, 900), (60.0, 1000)]) == 400.0


def test_a_rate_needs_two_looks() -> None:
    assert rate([(1.0, 1000)]) == 0.0
