"""Blocks into typed options: what is taken, over which defaults, and what is said of the rest."""

from enum import Enum
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.decode import decode, decode_sound, split
from pipeline.config.source import parse
from pipeline.delivery import Delivery, QueueBatch, RetryOnFailure, SendingQueue
from pipeline.errors import Problem
from pipeline.options import Duration, Secret, Size


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Inner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    a: int = 1
    b: int = 2


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    text: str = "t"
    number: int = 0
    fraction: float = 0.0
    flag: bool = False
    wait: Duration = Duration("1s")
    room: Size = Size("1KiB")
    key: Secret = Secret("")
    names: tuple[str, ...] = ()
    numbers: list[int] = []
    kinds: frozenset[str] = frozenset()
    labels: dict[str, str] = {}
    waits: dict[str, Duration] = {}
    mode: Literal["one", "two"] = "one"
    level: Literal[1, 2] = 1
    colour: Colour = Colour.RED
    inner: Inner = Inner(a=10)
    maybe: Inner | None = None
    off: int | None = 5
    many: tuple[Inner, ...] = ()
    named: dict[str, Inner] = {}
    bounded: Annotated[int, msgspec.Meta(ge=1, le=9)] = 5
    either: int | str = 0
    source: str = msgspec.field(default="", name="from")


class Refuses(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    a: int = 0

    def __post_init__(self) -> None:
        if self.a == 13:
            raise ValueError("thirteen brings bad luck")


def decoded(text: str, **env: str) -> tuple[Options | None, list[str]]:
    source = parse(text, "f.yaml", env=env)
    problems: list[Problem] = [*source.problems]
    return decode(source.tree, Options, "x", problems), [str(p) for p in problems]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("{}", Options()),
        ("", Options()),
        ("text: a", Options(text="a")),
        ("text: '5'", Options(text="5")),
        ("text: no", Options(text="no")),
        ("fraction: 5", Options(fraction=5.0)),
        ("wait: 90", Options(wait=Duration(90))),
        ("wait: 2 hours", Options(wait=Duration("2h"))),
        ("room: 5", Options(room=Size(5))),
        ("names: [a, b]", Options(names=("a", "b"))),
        ("kinds: [a, b]", Options(kinds=frozenset("ab"))),
        ("waits: {a: 5s}", Options(waits={"a": Duration("5s")})),
        ("mode: two", Options(mode="two")),
        ("level: 2", Options(level=2)),
        ("colour: blue", Options(colour=Colour.BLUE)),
        ("maybe: {a: 3}", Options(maybe=Inner(a=3))),
        ("many: [{a: 3}, {}]", Options(many=(Inner(a=3), Inner()))),
        ("named: {n: {a: 3}, m: }", Options(named={"n": Inner(a=3), "m": Inner()})),
        ("bounded: 9", Options(bounded=9)),
        ("either: 5", Options(either=5)),
        ("either: five", Options(either="five")),
        ("from: here", Options(source="here")),
        ("off: ", Options(off=None)),
    ],
)
def test_a_block_becomes_its_options(text: str, options: Options) -> None:
    assert decoded(text) == (options, [])


def test_null_means_the_default_and_a_nested_block_is_laid_over_its_own() -> None:
    assert decoded("text:\nwait:\ninner:\nlabels:")[0] == Options()
    assert decoded("inner: {b: 3}")[0] == Options(inner=Inner(a=10, b=3))


def test_durations_and_sizes_and_secrets_are_of_their_types() -> None:
    options, _ = decoded("wait: 1m\nroom: 1MiB\nkey: s3cret")
    assert options is not None
    assert (options.wait.ns, options.room, options.key.reveal()) == (60_000_000_000, 2**20, "s3cret")
    assert isinstance(options.room, Size)
    assert str(options.key) == "[redacted]"


@pytest.mark.parametrize(
    ("text", "value", "options"),
    [
        ("text: ${env:V}", "00123", Options(text="00123")),
        ("text: ${env:V}", "#data-alerts", Options(text="#data-alerts")),
        ("text: ${env:V}", "true", Options(text="true")),
        ("key: ${env:V}", "12345", Options(key=Secret("12345"))),
        ("number: ${env:V}", "8080", Options(number=8080)),
        ("number: '${env:V}'", "8080", Options(number=8080)),
        ("number: ${env:V}0", "8", Options(number=80)),
        ("flag: ${env:V}", "true", Options(flag=True)),
        ("wait: ${env:V}", "30", Options(wait=Duration(30))),
        ("wait: ${env:V}", "2 hours", Options(wait=Duration(7200))),
        ("off: ${env:V}", "", Options(off=None)),
        ("level: ${env:V}", "2", Options(level=2)),
        ("mode: ${env:V}", "two", Options(mode="two")),
        ("names: ${env:V}", "a, b,,c", Options(names=("a", "b", "c"))),
        ("names: ${env:V}", "a\nb\n", Options(names=("a", "b"))),
        ("names: ${env:V}", "[a, 'b,c']", Options(names=("a", "b,c"))),
        ("names: ${env:V}", "", Options()),
        ("names: ['${env:V}']", "a,b", Options(names=("a,b",))),
        ("numbers: ${env:V}", "1,2", Options(numbers=[1, 2])),
        ("labels: ${env:V}", "{a: b}", Options(labels={"a": "b"})),
        ("labels: {a: '${env:V}'}", "5", Options(labels={"a": "5"})),
        ("inner: ${env:V}", "{a: 7}", Options(inner=Inner(a=7))),
    ],
)
def test_what_comes_from_outside_is_typed_by_its_place(text: str, value: str, options: Options) -> None:
    assert decoded(text, V=value) == (options, [])


