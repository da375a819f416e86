"""Finding components: by hand, by entry point, and what is said of those that are not there or broken."""

import sys
from pathlib import Path

import pytest

from pipeline.batch import Batch
from pipeline.components import ProcessorSpec
from pipeline.events import Event
from pipeline.signals import Signal
from pipeline.testing.context import FakeContext
from pipeline.topology.registry import KINDS, NoComponent, Registry, kind_of

PLUGIN = '''
"""A plugin of somebody else."""

from pipeline.components import ExporterSpec, ProcessorSpec
from pipeline.signals import Signal
import msgspec


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing to set."""


def build(config, context):
    raise AssertionError


SPEC = ProcessorSpec("theirs", Options, build, takes=frozenset({Signal.EVENTS}))
WRONG_KIND = ExporterSpec("theirs", Options, build, takes=frozenset({Signal.EVENTS}))
NUMBER = 5


def drop_logs(event):
    """Drops what users log."""
    return None if event.type == "LOG" else event


async def drop_later(event):
    return event


def drop_two(event, other):
    return event
'''

ENTRY_POINTS = """
[dagtel.processors]
theirs = their_plugin:SPEC
drop_logs = their_plugin:drop_logs
drop_later = their_plugin:drop_later
drop_two = their_plugin:drop_two
wrong_kind = their_plugin:WRONG_KIND
number = their_plugin:NUMBER
gone = their_plugin:GONE
missing = no_such_module:SPEC
crashes = their_crash:SPEC
leaves = their_exit:SPEC
[dagtel.receivers]
theirs = their_plugin:SPEC
"""


def install(folder: Path, name: str, entry_points: str) -> None:
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    install(tmp_path, "their-plugin", ENTRY_POINTS)
    install(tmp_path, "their-copy", "[dagtel.processors]\ntwice = their_plugin:SPEC\n")
    install(tmp_path, "their-rival", "[dagtel.processors]\ntwice = their_rival:SPEC\n")
    (tmp_path / "their_plugin.py").write_text(PLUGIN)
    (tmp_path / "their_crash.py").write_text("1 / 0")
    (tmp_path / "their_exit.py").write_text("import sys; sys.exit('bye')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "their_plugin", raising=False)
    return Registry.installed()


def refused(registry: Registry, name: str) -> str:
    with pytest.raises(NoComponent) as caught:
        registry.spec("processors", name)
    return str(caught.value)


def test_a_plugin_is_loaded_when_it_is_named_and_not_before(installed: Registry) -> None:
    assert "theirs" in installed.names("processors")
    assert "their_plugin" not in sys.modules
    spec = installed.spec("processors", "theirs")
    assert isinstance(spec, ProcessorSpec)
    assert installed.spec("processors", "theirs") is spec


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "missing",
            "(no_such_module:SPEC of X) does not import: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("crashes", "(their_crash:SPEC of X) does not import: ZeroDivisionError: division by zero"),
        ("leaves", "(their_exit:SPEC of X) does not import: SystemExit: bye"),
        (
            "gone",
            "(their_plugin:GONE of X) does not import: AttributeError: module 'their_plugin' has no attribute 'GONE'",
        ),
        ("number", "is no processor: it is of type int, not a ProcessorSpec"),
        ("wrong_kind", "is no processor: it is of type ExporterSpec, not a ProcessorSpec"),
        ("drop_later", "is no processor: a coroutine function; write `def`, or a ProcessorSpec"),
        ("drop_two", "is no processor: it does not take one event: missing a required argument: 'other'"),
    ],
)
def test_a_plugin_that_is_broken_says_which_and_why(installed: Registry, name: str, said: str) -> None:
    assert refused(installed, name) == f"the plugin `{name}` {said.replace('of X', 'of their-plugin 1.0')}"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("thiers", "there is no processor `thiers`; did you mean `theirs`?"),
        ("kafka", "there is no processor `kafka`; `kafka` is a receiver"),
    ],
)
def test_a_name_that_is_not_there_lists_the_near_ones(installed: Registry, name: str, said: str) -> None:
    assert refused(installed, name) == said


def test_a_name_that_two_packages_publish_is_nobody_s(installed: Registry) -> None:
    said = refused(installed, "twice")
    assert said.startswith("the name `twice` is published twice: ")
    assert "their_plugin:SPEC of their-copy 1.0" in said
    assert "their_rival:SPEC of their-rival 1.0" in said


@pytest.mark.anyio
async def test_a_plain_function_is_a_processor_of_events(installed: Registry) -> None:
    spec = installed.spec("processors", "drop_logs")
    assert isinstance(spec, ProcessorSpec)
    assert (spec.name, spec.takes, spec.scope) == ("drop_logs", frozenset({Signal.EVENTS}), "partition")
    assert spec.config.__doc__ == "Drops what users log."
    events = [Event(b"", type, "r", 0, 20, "j", "", "") for type in ("LOG", "STEP_START", "LOG", "STEP_SUCCESS")]
    async with spec.build(spec.config(), FakeContext()) as processor:
        kept = await processor.process(Batch(events, "s", 0))
    assert [event.type for event in kept.items] == ["STEP_START", "STEP_SUCCESS"]


def test_ours_are_found_by_entry_points_too(installed: Registry) -> None:
    assert {"kafka", "file", "dagster"} <= set(installed.names("receivers"))
    assert {"spans", "metrics", "logs", "alerts"} <= set(installed.names("connectors"))


def test_a_registry_made_by_hand_holds_what_it_was_given(registry: Registry) -> None:
    assert registry.names("connectors") == ("again", "alerts", "spans")
    assert [kind_of(registry.spec(kind, registry.names(kind)[0])) for kind in KINDS] == list(KINDS)


def test_an_extension_of_a_registry_leaves_the_old_one_as_it_was(registry: Registry) -> None:
    more = Registry.of().extended(registry.spec("exporters", "sink"))
    assert (more.names("exporters"), Registry.of().names("exporters")) == (("sink",), ())
