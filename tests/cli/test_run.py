"""`dagtel run` and `dagtel bridge`: from the arguments to the runtime, and its answers as exit codes."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import Result

from pipeline.cli.shipped import shipped
from pipeline.errors import ConfigError, Problem, StateError
from pipeline.runtime.reload import Reloading
from pipeline.topology.plan import Plan

Dagtel = Callable[..., Result]

GOOD = """\
receivers: {file: {path: events.jsonl}}
exporters: {file: {path: out.jsonl}, console: }
service: {pipelines: {events: {receivers: [file], exporters: [file]}}}
"""


class Runtime(ModuleType):
    """Stands in for the daemon: remembers what it was to run, and answers as it is told."""

    def __init__(self) -> None:
        super().__init__("pipeline.runtime.launch")
        self.ran: list[tuple[list[str], bool]] = []
        self.answer: int | Exception = 0
        self.reloading: Reloading
        self.plan: Plan
        self.shared: tuple[str, bool] = ("", False)

    async def run_service(
        self,
        plan: Plan,
        once: bool,
        serve: object,
        clock: object,
        reloading: Reloading,
        worker: str = "",
        leaves: bool = False,
        acting: object = None,
    ) -> int:
        self.reloading, self.plan, self.shared = reloading, plan, (worker, leaves)
        self.ran.append((list(plan.pipelines), once))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Runtime:
    (folder / "good.yaml").write_text(GOOD)
    stand_in = Runtime()
    monkeypatch.setitem(sys.modules, "pipeline.runtime.launch", stand_in)
    return stand_in


def test_a_good_configuration_runs(dagtel: Dagtel, runtime: Runtime) -> None:
    result = dagtel("run", "--config", "good.yaml")
    assert (result.exit_code, runtime.ran) == (0, [(["events"], False)])
    assert result.stderr == "good.yaml:2: exporters.console: warning: is not used: it does not stand in any pipeline\n"


def test_once_is_handed_on_and_so_is_the_answer(dagtel: Dagtel, runtime: Runtime) -> None:
    runtime.answer = 1
    assert dagtel("run", "-c", "good.yaml", "--once").exit_code == 1
    assert runtime.ran == [(["events"], True)]


def test_a_reload_reads_the_same_files_and_options_again(dagtel: Dagtel, runtime: Runtime, folder: Path) -> None:
    assert dagtel("run", "-c", "good.yaml", "--set", "service.checkpoint_interval=3s", "--watch").exit_code == 0
    assert runtime.reloading.watch
    first, second = runtime.reloading.first.plan, runtime.reloading.load().plan
    assert (second.receivers, second.exporters, second.service) == (first.receivers, first.exporters, first.service)
    (folder / "good.yaml").write_text(GOOD.replace("[file]}}}", "[file, console]}}}"))
    again = runtime.reloading.load()
    assert again.plan.pipelines["events"].exporters == ("file", "console")
    assert again.plan.service.checkpoint_interval == 3
    assert again.files != runtime.reloading.first.files
    (folder / "good.yaml").write_text("receivers: {fle: }")
    with pytest.raises(ConfigError, match=r"good\.yaml:1: receivers\.fle"):
        runtime.reloading.load()


def test_leaving_is_handed_on(dagtel: Dagtel, runtime: Runtime) -> None:
    assert dagtel("run", "-c", "good.yaml", "--leave").exit_code == 0
    assert runtime.shared == ("", True)


def test_several_workers_with_a_run_to_the_end_are_refused(dagtel: Dagtel, runtime: Runtime) -> None:
    result = dagtel("run", "-c", "good.yaml", "--once", "--workers", "2")
    assert (result.exit_code, runtime.ran) == (2, [])
    assert "--once and --workers" in result.stderr


def test_several_workers_are_refused_with_all_that_stands_against_them(dagtel: Dagtel, runtime: Runtime) -> None:
    result = dagtel("run", "-c", "good.yaml", "--workers", "2")
    assert (result.exit_code, runtime.ran) == (2, [])
    assert result.stderr.splitlines()[1:] == [
        "service.state: several workers share their state, and a file has one owner: keep it in PostgreSQL "
        "(service.state.postgresql), as configs/cluster.yaml does",
        "receivers.file: several workers would each read all of it: a receiver of type file does not share its input. "
        "Give it to a process of its own, with a state of its own",
    ]


def test_watching_a_run_that_ends_by_itself_is_refused(dagtel: Dagtel, runtime: Runtime) -> None:
    result = dagtel("run", "-c", "good.yaml", "--once", "--watch")
    assert (result.exit_code, runtime.ran) == (2, [])
    assert "--once and --watch" in result.stderr


def test_a_wrong_configuration_never_runs(dagtel: Dagtel, runtime: Runtime) -> None:
    result = dagtel("run", "-c", "good.yaml", "--set", "service.clock=moon")
    assert (result.exit_code, runtime.ran) == (2, [])
    assert "--set:1: service.clock: expected `system` or `events`, got `moon`\n" in result.stderr


def test_a_configuration_that_fails_while_it_starts_is_a_configuration_problem(
    dagtel: Dagtel, runtime: Runtime
) -> None:
    runtime.answer = ConfigError([Problem("", "no YAML", "assets.yaml", 3)])
    result = dagtel("run", "-c", "good.yaml")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "assets.yaml:3: no YAML"


def test_a_daemon_that_cannot_start_says_why(dagtel: Dagtel, runtime: Runtime) -> None:
    runtime.answer = StateError("the state is newer \x1b[2J")
    result = dagtel("run", "-c", "good.yaml")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "dagtel: the state is newer \\x1b[2J"


def test_the_bridge_is_a_run_of_the_shipped_configuration(
    dagtel: Dagtel, runtime: Runtime, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "bridge.yaml").write_text(GOOD)
    monkeypatch.setattr("pipeline.cli.run.shipped", lambda name: folder / name)
    (folder / "mine.yaml").write_text("service: {pipelines: {events/mine: {receivers: [file], exporters: [console]}}}")
    assert dagtel("bridge").exit_code == 0
    assert dagtel("bridge", "--config", "mine.yaml", "--once").exit_code == 0
    assert runtime.ran == [(["events"], False), (["events", "events/mine"], True)]


def test_shipped_configurations_are_those_of_the_repository_when_nothing_is_installed() -> None:
    assert shipped("file.yaml") == Path(__file__).parents[2] / "configs" / "file.yaml"


def test_shipped_configurations_of_an_installed_package_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "bridge.yaml").write_text("")
    monkeypatch.setattr("pipeline.cli.shipped.files", lambda package: tmp_path)
    assert shipped("bridge.yaml") == tmp_path / "configs" / "bridge.yaml"
    assert shipped("file.yaml") == tmp_path.parent / "configs" / "file.yaml"
