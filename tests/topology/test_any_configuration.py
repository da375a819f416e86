"""Whatever stands in the file: there is a plan, or a ConfigError that says what is wrong. Never anything else."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.config.load import parse
from pipeline.config.redact import redacted
from pipeline.errors import ConfigError
from pipeline.topology.plan import Plan
from pipeline.topology.registry import Registry
from pipeline.topology.resolve import options, resolve
from pipeline.yaml_tree import dump

IDS = st.sampled_from(
    [
        "tap",
        "tap/b",
        "ledger",
        "filter",
        "dedup",
        "spans",
        "again",
        "again/b",
        "alerts",
        "sink",
        "lines",
        "pager",
        "pprof",
    ]
)
SECTIONS = ("receivers", "processors", "connectors", "exporters", "extensions", "service", "pipelines")
OPTIONS = ("telemetry", "metrics", "address", "state", "moved", "intake", "clock", "brokers", "url", "timeout", "poll")
NESTED = ("sending_queue", "batch", "retry_on_failure", "window", "limit", "login", "user")
KEYS = st.sampled_from((*SECTIONS, *OPTIONS, *NESTED, "events", "traces/x", "alerts", "<<", "", "a.b", "x[0]")) | IDS
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    IDS,
    st.sampled_from(
        ["5s", "1h30m", "64MiB", "${env:A}", "${env:B:-5}", "${env:", "$$", "${file:/none}", "events", "127.0.0.1:1"]
    ),
    st.text(max_size=8).filter(lambda text: max(text, default="") < "\ud800"),
)
VALUES = st.recursive(
    SCALARS, lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=4), max_leaves=15
)
LISTS = st.lists(IDS, max_size=3) | VALUES
PIPELINES = st.dictionaries(
    st.sampled_from(["events", "events/b", "traces", "traces/x", "alerts", "logs", "nonsense"]),
    st.fixed_dictionaries({}, optional={"receivers": LISTS, "processors": LISTS, "exporters": LISTS}),
    max_size=4,
)
BLOCKS = st.dictionaries(IDS, st.none() | st.just({"brokers": ["a"]}) | st.just({"url": "u"}) | VALUES, max_size=4)
CONFIGS = st.fixed_dictionaries(
    {"service": st.fixed_dictionaries({"pipelines": PIPELINES}, optional={"extensions": LISTS, "state": VALUES})},
    optional=dict.fromkeys(("receivers", "processors", "connectors", "exporters", "extensions"), BLOCKS),
)
EASY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


def plan_or_problems(text: str, registry: Registry) -> None:
    try:
        config = parse(text, "f.yaml", env={"A": "a,b"})
        dump(redacted(config.tree, options(config, registry)))
        assert isinstance(resolve(config, registry), Plan)
    except ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert str(problem).startswith("f.yaml:")
            assert problem.line >= 1
            assert problem.message


@EASY
@given(st.text() | st.text(st.sampled_from("abc:-[]{}&*!|>'\"%@` \n\t#?,$<=.0159~"), max_size=60))
def test_any_text_is_a_plan_or_problems(registry: Registry, text: str) -> None:
    plan_or_problems(text, registry)


@EASY
@given(VALUES.map(dump))
def test_any_yaml_is_a_plan_or_problems(registry: Registry, text: str) -> None:
    plan_or_problems(text, registry)


@EASY
@given(CONFIGS.map(dump))
def test_anything_like_a_configuration_is_a_plan_or_problems(registry: Registry, text: str) -> None:
    plan_or_problems(text, registry)


@EASY
@given(st.lists(st.tuples(KEYS, VALUES.map(dump)), max_size=3))
def test_any_settings_are_a_plan_or_problems(registry: Registry, pairs: list[tuple[str, str]]) -> None:
    try:
        config = parse("", "f.yaml", [f"{key}={value}" for key, value in pairs], {})
        resolve(config, registry)
    except ConfigError as error:
        assert error.problems


@EASY
@given(CONFIGS)
def test_a_plan_is_closed(registry: Registry, plain: object) -> None:
    """Whatever a plan's pipelines name is in the plan."""
    try:
        plan = resolve(parse(dump(plain), "f.yaml", env={"A": "a"}), registry)
    except ConfigError:
        return
    for pipeline in plan.pipelines.values():
        assert all(id in plan.receivers or id in plan.connectors for id in pipeline.receivers)
        assert all(id in plan.exporters or id in plan.connectors for id in pipeline.exporters)
        assert pipeline.receivers
        assert pipeline.exporters


def test_a_long_and_deep_file_of_any_kind_is_answered_soon(registry: Registry) -> None:
    for text in (
        "receivers:\n" + "".join(f"  tap/x{n}: {{brokers: [a], pol: 1}}\n" for n in range(2000)),
        "a: " * 5000,
    ):
        plan_or_problems(text, registry)
