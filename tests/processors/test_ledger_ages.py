"""Which row is the oldest: the same as of a sorted list, however they come."""

from hypothesis import given, settings
from hypothesis import strategies as st

from processors.ledger.ages import Ages

_rows = st.lists(st.tuples(st.integers(-(2**62), 2**62) | st.integers(0, 9), st.text(max_size=2)), unique=True)


@settings(max_examples=150, deadline=None)
@given(_rows, st.integers(0, 20))
def test_the_oldest_leaves_first_and_of_equal_ones_the_least_key(rows: list[tuple[int, str]], begun: int) -> None:
    ages, left = Ages(rows[:begun]), sorted(rows[:begun])
    for number, row in enumerate(rows[begun:]):
        ages.add(*row)
        left = sorted([*left, row])
        if number % 3 == 0:
            assert ages.take() == left.pop(0)[1]
    while left:
        assert ages.take() == left.pop(0)[1]
    assert ages.take() is None


def test_what_was_taken_takes_no_room() -> None:
    ages = Ages([])
    for number in range(20_000):
        ages.add(number, str(number))
        if number >= 100:
            assert ages.take() == str(number - 100)
    assert len(ages._keys) <= 2 * 1024 + 200
