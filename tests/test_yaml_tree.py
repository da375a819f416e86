"""YAML with lines: what scalars mean, what is refused, that hostile text costs little, that dump and compose agree."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.facts import Json
from pipeline.yaml_tree import MAX_BYTES, Yaml, compose, dump, read_text

TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\t:#-'\"${}[]&*!|>%@`,?"), max_size=12
)
PLAIN: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(TEXT, below, max_size=4),
    max_leaves=12,
)


def plain(text: str) -> Json:
    tree, problems = compose(text, "f.yaml")
    assert problems == []
    return tree.plain()


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        compose(text, "f.yaml")
    [problem] = caught.value.problems
    return str(problem)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2026-11-23", "2026-11-23"),
        ("1_000", "1_000"),
        ("0x1F", 31),
        ("0o17", 15),
        ("007", 7),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-.INF", float("-inf")),
        ("~", None),
        ("", None),
        ("TRUE", True),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("!!int '5'", 5),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_scalars_mean_what_yaml_1_2_says(text: str, value: Json) -> None:
    assert plain(f"k: {text}") == {"k": value}


def test_keys_are_texts_as_they_are_written() -> None:
    assert plain("8080: a\nnull: b\n0x10: c\nyes: d") == {"8080": "a", "null": "b", "0x10": "c", "yes": "d"}


def test_an_entry_has_the_line_of_its_key_and_an_item_its_own() -> None:
    tree, _ = compose("a:\n\n  b:\n    - x\n    -\n      y\n", "f.yaml")
    assert isinstance(tree.value, dict)
    a = tree.value["a"]
    assert isinstance(a.value, dict)
    b = a.value["b"]
    assert isinstance(b.value, list)
    assert [(n.file, n.line) for n in (a, b, *b.value)] == [("f.yaml", 1), ("f.yaml", 3), ("f.yaml", 4), ("f.yaml", 6)]


def test_an_alias_is_the_same_value_at_its_own_place() -> None:
    tree, _ = compose("a: &x {k: 1}\nb: *x", "f.yaml")
    assert tree.plain() == {"a": {"k": 1}, "b": {"k": 1}}
    assert isinstance(tree.value, dict)
    assert tree.value["b"].line == 2


def test_merge_keys_fill_in_what_is_not_written() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc:\n  <<: [*a, *b]\n  x: 3\nd: {'<<': 1}"
    assert plain(text) == {
        "a": {"x": 1, "y": 1},
        "b": {"y": 2, "z": 2},
        "c": {"x": 3, "y": 1, "z": 2},
        "d": {"<<": 1},
    }


def test_a_key_written_twice_is_a_problem_and_the_first_counts() -> None:
    tree, problems = compose("a:\n  b: 1\n  c: 2\n  b: 3\n", "f.yaml")
    assert tree.plain() == {"a": {"b": 1, "c": 2}}
    assert [str(p) for p in problems] == ["f.yaml:4: a.b: is written twice; the first is on line 2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [b", "f.yaml:1: is no YAML: while parsing a flow sequence expected ',' or ']', but got '<stream end>'"),
        (
            "\ta",
            "f.yaml:1: is no YAML: while scanning for the next token found character '\\t' that cannot start any token",
        ),
        ("a\nb: \x00", "f.yaml:2: is no YAML: special characters are not allowed"),
        ("a: 1\n---\nb: 1", "f.yaml:2: holds more than one YAML document (`---`)"),
        ("a: &x [*x]", "f.yaml:1: a[0]: the alias `*x` stands within what it names"),
        ("a: *x", "f.yaml:1: a: the alias `*x` names nothing"),
        ("? [a]\n: b", "f.yaml:1: a key is a text, not a list, a map or an alias"),
        ("a: !!python/name:os.system x", "f.yaml:1: a: the tag `!!python/name:os.system` means nothing here"),
        ("a: !env X", "f.yaml:1: a: the tag `!env` means nothing here"),
        ("a:\n  <<: 5", "f.yaml:2: a.<<: `<<` takes a map or a list of maps"),
        ("a: " + "9" * 5000, "f.yaml:1: a: is a number of too many digits"),
        ('a: "\\uD800"', "f.yaml:1: a: holds half of a surrogate pair, which is no text"),
    ],
)
def test_what_is_no_yaml_or_means_nothing_is_refused_with_its_line(text: str, message: str) -> None:
    assert refused(text) == message


@pytest.mark.parametrize("text", ['a: "\\UFFFFFFFF"', f"%YAML {'9' * 5000}.1\n--- a", "!<a b> c"])
def test_what_crashes_the_scanner_is_a_problem_like_any_other(text: str) -> None:
    assert refused(text).startswith("f.yaml:1: is no YAML: ")


def test_deep_nesting_ends_at_the_limit_and_not_at_the_stack() -> None:
    for text in ("[" * 100_000, "{a: " * 100_000, "- " * 100_000):
        assert refused(text).endswith("is nested deeper than 64 levels")


def test_a_bomb_of_aliases_ends_before_it_goes_off() -> None:
    wide = "a0: &a0 [" + ", ".join("x" * 10) + "]\n"
    wide += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
    assert "holds more than 100000 values once its aliases are unfolded" in refused(wide)
    deep = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 100))
    assert "is nested deeper than 64 levels" in refused(deep)


def test_a_huge_file_is_refused_without_being_read_whole(tmp_path: Path) -> None:
    huge = tmp_path / "huge.yaml"
    with huge.open("wb") as file:
        file.truncate(100 * MAX_BYTES)
    with pytest.raises(ConfigError, match=f"is larger than {MAX_BYTES} bytes"):
        read_text(huge)
    with pytest.raises(ConfigError, match="is larger than 10 bytes"):
        read_text(Path("/dev/zero"), max_bytes=10)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_text(tmp_path / "f.yaml") == "a: 1"


def test_a_path_that_is_none_is_a_problem() -> None:
    with pytest.raises(ConfigError, match="cannot be read: embedded null byte"):
        read_text(Path("a\0b"))


@given(PLAIN)
def test_what_is_dumped_is_read_back_as_the_same(value: Json) -> None:
    tree, problems = compose(dump(value), "f.yaml")
    assert (tree.plain(), problems) == (value, [])


@given(st.text(max_size=80) | TEXT)
def test_any_text_is_a_tree_or_a_problem(text: str) -> None:
    try:
        tree, _ = compose(text, "f.yaml")
        assert isinstance(tree, Yaml)
    except ConfigError as error:
        assert len(error.problems) == 1
