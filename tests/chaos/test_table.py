"""A run of a part of the suite renews its rows of the table and leaves the others."""

from tests.chaos.table import Row, markdown, renewed, written_into


def row(order: float, fault: str, lost: int = 0) -> Row:
    return Row(order=order, fault=fault, times=1, events=1000, lost=lost, doubled=0, recovery="–")


def test_new_rows_take_the_places_of_old_ones_and_the_others_stay() -> None:
    old = [row(1, "kills"), row(2.1, "dead", lost=3), row(5, "full")]
    new = [row(2.1, "dead for an hour"), row(3, "poison")]
    assert renewed(old, new) == [old[0], new[0], new[1], old[2]]
    assert renewed([], new) == new
    assert renewed(old, []) == old


def test_the_table_stands_between_its_marks() -> None:
    page = "before\n<!-- chaos: begin -->\nold\n<!-- chaos: end -->\nafter"
    table = markdown([row(1, "kills")])
    assert table.splitlines()[-1] == "| kills | 1 | 1,000 | 0 | 0 | – |  |"
    assert written_into(page, table) == f"before\n<!-- chaos: begin -->\n\n{table}\n\n<!-- chaos: end -->\nafter"
