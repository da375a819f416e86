"""`dagtel components`: the list, one with its options, as text of 80 columns and as JSON."""

import json
from collections.abc import Callable
from typing import Literal

import msgspec
import pytest
from click.testing import Result

from pipeline.cli.describe import Option, block_options, in_yaml
from pipeline.delivery import Delivery
from pipeline.options import Duration, Secret, Size

Dagtel = Callable[..., Result]


class Inner(msgspec.Struct, frozen=True, kw_only=True):
    size: Size = Size("1MiB")
    """How large."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    url: str
    """Where."""
    inner: Inner = Inner(size=Size("2MiB"))
    maybe: Inner | None = None
    """Perhaps."""
    many: tuple[Inner, ...] = ()
    named: dict[str, Inner] = {}
    mode: Literal["a", "b"] = "a"


def test_the_list_has_all_kinds_a_line_or_two_each_within_80_columns(dagtel: Dagtel) -> None:
    result = dagtel("components")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line for line in lines if line and not line.startswith(" ")] == [
        "receivers",
        "processors",
        "connectors",
        "exporters",
    ]
    assert max(map(len, lines)) <= 80
    assert all(line == line.rstrip() for line in lines)
    assert any(line.startswith("  spans ") for line in lines)


def test_the_list_as_json_has_a_summary_each(dagtel: Dagtel) -> None:
    listed = {(one["kind"], one["name"]): one for one in json.loads(dagtel("components", "--json").stdout)}
    assert {("receivers", "kafka"), ("exporters", "kafka"), ("connectors", "spans")} <= set(listed)
    assert listed["connectors", "spans"]["signals"] == "events → traces"
    assert all(one.get("summary") or one.get("broken") for one in listed.values())


def test_one_shows_its_options_with_types_defaults_and_words(dagtel: Dagtel) -> None:
    result = dagtel("components", "exporters/file")
    assert result.exit_code == 0
    assert "exporters/file  events, traces, metrics, logs, alerts →" in result.stdout
    assert "    path  text; required\n        The file." in result.stdout
    assert "    sending_queue.queue_size  size; default 512MiB" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_a_name_without_a_kind_shows_all_of_that_name(dagtel: Dagtel) -> None:
    assert [one["kind"] for one in json.loads(dagtel("components", "file", "--json").stdout)] == [
        "receivers",
        "exporters",
    ]
    assert [one["kind"] for one in json.loads(dagtel("components", "exporter/file", "--json").stdout)] == ["exporters"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("kafk", "there is no component `kafk`; did you mean `kafka`?\n"),
        ("receivers/kafk", "there is no component `receivers/kafk`; did you mean `kafka`?\n"),
        ("receivers/spans", "there is no component `receivers/spans`\n"),
        ("\x1b[2J", "there is no component `\\x1b[2J`\n"),
    ],
)
def test_a_name_that_is_not_there_lists_the_near_ones(dagtel: Dagtel, name: str, said: str) -> None:
    result = dagtel("components", name)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", said)


def test_options_of_nested_blocks_have_their_path_and_the_defaults_of_their_place() -> None:
    assert list(block_options(Options)) == [
        Option("url", "text", "", True, "Where."),
        Option("inner.size", "size", "2MiB", False, "How large."),
        Option("maybe", "map", "none", False, "Perhaps."),
        Option("maybe.size", "size", "1MiB", False, "How large."),
        Option("many", "list of maps", "[]", False, ""),
        Option("many[].size", "size", "1MiB", False, "How large."),
        Option("named", "map of maps", "{}", False, ""),
        Option("named.<name>.size", "size", "1MiB", False, "How large."),
        Option("mode", "`a` or `b`", "a", False, ""),
    ]


def test_an_exporter_s_own_delivery_defaults_are_shown() -> None:
    shown = {option.name: option.default for option in block_options(Delivery, Delivery(timeout=Duration("9s")))}
    assert (shown["timeout"], shown["retry_on_failure.initial_interval"]) == ("9s", "1s")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Duration("90m"), "1h30m"),
        (Size("64MiB"), "64MiB"),
        (Secret(""), '""'),
        (Secret("x"), "[redacted]"),
        ("", '""'),
        ("5", '"5"'),
        ("text", "text"),
        (True, "true"),
        (None, "none"),
        (0.5, "0.5"),
        (("a", "b"), "[a, b]"),
        ({"job": "dagster"}, "{job: dagster}"),
        (frozenset("ba"), "[a, b]"),
        (Inner(), "{size: 1MiB}"),
    ],
)
def test_defaults_are_shown_as_they_are_written(value: object, text: str) -> None:
    assert in_yaml(value) == text
