"""Spans as people read them: a tree with times, as Jaeger draws it. Pure."""

from collections.abc import Callable, Iterable, Iterator

from demo.sink import Span


def latest_tree(spans: Iterable[Span]) -> list[str]:
    """The trace that ended last, of those whose root is here and in which user code took part, as lines."""
    return _tree(spans, lambda root, trace: root.end_ns)


def fullest_tree(spans: Iterable[Span]) -> list[str]:
    """The same of the trace with the most spans."""
    return _tree(spans, lambda root, trace: len(trace))


def _tree(spans: Iterable[Span], rank: Callable[[Span, list[Span]], int]) -> list[str]:
    traces: dict[str, list[Span]] = {}
    for span in spans:
        traces.setdefault(span.trace_id, []).append(span)
    roots = [
        (span, trace)
        for trace in traces.values()
        for span in trace
        if not span.parent_id and any(other.service == "glucose" for other in trace)
    ]
    if not roots:
        return []
    root, trace = max(roots, key=lambda both: rank(*both))
    children: dict[str, list[Span]] = {}
    for span in trace:
        children.setdefault(span.parent_id, []).append(span)
    return list(_lines(root, children, root.start_ns, "", ""))


def _lines(span: Span, children: dict[str, list[Span]], zero: int, lead: str, below: str) -> Iterator[str]:
    start, end = (span.start_ns - zero) / 1e6, (span.end_ns - zero) / 1e6
    mark = " ✗" if span.failed else ""
    yield f"{lead}{span.name} [{start:.0f}ms – {end:.0f}ms]{mark}"
    within = sorted(children.get(span.span_id, ()), key=lambda child: child.start_ns)
    for child in within:
        last = child is within[-1]
        yield from _lines(
            child, children, zero, f"{below}{'└─ ' if last else '├─ '}", f"{below}{'   ' if last else '│  '}"
        )


def nested_user_spans(spans: Iterable[Span]) -> int:
    """How many spans of user code have a span of the daemon above them, however far up."""
    known = {(span.trace_id, span.span_id): span for span in spans}
    return sum(_is_below_the_daemons(span, known) for span in known.values() if span.service == "glucose")


def _is_below_the_daemons(span: Span, known: dict[tuple[str, str], Span]) -> bool:
    seen: set[str] = set()
    above: Span | None = span
    while above is not None and above.span_id not in seen:
        if above.service != "glucose":
            return True
        seen.add(above.span_id)
        above = known.get((above.trace_id, above.parent_id))
    return False
