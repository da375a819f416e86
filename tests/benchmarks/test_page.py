"""The pages that benchmarks write: a part measured anew leaves the rest alone."""

from pathlib import Path

from benchmarks.page import replaced, table, write

HEAD = ["# Page", "", "What it is."]
ORDER = ["One", "Two", "Three"]


def test_a_section_measured_anew_replaces_its_own_and_no_other() -> None:
    before = replaced("", HEAD, ORDER, {"One": ["a"], "Three": ["c"]})
    after = replaced(before, HEAD, ORDER, {"Three": ["d", "", "e"]})
    assert after == "# Page\n\nWhat it is.\n\n## One\n\na\n\n## Three\n\nd\n\ne\n"


def test_sections_stand_in_order_whatever_was_measured_first() -> None:
    page = replaced(replaced("", HEAD, ORDER, {"Three": ["c"]}), HEAD, ORDER, {"One": ["a"], "Two": ["b"]})
    assert [line for line in page.splitlines() if line.startswith("## ")] == ["## One", "## Two", "## Three"]


def test_a_section_that_there_is_no_more_goes_and_the_head_is_renewed() -> None:
    old = replaced("", ["# Old"], ["Gone"], {"Gone": ["x"]})
    assert replaced(old, HEAD, ORDER, {"One": ["a"]}) == "# Page\n\nWhat it is.\n\n## One\n\na\n"


def test_writing_the_same_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "PAGE.md"
    write(path, HEAD, ORDER, {"One": ["a"], "Two": table(("x",), [(1,)])})
    first = path.read_text()
    write(path, HEAD, ORDER, {})
    assert path.read_text() == first


def test_figures_have_commas_and_one_decimal_where_they_are_no_whole_numbers() -> None:
    assert table(("", "n", "µs"), [("a", 10000, 1234.56)]) == [
        "|  | n | µs |",
        "| --- | --- | --- |",
        "| a | 10,000 | 1,234.6 |",
    ]
