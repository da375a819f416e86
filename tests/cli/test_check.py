"""`dagtel validate` and `print-config`: what is printed where, and the exit codes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from pipeline.yaml_tree import compose

Dagtel = Callable[..., Result]

GOOD = """\
receivers:
  file: {path: events.jsonl}
connectors:
  logs:
exporters:
  file: {path: "${env:OUT:-out}/logs.jsonl", timeout: "${env:WAIT:-5}"}
  loki: {headers: {Authorization: "Bearer abc"}, endpoint: "http://user:pw@loki:3100"}
service:
  pipelines:
    events: {receivers: [file], processors: [run_ledger], exporters: [logs]}
    logs: {receivers: [logs], exporters: [file]}
processors:
  run_ledger:
"""

BAD = """\
receivers:
  file: {pth: events.jsonl}
  kafak:
exporters:
  file: {path: "${env:NOWHERE}", timeout: soon}
service:
  pipelines:
    logs: {receivers: [file], exporters: [file, lok]}
"""

BAD_SAID = """\
bad.yaml:2: receivers.file.pth: no such key; did you mean `path`?
bad.yaml:2: receivers.file.path: is required
bad.yaml:3: receivers.kafak: there is no receiver `kafak`; did you mean `kafka`?
bad.yaml:5: exporters.file.path: the environment variable NOWHERE is not set; set it, or write `${env:NOWHERE:-default}`
bad.yaml:5: exporters.file.timeout: 'soon' is no duration; write for example `30s`, `1h30m` or `2 hours`
bad.yaml:8: service.pipelines.logs.exporters[1]: no exporter or connector `lok` is configured
bad.yaml:8: service.pipelines.logs.receivers[0]: `file` gives events, but this pipeline carries logs
"""


@pytest.fixture(autouse=True)
def files(folder: Path) -> None:
    (folder / "good.yaml").write_text(GOOD)
    (folder / "bad.yaml").write_text(BAD)


def test_a_good_configuration_is_ok_and_its_warnings_are_on_stderr(dagtel: Dagtel) -> None:
    result = dagtel("validate", "--config", "good.yaml")
    assert (result.exit_code, result.stdout) == (0, "ok: 2 pipelines: events, logs\n")
    assert result.stderr == "good.yaml:7: exporters.loki: warning: is not used: it does not stand in any pipeline\n"


def test_all_problems_are_on_stderr_a_line_each(dagtel: Dagtel) -> None:
    result = dagtel("validate", "-c", "bad.yaml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == BAD_SAID.splitlines()


def test_problems_as_json_are_an_array(dagtel: Dagtel) -> None:
    result = dagtel("validate", "-c", "bad.yaml", "--json")
    assert (result.exit_code, result.stderr) == (2, "")
    findings = json.loads(result.stdout)
    assert len(findings) == len(BAD_SAID.splitlines())
    assert findings[2] == {
        "severity": "error",
        "file": "bad.yaml",
        "line": 3,
        "path": "receivers.kafak",
        "message": "there is no receiver `kafak`; did you mean `kafka`?",
    }


def test_warnings_as_json_are_an_array_too(dagtel: Dagtel) -> None:
    result = dagtel("validate", "-c", "good.yaml", "--json")
    assert result.exit_code == 0
    assert [finding["severity"] for finding in json.loads(result.stdout)] == ["warning"]


def test_files_merge_and_settings_come_on_top(dagtel: Dagtel, folder: Path) -> None:
    (folder / "more.yaml").write_text("service: {clock: moon}")
    assert dagtel("validate", "-c", "good.yaml", "-c", "more.yaml").exit_code == 2
    assert dagtel("validate", "-c", "good.yaml", "-c", "more.yaml", "--set", "service.clock=events").exit_code == 0
    result = dagtel("validate", "-c", "good.yaml", "-s", "service.clok=events", "-s", "x")
    assert result.stderr == "--set:2: 'x' sets nothing; write for example `service.clock=events`\n"


def test_a_file_that_is_not_there_is_a_problem(dagtel: Dagtel) -> None:
    result = dagtel("validate", "-c", "none.yaml")
    assert (result.exit_code, result.stderr) == (2, "none.yaml:1: cannot be read: No such file or directory\n")


def test_without_a_configuration_there_is_nothing_to_check(dagtel: Dagtel) -> None:
    assert dagtel("validate").exit_code == 2


def test_hostile_text_is_inert_in_the_terminal(dagtel: Dagtel, folder: Path) -> None:
    (folder / "evil.yaml").write_text('"\\e[2J[red]x\\r\\n\\u202e": 1\nreceivers: {"[bold]": }')
    result = dagtel("validate", "-c", "evil.yaml")
    assert result.exit_code == 2
    assert "evil.yaml:1: \\x1b[2J[red]x\\r\\n\\u202e: no such key" in result.stderr
    assert "evil.yaml:2: receivers.[bold]: is no id" in result.stderr
    assert "\x1b" not in result.stderr


def test_the_configuration_in_force_is_printed_without_secrets(dagtel: Dagtel) -> None:
    result = dagtel("print-config", "-c", "good.yaml", "--set", "service.clock=events", OUT="there", WAIT="7")
    assert result.exit_code == 0
    plain = compose(result.stdout, "printed")[0].plain()
    assert isinstance(plain, dict)
    assert plain["exporters"] == {
        "file": {"path": "there/logs.jsonl", "timeout": 7},
        "loki": {"headers": {"Authorization": "[redacted]"}, "endpoint": "http://[redacted]@loki:3100"},
    }
    assert isinstance(plain["service"], dict)
    assert plain["service"]["clock"] == "events"


def test_what_is_printed_is_a_configuration_again(dagtel: Dagtel, folder: Path) -> None:
    (folder / "again.yaml").write_text(dagtel("print-config", "-c", "good.yaml").stdout)
    assert dagtel("validate", "-c", "again.yaml").exit_code == 0
    assert dagtel("print-config", "-c", "again.yaml").stdout == (folder / "again.yaml").read_text()


def test_a_configuration_with_problems_is_printed_with_them(dagtel: Dagtel) -> None:
    result = dagtel("print-config", "-c", "bad.yaml")
    assert result.exit_code == 2
    assert "pth: events.jsonl" in result.stdout
    assert result.stderr.splitlines() == BAD_SAID.splitlines()


def test_a_block_of_an_unknown_type_hides_what_came_from_outside(dagtel: Dagtel, folder: Path) -> None:
    (folder / "unknown.yaml").write_text("exporters:\n  mystery: {place: '${env:KEY}', depth: 5}\n")
    result = dagtel("print-config", "-c", "unknown.yaml", KEY="s3cret")
    assert "s3cret" not in result.stdout + result.stderr
    assert "depth: 5" in result.stdout
