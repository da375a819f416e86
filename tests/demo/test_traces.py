"""The tree that the demo draws, and what counts as nested."""

from demo.sink import Span
from demo.traces import fullest_tree, latest_tree, nested_user_spans


def span(id: str, parent: str = "", service: str = "dagster", start: int = 0, end: int = 10, trace: str = "t") -> Span:
    return Span(trace, id, parent, f"span {id}", service, start * 1_000_000, end * 1_000_000, failed=id == "c")


TRACE = [span("a"), span("b", "a", start=1), span("u", "b", "glucose", 2, 4), span("v", "u", "glucose", 3, 4)]


def test_the_tree_shows_children_in_order_of_time_with_their_share_of_it() -> None:
    assert latest_tree([*TRACE, span("c", "a", start=5)]) == [
        "span a [0ms – 10ms]",
        "├─ span b [1ms – 10ms]",
        "│  └─ span u [2ms – 4ms]",
        "│     └─ span v [3ms – 4ms]",
        "└─ span c [5ms – 10ms] ✗",
    ]


def test_the_trace_that_ended_last_is_shown_if_user_code_took_part() -> None:
    later = span("z", trace="later", end=99)
    assert latest_tree([*TRACE, later])[0] == "span a [0ms – 10ms]"
    assert latest_tree([*TRACE, later, span("y", "z", "glucose", trace="later")])[0] == "span z [0ms – 99ms]"
    assert fullest_tree([*TRACE, later, span("y", "z", "glucose", trace="later")])[0] == "span a [0ms – 10ms]"
    assert latest_tree([]) == []


def test_a_user_span_is_nested_when_a_span_of_the_daemon_stands_somewhere_above() -> None:
    lost = span("x", "not-here", "glucose")
    loop = [span("p", "q", "glucose"), span("q", "p", "glucose")]
    assert nested_user_spans([*TRACE, lost, *loop]) == 2
