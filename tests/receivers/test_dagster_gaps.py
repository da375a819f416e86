"""No id is forgotten before its time, and the list stays small."""

from hypothesis import given
from hypothesis import strategies as st

from receivers.dagster_gaps import Gaps


def gaps(*ids: int, limit: int = 100, timeout: float = 60) -> Gaps:
    return Gaps(ids, now=0, timeout=timeout, limit=limit)


def test_what_a_read_skips_is_missing_until_it_shows() -> None:
    missing = gaps()
    missing.passed(10, [12, 13, 16], now=0)
    assert missing.ids() == [11, 14, 15]
    missing.filled([14, 99])
    assert missing.ids() == [11, 15]


def test_an_id_is_given_up_once_all_are_gone_who_wrote_when_it_was_missed() -> None:
    missing = gaps()
    missing.passed(0, [2], now=0)
    missing.look(frozenset("ab"))
    missing.passed(2, [4], now=0)
    missing.look(frozenset("bc"))
    assert not missing.expire(10_000)
    missing.look(frozenset("acd"))  # another that is called as one before is none of those
    assert missing.expire(0)
    assert missing.ids() == [3]
    missing.look(frozenset("bd"))
    assert missing.expire(0)
    assert (missing.ids(), missing.expired) == ([], 2)


def test_an_id_is_not_given_up_before_somebody_has_looked_who_writes() -> None:
    missing = gaps(7)
    assert not missing.expire(10_000)
    missing.look(frozenset())
    assert missing.expire(0)


def test_an_id_is_given_up_once_it_is_missed_for_the_timeout_where_nobody_knows_who_writes() -> None:
    missing = gaps()
    missing.passed(0, [2], now=0)
    missing.passed(2, [4], now=30)
    missing.look(None)
    assert not missing.expire(59.9)
    assert missing.expire(60)
    assert (missing.ids(), missing.expired) == ([3], 1)


def test_stored_gaps_have_their_whole_time_again_after_a_restart() -> None:
    again = Gaps([7, 9], now=1000, timeout=60, limit=100)
    again.look(None)
    assert not again.expire(1059)
    assert again.ids() == [7, 9]


def test_over_the_limit_the_oldest_are_given_up_and_counted() -> None:
    missing = gaps(limit=3)
    missing.passed(0, [3, 6], now=0)
    assert (missing.ids(), missing.expired) == ([2, 4, 5], 1)


def test_a_hole_of_a_billion_ids_costs_no_more_than_the_limit() -> None:
    missing = gaps(5, limit=3)
    missing.passed(10, [1_000_000_000], now=0)
    assert missing.ids() == [999_999_997, 999_999_998, 999_999_999]
    assert missing.expired == 999_999_989 - 3 + 1


@given(st.lists(st.tuples(st.sets(st.integers(1, 60)), st.booleans()), max_size=12))
def test_every_id_is_read_or_missing(commits: list[tuple[set[int], bool]]) -> None:
    """Ids become visible in any order; a reader by `id > last` and gaps together sees each exactly once."""
    missing, visible, read, last = gaps(), set[int](), list[int](), 0
    for shown, ask in commits:
        visible |= shown
        if ask:
            late = sorted(visible & set(missing.ids()))
            missing.filled(late)
            read += late
        page = sorted(i for i in visible if i > last)
        missing.passed(last, page, now=0)
        read += page
        last = page[-1] if page else last
        assert sorted([*read, *missing.ids()]) == list(range(1, last + 1))
