"""Requests of spans as `dagtel_native` writes them, against those that Python writes: byte for byte."""

import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connectors.spans import SPEC as SPANS
from exporters import otlp_json
from exporters.otlp_json import trace_request
from pipeline import names, signals
from pipeline.native import HAS_NATIVE, native
from pipeline.signals import Span, SpanEvent, SpanLink
from pipeline.testing.context import FakeContext
from tests.native.recorded import RECORDED, annotated

pytestmark = pytest.mark.skipif(not HAS_NATIVE, reason="dagtel-native is not installed")

T0 = 1_795_403_982_610_659_072


def twin(spans: Any) -> bytes | None:
    return native.OtlpSpans(signals, names.SCOPE).request(spans)


def in_python(spans: list[Span]) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(otlp_json, "_twin", None)
        return trace_request(spans)


def span(**fields: Any) -> Span:
    plain = {"trace_id": "t", "span_id": "s", "parent_id": "p", "name": "n", "start_ns": T0, "end_ns": T0 + 1}
    return Span(**{**plain, "attributes": {}, "resource": (), **fields})


def with_value(value: Any) -> Span:
    return span(attributes={"a": value})


async def spans_of(name: str) -> list[Span]:
    batch = await annotated(name)
    async with SPANS.build(SPANS.config(), FakeContext()) as spans:
        return list(await spans.process(batch))


@pytest.mark.anyio
@pytest.mark.parametrize("name", RECORDED)
async def test_every_recorded_span_is_written_alike(name: str) -> None:
    spans = await spans_of(name)
    assert len(spans) > 20
    assert twin(spans) == in_python(spans)
    for one in spans:
        assert twin([one]) == in_python([one])


texts = st.text(st.characters(codec="utf-8"), max_size=20) | st.text('"\\/\x00\x1f\x7f\n é€🛒 abcdefgh', max_size=40)
odd_texts = st.text(st.characters(codec=None), max_size=20)
small, big = st.integers(-(2**63), 2**63 - 1), st.integers(-(2**70), 2**70)


def any_spans(texts: st.SearchStrategy[str], ints: st.SearchStrategy[int]) -> st.SearchStrategy[list[Span]]:
    values = st.one_of(texts, st.booleans(), ints, st.floats(), st.lists(texts, max_size=3).map(tuple))
    attributes = st.dictionaries(texts, values, max_size=4)
    return st.lists(
        st.builds(
            Span,
            texts,
            texts,
            texts,
            texts,
            ints,
            ints,
            attributes,
            st.lists(st.tuples(texts, texts), max_size=2).map(tuple),
            ints.filter(lambda kind: -(2**63) <= kind < 2**64),
            st.lists(st.builds(SpanEvent, texts, ints, attributes), max_size=2).map(tuple),
            st.lists(st.builds(SpanLink, texts, texts, attributes), max_size=2).map(tuple),
            st.none() | texts,
            st.booleans(),
        ),
        min_size=1,
        max_size=4,
    )


@given(any_spans(texts, small))
@example([span(error="", ok=True)])
@example([span(attributes={"none": (), "nan": math.nan, "up": math.inf, "down": -math.inf, "zero": -0.0})])
def test_whatever_is_plain_is_written_alike(spans: list[Span]) -> None:
    assert twin(spans) == in_python(spans)


@given(any_spans(odd_texts, big))
def test_what_is_odd_is_written_alike_or_left_to_python(spans: list[Span]) -> None:
    written = twin(spans)
    try:
        expected = in_python(spans)
    except UnicodeEncodeError:
        assert written is None
    else:
        assert written is None or written == expected
        assert trace_request(spans) == expected


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(2.0**53)
@example(5e-324)
@example(1.7976931348623157e308)
@example(2.2250738585072014e-308)
def test_every_float_is_written_alike(value: float) -> None:
    assert twin([with_value(value)]) == in_python([with_value(value)])


def test_floats_of_every_size_are_written_alike() -> None:
    values = [float(f"{digits}e{power}") for digits in (1, 5, 12345, 1.5, -9.99) for power in range(-330, 305)]
    spans = [span(attributes={f"{place}": value for place, value in enumerate(values)})]
    assert twin(spans) == in_python(spans)


@given(st.lists(st.sampled_from(["a", '"', "\\", "\n", "\x00", "\x1f", "\x20", "\x7f", "é", "🛒"]), max_size=40))
def test_escapes_at_every_place_are_written_alike(parts: list[str]) -> None:
    assert twin([span(name="".join(parts))]) == in_python([span(name="".join(parts))])


def test_spans_stand_by_their_resource_in_the_order_in_which_resources_came() -> None:
    def resource(name: str) -> tuple[tuple[str, str], ...]:
        return (("service.name", "".join(name)), ("x", "y"))

    shared = resource("one")
    order = [shared, resource("two"), resource("o" + "ne"), (), resource("two"), shared, (("service.name", "one"),)]
    spans = [span(name=f"{place}", resource=each) for place, each in enumerate(order)]
    assert twin(spans) == in_python(spans)


class Odd(str):
    """A text that is more than one."""


class OddSpan(Span, frozen=True):
    """A span that is more than one."""


@pytest.mark.parametrize(
    "odd",
    [
        span(name="\ud800"),
        span(name=Odd("n")),
        span(error="\udfff"),
        span(resource=(("a", "\ud800"),)),
        span(resource=(("a", Odd("b")),)),
        span(resource=[("a", "b")]),
        span(resource=(["a", "b"],)),
        span(resource=(("a", "b", "c"),)),
        span(start_ns=2**63),
        span(end_ns=-(2**63) - 1),
        span(end_ns=1.5),
        span(kind=True),
        span(ok=1),
        span(events=[]),
        span(links=[]),
        span(links=(SpanEvent("n", 1, {}),)),
        span(attributes={Odd("k"): "v"}),
        span(attributes=None),
        with_value("\ud800"),
        with_value(2**63),
        with_value(-(2**63) - 1),
        with_value(Odd("v")),
        with_value(["a"]),
        with_value(("a", Odd("b"))),
        with_value(("a", "\ud800")),
        with_value(None),
        span(events=(SpanEvent("n", 2**63, {}),)),
        span(events=(SpanEvent("n", 1, {"a": None}),)),
        span(links=(SpanLink("t", "s", {"a": None}),)),
        OddSpan("t", "s", "p", "n", 1, 2, {}, ()),
        SpanEvent("n", 1, {}),
        None,
    ],
)
def test_what_is_odd_is_left_to_python(odd: Any) -> None:
    assert twin([span(), odd]) is None


def test_no_list_and_no_span_is_left_to_python() -> None:
    assert (twin(()), twin(None), twin([])) == (None, None, None)
    assert trace_request([]) == in_python([])


def test_python_writes_what_the_twin_leaves_to_it() -> None:
    spans = [span(), with_value(2**63), with_value(str(n) for n in range(2))]
    assert b'{"stringValue":"9223372036854775808"}' in trace_request(spans)