@pytest.mark.parametrize(
    ("text", "value", "said"),
    [
        ("number: ${env:V}", "s3cret", "x.number: expected a whole number, got what `${env:V}` gives"),
        ("number: ${env:V}", "", "x.number: expected a whole number, got what `${env:V}` gives"),
        ("number: ${env:V}", "9" * 5000, "x.number: expected a whole number, got what `${env:V}` gives"),
        ("wait: ${env:V}", "s3cret", "x.wait: expected a duration such as `30s` or `1h30m`, got what `${env:V}` gives"),
        ("bounded: ${env:V}", "99", "x.bounded: expected a whole number, got what `${env:V}` gives"),
        ("mode: ${env:V}", "s3cret", "x.mode: expected `one` or `two`, got what `${env:V}` gives"),
        ("labels: ${env:V}", "s3cret", "x.labels: expected a map, got what `${env:V}` gives"),
        ("labels: ${env:V}", "{a: [", "x.labels: expected a map, got what `${env:V}` gives"),
        ("numbers: ${env:V}", "1,s3cret", "x.numbers[1]: expected a whole number, got what `${env:V}` gives"),
    ],
)
def test_what_comes_from_outside_is_never_shown(text: str, value: str, said: str) -> None:
    assert decoded(text, V=value) == (None, [f"f.yaml:1: {said}"])


def test_every_problem_of_a_block_is_found() -> None:
    text = "number: a\nflag: 5\ntxt: b\ninner:\n  a: x\n  c: y\nmany:\n  - {a: 1}\n  - {a: z}\nwaits: {q: 1x}\n"
    assert decoded(text)[1] == [
        "f.yaml:3: x.txt: no such key; did you mean `text`?",
        "f.yaml:1: x.number: expected a whole number, got `a`",
        "f.yaml:2: x.flag: expected `true` or `false`, got `5`",
        "f.yaml:10: x.waits.q: '1x' is no duration; write for example `30s`, `1h30m` or `2 hours`",
        "f.yaml:6: x.inner.c: no such key; known: `a`, `b`",
        "f.yaml:5: x.inner.a: expected a whole number, got `x`",
        "f.yaml:9: x.many[1].a: expected a whole number, got `z`",
    ]


def test_a_failed_reference_is_said_once() -> None:
    options, said = decoded("number: ${env:NONE}\nnames: ['${env:NONE}']\nmaybe: ${env:NONE}")
    assert options is None
    assert [line.partition(":")[2].partition(":")[0] for line in said] == ["1", "2", "3"]


def test_a_type_that_refuses_says_why() -> None:
    problems: list[Problem] = []
    assert decode(parse("a: 13", "f.yaml").tree, Refuses, "x", problems) is None
    assert [str(p) for p in problems] == ["f.yaml:1: x: thirteen brings bad luck"]


def test_a_long_value_is_cut_in_the_message() -> None:
    assert all(len(line) < 260 for line in decoded(f"number: {'a' * 10_000}\nwait: {'b' * 10_000}")[1])


def test_a_plain_secret_is_never_shown_by_a_wrong_place() -> None:
    _, said = decoded("number: xoxb-123-abc\nlabels: https://u:pw@host\nnames: 'Bearer abc'")
    assert not any(word in line for line in said for word in ("xoxb", "pw@", "Bearer abc"))


def test_the_exporter_s_defaults_lie_under_the_user_s_delivery() -> None:
    base = Delivery(
        timeout=Duration("9s"),
        retry_on_failure=RetryOnFailure(multiplier=3.0),
        sending_queue=SendingQueue(batch=QueueBatch(max_size=7), num_consumers=2),
    )
    node = parse("retry_on_failure: {max_interval: 5s}\nsending_queue: {num_consumers: 3, batch: {}}\nurl: u").tree
    own, common = split(node, ("timeout", "retry_on_failure", "sending_queue"))
    assert own.plain() == {"url": "u"}
    assert decode(common, Delivery, "x", [], base) == Delivery(
        timeout=Duration("9s"),
        retry_on_failure=RetryOnFailure(multiplier=3.0, max_interval=Duration("5s")),
        sending_queue=SendingQueue(batch=QueueBatch(max_size=7), num_consumers=3),
    )


def test_what_is_sound_can_be_had_beside_the_problems() -> None:
    problems: list[Problem] = []
    node = parse("text: a\nnumber: b\nnames: [x, 5]\nnamed: {ok: {a: 3}, bad: 5, half: {a: x, b: 4}}").tree
    sound = decode_sound(node, Options, "x", problems)
    assert sound == Options(text="a", names=("x",), named={"ok": Inner(a=3), "half": Inner(a=1, b=4)})
    assert len(problems) == 4


@given(st.text(max_size=60))
def test_any_text_in_any_option_gives_options_or_problems(value: str) -> None:
    for name in msgspec.structs.fields(Options):
        options, said = decoded(f"{name.encode_name}: ${{env:V}}", V=value)
        assert (options is None) == bool(said)
