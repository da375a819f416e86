"""How the driver joins what waits."""

from pipeline.components import Position, Read, Rejected
from pipeline.runtime.driver import joined


def read(items: str, next: int, behind: bool = True, bad: str = "") -> Read[str]:
    return Read("a/0", tuple(items), Position(next), [Rejected(b.encode(), "bad", b) for b in bad], behind, len(items))


def test_joined_reads_are_their_items_in_order_with_the_position_of_the_last() -> None:
    whole = joined([read("ab", 2, bad="x"), read("", 3), read("cd", 5, behind=False, bad="yz")])
    assert list(whole.items) == ["a", "b", "c", "d"]
    assert [bad.origin for bad in whole.rejected] == ["x", "y", "z"]
    assert (whole.source, whole.position, whole.behind, whole.size) == ("a/0", Position(5), False, 4)


def test_one_read_stays_as_it_is() -> None:
    one = read("ab", 2)
    assert joined([one]) is one
