"""Several files, `--set`, `${…}`: what the merged tree holds, and where its values stand."""

from pathlib import Path

import pytest

from pipeline.config.source import merge, parse, place, read
from pipeline.errors import ConfigError
from pipeline.facts import Json
from pipeline.yaml_tree import Yaml


def test_maps_merge_deeply_and_lists_replace(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("m: {x: 1, y: {p: 1}, l: [1, 2]}\nk: 1")
    (tmp_path / "b.yaml").write_text("m: {y: {q: 2}, l: [3]}\nn: 2")
    merged = read([tmp_path / "a.yaml", tmp_path / "b.yaml"]).tree.plain()
    assert merged == {"m": {"x": 1, "y": {"p": 1, "q": 2}, "l": [3]}, "k": 1, "n": 2}


@pytest.mark.parametrize(
    ("over", "merged"),
    [("a:", {"a": None}), ("a: 5", {"a": 5}), ("a: {c: 2}", {"a": {"b": 1, "c": 2}}), ("", {"a": {"b": 1}})],
)
def test_anything_but_a_map_replaces_a_map(over: str, merged: Json) -> None:
    assert merge(parse("a: {b: 1}").tree, parse(over).tree).plain() == merged


def test_each_value_keeps_the_place_where_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("m:\n  x: 1\n  y: 1\n")
    (tmp_path / "b.yaml").write_text("\n\nm:\n  y: 2\n")
    tree = read([tmp_path / "a.yaml", tmp_path / "b.yaml"], ["m.z=3"]).tree
    places = {key: (Path(place(tree, key).file).name, place(tree, key).line) for key in ("m.x", "m.y", "m.z", "m.q.r")}
    assert places == {"m.x": ("a.yaml", 2), "m.y": ("b.yaml", 4), "m.z": ("--set", 1), "m.q.r": ("a.yaml", 1)}


@pytest.mark.parametrize(
    ("settings", "plain"),
    [
        (["a.b=5"], {"a": {"b": 5, "c": 0}}),
        (["a.b='5'"], {"a": {"b": "5", "c": 0}}),
        (["a.b=[x, y]"], {"a": {"b": ["x", "y"], "c": 0}}),
        (["a.b={d: 1}", "a.b.e=2"], {"a": {"b": {"d": 1, "e": 2}, "c": 0}}),
        (["a.b="], {"a": {"b": None, "c": 0}}),
        (["a.b=x=y"], {"a": {"b": "x=y", "c": 0}}),
        (["a.b=1", "a.b=2"], {"a": {"b": 2, "c": 0}}),
        (["a.b=${env:V}"], {"a": {"b": "v", "c": 0}}),
        (["a=1"], {"a": 1}),
        (["z.y.x=1"], {"a": {"c": 0}, "z": {"y": {"x": 1}}}),
    ],
)
def test_settings_come_on_top(settings: list[str], plain: Json) -> None:
    assert parse("a: {c: 0}", "f.yaml", settings, {"V": "v"}).tree.plain() == plain


def test_settings_that_set_nothing_are_all_named() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("", "f.yaml", ["a", "b.c=1", "=1", "a..b=1", "a.b=[", "a." * 100 + "b=1"])
    assert [str(p) for p in caught.value.problems] == [
        "--set:1: 'a' sets nothing; write for example `service.clock=events`",
        "--set:3: '=1' sets nothing; write for example `service.clock=events`",
        "--set:4: 'a..b=1' sets nothing; write for example `service.clock=events`",
        "--set:5: a.b: is no YAML: while parsing a flow node expected the node content, but found '<stream end>'",
        f"--set:6: {('a.' * 30)!r} sets nothing; write for example `service.clock=events`",
    ]


def test_what_is_overridden_need_not_be_set() -> None:
    source = parse("a: ${env:NONE}", "f.yaml", ["a=1"], {})
    assert (source.tree.plain(), source.problems) == ({"a": 1}, ())


def test_a_failed_reference_is_broken_and_the_rest_stands() -> None:
    source = parse("a: ${env:NONE}\nb: [1, '${env:V}']", "f.yaml", env={"V": "v"})
    assert [(p.path, p.line) for p in source.problems] == [("a", 1)]
    assert isinstance(source.tree.value, dict)
    assert source.tree.value["a"].broken
    assert place(source.tree, "b[1]") == Yaml("v", "f.yaml", 2, "${env:V}")


def test_a_file_reference_is_relative_to_the_file_that_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "key").write_text("inner\n")
    (tmp_path / "key").write_text("outer\n")
    (tmp_path / "conf" / "a.yaml").write_text("a: ${file:key}")
    monkeypatch.chdir(tmp_path)
    assert read([Path("conf/a.yaml")], ["b=${file:key}"]).tree.plain() == {"a": "inner", "b": "outer"}


def test_a_huge_or_binary_file_reference_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "a.yaml").write_text("a: ${file:/dev/zero}\nb: ${file:binary}\nc: ${file:a\0b}".replace("\0", "\x01"))
    with pytest.raises(ConfigError, match="special characters"):
        read([tmp_path / "a.yaml"])
    (tmp_path / "a.yaml").write_text('a: ${file:/dev/zero}\nb: ${file:binary}\nc: "${file:a\\0b}"')
    messages = [p.message for p in read([tmp_path / "a.yaml"]).problems]
    assert messages[0] == "the file `/dev/zero` cannot be read: it is larger than 1048576 bytes"
    assert messages[1].startswith("the file `binary` cannot be read: 'utf-8' codec can't decode")
    assert messages[2].endswith("cannot be read: embedded null byte")


def test_no_files_are_an_empty_configuration() -> None:
    assert read([]).tree.plain() == {}
