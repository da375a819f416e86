"""Every way to write a wrong configuration that we could think of, and what is said about it."""

from pathlib import Path

import pytest

from pipeline.components import ProcessorSpec, ReceiverSpec
from pipeline.config.load import load
from pipeline.errors import ConfigError
from pipeline.signals import Signal
from pipeline.topology.registry import Registry
from pipeline.topology.resolve import resolve

GOOD = """\
receivers:
  tap: {brokers: [a]}
processors:
  ledger:
connectors:
  spans:
exporters:
  lines: {url: u}
service:
  pipelines:
    events: {receivers: [tap], processors: [ledger], exporters: [spans]}
    traces: {receivers: [spans], exporters: [lines]}
"""

# What is merged over GOOD, and all that is then said.
WRONG: dict[str, tuple[str, list[str]]] = {
    # --- keys ---
    "an unknown section": ("recievers: {}", ["w.yaml:1: recievers: no such key; did you mean `receivers`?"]),
    "a section that resembles nothing": (
        "zzz: 1",
        [
            "w.yaml:1: zzz: no such key; known: `connectors`, `exporters`, `extensions`, `processors`, `receivers`, "
            "`service`"
        ],
    ),
    "an unknown option": (
        "receivers:\n  tap:\n    brokres: [a]",
        ["w.yaml:3: receivers.tap.brokres: no such key; did you mean `brokers`?"],
    ),
    "an option in another case": (
        "receivers:\n  tap:\n    Poll: 1s",
        ["w.yaml:3: receivers.tap.Poll: no such key; did you mean `poll`?"],
    ),
    "an unknown option of a nested block": (
        "receivers:\n  tap:\n    login:\n      user: u\n      passwrd: p",
        ["w.yaml:5: receivers.tap.login.passwrd: no such key; did you mean `password`?"],
    ),
    "an unknown option of the service": (
        "service:\n  clok: events",
        ["w.yaml:2: service.clok: no such key; did you mean `clock`?"],
    ),
    "an unknown option of a pipeline": (
        "service:\n  pipelines:\n    events:\n      exporter: [lines]",
        ["w.yaml:4: service.pipelines.events.exporter: no such key; did you mean `exporters`?"],
    ),
    "an option to a component without options": (
        "processors:\n  ledger: {x: 1}",
        ["w.yaml:2: processors.ledger.x: no such key"],
    ),
    "an unknown delivery option": (
        "exporters:\n  lines:\n    sending_que: {}",
        ["w.yaml:3: exporters.lines.sending_que: no such key; did you mean `sending_queue`?"],
    ),
    "an unknown option within delivery": (
        "exporters:\n  lines:\n    retry_on_failure: {max_intervall: 1s}",
        ["w.yaml:3: exporters.lines.retry_on_failure.max_intervall: no such key; did you mean `max_interval`?"],
    ),
    "a delivery option of a receiver": (
        "receivers:\n  tap: {timeout: 1s}",
        [
            "w.yaml:2: receivers.tap.timeout: no such key; known: `brokers`, `check`, `fetch`, `key`, `limit`, "
            "`login`, `poll`, `ratio`, `start`, `top`"
        ],
    ),
    "a key twice": (
        "receivers:\n  tap:\n    poll: 1s\n    poll: 2s",
        ["w.yaml:4: receivers.tap.poll: is written twice; the first is on line 3"],
    ),
    # --- values ---
    "a missing option": (
        "receivers:\n  tap/two:",
        [
            "w.yaml:2: receivers.tap/two.brokers: is required",
        ],
    ),
    "a missing option of a nested block": (
        "receivers:\n  tap:\n    login: {password: p}",
        ["w.yaml:3: receivers.tap.login.user: is required"],
    ),
    "a text for a list": (
        "receivers:\n  tap:\n    brokers: localhost",
        ["w.yaml:3: receivers.tap.brokers: expected a list, got `localhost`; write `[localhost]`"],
    ),
    "a number in a list of texts": (
        "receivers:\n  tap:\n    brokers:\n      - a\n      - 9092",
        ["w.yaml:5: receivers.tap.brokers[1]: expected a text, got `9092`; write it in quotes"],
    ),
    "a map for a list": (
        "receivers:\n  tap:\n    brokers: {a: b}",
        ["w.yaml:3: receivers.tap.brokers: expected a list, got a map"],
    ),
    "a text for a number": (
        "receivers:\n  tap: {limit: many}",
        ["w.yaml:2: receivers.tap.limit: expected a whole number, got `many`"],
    ),
    "a fraction for a whole number": (
        "receivers:\n  tap: {limit: 1.5}",
        ["w.yaml:2: receivers.tap.limit: expected a whole number, got `1.5`"],
    ),
    "a whole number below its bound": (
        "receivers:\n  tap: {limit: 0}",
        ["w.yaml:2: receivers.tap.limit: expected `int` >= 1, got `0`"],
    ),
    "a text for an optional number": (
        "receivers:\n  tap: {top: x}",
        ["w.yaml:2: receivers.tap.top: expected a whole number, got `x`"],
    ),
    "a text for a fraction": (
        "receivers:\n  tap: {ratio: half}",
        ["w.yaml:2: receivers.tap.ratio: expected a number, got `half`"],
    ),
    "a yes for true": (
        "receivers:\n  tap: {check: yes}",
        ["w.yaml:2: receivers.tap.check: expected `true` or `false`, got `yes`; write `true`"],
    ),
    "a number for a boolean": (
        "receivers:\n  tap: {check: 1}",
        ["w.yaml:2: receivers.tap.check: expected `true` or `false`, got `1`"],
    ),
    "a boolean for a text": (
        "exporters:\n  lines: {url: true}",
        ["w.yaml:2: exporters.lines.url: expected a text, got `true`; write it in quotes"],
    ),
    "a secret that is a number is not shown": (
        "receivers:\n  tap: {key: 12345}",
        ["w.yaml:2: receivers.tap.key: expected a text, got a number; write it in quotes"],
    ),
    "a word for a duration": (
        "receivers:\n  tap: {poll: soon}",
        [
            "w.yaml:2: receivers.tap.poll: 'soon' is no duration; write for example `30s`, `1h30m` or `2 hours`",
        ],
    ),
    "a negative duration": (
        "receivers:\n  tap: {poll: -1}",
        ["w.yaml:2: receivers.tap.poll: must not be negative or infinite, got `-1`"],
    ),
    "an endless duration": (
        "receivers:\n  tap: {poll: .inf}",
        ["w.yaml:2: receivers.tap.poll: must not be negative or infinite, got `inf`"],
    ),
    "a list for a duration": (
        "receivers:\n  tap: {poll: [1s]}",
        ["w.yaml:2: receivers.tap.poll: expected a duration such as `30s` or `1h30m`, got a list"],
    ),
    "a duration in a list": (
        "exporters:\n  lines: {tries: [1s, 5x]}",
        ["w.yaml:2: exporters.lines.tries[1]: '5x' is no duration; write for example `30s`, `1h30m` or `2 hours`"],
    ),
    "a size of an unknown unit": (
        "receivers:\n  tap: {fetch: 5 apples}",
        ["w.yaml:2: receivers.tap.fetch: '5 apples' is no size; write for example `64MiB` or `1GB`"],
    ),
    "a fraction of a byte": (
        "receivers:\n  tap: {fetch: 0.5}",
        ["w.yaml:2: receivers.tap.fetch: expected a whole number of bytes, got `0.5`"],
    ),
    "a choice that is none": (
        "receivers:\n  tap: {start: newest}",
        ["w.yaml:2: receivers.tap.start: expected `earliest` or `latest`, got `newest`"],
    ),
    "a choice with a slip": (
        "receivers:\n  tap: {start: Latst}",
        ["w.yaml:2: receivers.tap.start: expected `earliest` or `latest`, got `Latst`; did you mean `latest`?"],
    ),
    "a text for a nested block": (
        "receivers:\n  tap: {login: me}",
        ["w.yaml:2: receivers.tap.login: expected a map of options, got `me`"],
    ),
    "a text for a map": (
        "exporters:\n  lines: {labels: job}",
        ["w.yaml:2: exporters.lines.labels: expected a map, got `job`"],
    ),
    "a number in a map of texts": (
        "exporters:\n  lines:\n    labels:\n      job: dagster\n      shard: 3",
        ["w.yaml:5: exporters.lines.labels.shard: expected a text, got `3`; write it in quotes"],
    ),
    "a rule across options": (
        "receivers:\n  tap:\n    check: false\n    start: earliest",
        ["w.yaml:4: receivers.tap.start: `earliest` needs `check: true`"],
    ),
    "a rule of delivery": (
        "exporters:\n  lines:\n    sending_queue:\n      num_consumers: 0",
        ["w.yaml:4: exporters.lines.sending_queue.num_consumers: must be at least 1"],
    ),
    "an address without a port": (
        "service:\n  telemetry:\n    metrics: {address: localhost}",
        ["w.yaml:3: service.telemetry.metrics.address: 'localhost' is no address; write for example `127.0.0.1:8888`"],
    ),
    "an API that others can reach and nobody keeps": (
        "service:\n  api: {address: '0.0.0.0:8890'}",
        ["w.yaml:2: service.api.token: is required, as 0.0.0.0:8890 can be reached from other machines"],
    ),
    "an API on a name that may be anybody's, with links that lead nowhere": (
        "service:\n  api: {address: 'dagtel:8890', url: 'dagtel'}",
        [
            "w.yaml:2: service.api.url: begins with http:// or https://, and names a host",
            "w.yaml:2: service.api.token: is required, as dagtel:8890 can be reached from other machines",
        ],
    ),
    "an API with a token and a key that can be guessed": (
        "service:\n  api: {address: ':8890', token: hunter2, secret: 'short'}",
        [
            "w.yaml:2: service.api.address: ':8890' is no address; write for example `127.0.0.1:8890`",
            "w.yaml:2: service.api.token: has less than 16 characters: it could be guessed",
            "w.yaml:2: service.api.secret: has a key of less than 32 characters: it could be guessed",
        ],
    ),
    "links without pages, and for ever": (
        "service:\n  api: {url: 'https://u:p@dagtel', link_lifetime: 5 weeks, dagster: {url: 'ftp://d', timeout: 0}}",
        [
            "w.yaml:2: service.api.url: is an address alone, without `?`, `#` or a password",
            "w.yaml:2: service.api.url: leads to pages that are not served: set `address`",
            "w.yaml:2: service.api.link_lifetime: must be four weeks at most: what a link did is remembered for 30 "
            "days",
            "w.yaml:2: service.api.dagster.url: begins with http:// or https://, and names a host",
            "w.yaml:2: service.api.dagster.timeout: must be more than 0",
        ],
    ),
    "a checkpoint that never comes": (
        "service:\n  checkpoint_interval: 0",
        ["w.yaml:2: service.checkpoint_interval: must be more than 0"],
    ),
    "a batch without items": (
        "service:\n  intake: {max_items: 0}",
        ["w.yaml:2: service.intake.max_items: must be at least 1"],
    ),
    # --- shapes ---
    "a list for a section": (
        "receivers: [tap]",
        [
            "w.yaml:1: receivers: expected a map of components by id, such as `file:` or `file/second:`",
            "base.yaml:11: service.pipelines.events.receivers[0]: no receiver or connector `tap` is configured",
        ],
    ),
    "a text for a component": (
        "processors:\n  ledger: yes",
        ["w.yaml:2: processors.ledger: expected a map of options, got `yes`"],
    ),
    "a text for the service": (
        "service: yes",
        ["w.yaml:1: service: expected a map of options, got `yes`"],
    ),
    "a list for the pipelines": (
        "service:\n  pipelines: [events]",
        ["w.yaml:2: service.pipelines: expected a map, got a list"],
    ),
    "a text for a pipeline's list": (
        "service:\n  pipelines:\n    traces:\n      exporters: lines",
        ["w.yaml:4: service.pipelines.traces.exporters: expected a list, got `lines`; write `[lines]`"],
    ),
    "a list for a file": ("- a", ["w.yaml:1: is no configuration: a map is expected"]),
    "a text that is no YAML": (
        "a: b: c",
        ["w.yaml:1: is no YAML: mapping values are not allowed here"],
    ),
    "a bracket that is not closed": (
        "receivers:\n  tap: {poll: 1s\nservice:",
        ["w.yaml:3: is no YAML: while parsing a flow mapping expected ',' or '}', but got ':'"],
    ),
    "two documents": ("a: 1\n---\nb: 2", ["w.yaml:2: holds more than one YAML document (`---`)"]),
    "a tag": (
        "receivers: !!python/object:os.system {}",
        ["w.yaml:1: receivers: the tag `!!python/object:os.system` means nothing here"],
    ),
    # --- ids and types ---
    "a type that is not there": (
        "receivers:\n  tapp:",
        ["w.yaml:2: receivers.tapp: there is no receiver `tapp`; did you mean `tap`?"],
    ),
    "a type of another kind": (
        "receivers:\n  lines/in: {url: u}",
        ["w.yaml:2: receivers.lines/in: there is no receiver `lines`; `lines` is an exporter"],
    ),
    "an id with a dot": (
        "receivers:\n  tap/a.b: {brokers: [a]}",
        [
            "w.yaml:2: receivers.tap/a.b: is no id; write `type` or `type/name`, the name of letters, digits, `-` and "
            "`_`"
        ],
    ),
    "an id without a name": (
        "receivers:\n  tap/: {brokers: [a]}",
        ["w.yaml:2: receivers.tap/: is no id; write `type` or `type/name`, the name of letters, digits, `-` and `_`"],
    ),
    "a connector with a receiver's id": (
        "receivers:\n  spans:",
        [
            "w.yaml:2: receivers.spans: there is no receiver `spans`; `spans` is a connector",
            "base.yaml:6: connectors.spans: is also the id of a receiver; give one of them a name: `spans/name`",
        ],
    ),
    # --- references ---
    "a receiver that is not configured": (
        "service:\n  pipelines:\n    events:\n      receivers: [tab]",
        [
            "w.yaml:4: service.pipelines.events.receivers[0]: no receiver or connector `tab` is configured; "
            "did you mean `tap`?"
        ],
    ),
    "a processor that is not configured": (
        "service:\n  pipelines:\n    events:\n      processors:\n        - ledger\n        - enrich",
        ["w.yaml:6: service.pipelines.events.processors[1]: no processor `enrich` is configured"],
    ),
    "an exporter among the processors": (
        "service:\n  pipelines:\n    traces:\n      processors: [lines]",
        ["w.yaml:4: service.pipelines.traces.processors[0]: `lines` is an exporter, not a processor"],
    ),
    "an exporter among the receivers": (
        "service:\n  pipelines:\n    traces:\n      receivers: [spans, lines]",
        ["w.yaml:4: service.pipelines.traces.receivers[1]: `lines` is an exporter, not a receiver or a connector"],
    ),
    "a processor twice": (
        "service:\n  pipelines:\n    events:\n      processors: [ledger, ledger]",
        ["w.yaml:4: service.pipelines.events.processors[1]: `ledger` stands here twice"],
    ),
    "an extension that is not configured": (
        "service:\n  extensions: [pprof]",
        ["w.yaml:2: service.extensions[0]: no extension `pprof` is configured"],
    ),
    "dead letters to nowhere": (
        "service:\n  dead_letters: {exporters: [line]}",
        ["w.yaml:2: service.dead_letters.exporters[0]: no exporter `line` is configured; did you mean `lines`?"],
    ),
    "dead letters to an exporter of alerts": (
        "exporters:\n  pager:\nservice:\n  dead_letters: {exporters: [pager]}",
        ["w.yaml:4: service.dead_letters.exporters[0]: `pager` takes alerts, but dead letters are logs"],
    ),
    # --- the graph ---
    "an exporter of another signal": (
        "service:\n  pipelines:\n    events:\n      exporters: [spans, lines]",
        [
            "w.yaml:4: service.pipelines.events.exporters[1]: `lines` takes traces or logs, but this pipeline carries "
            "events"
        ],
    ),
    "a receiver of another signal": (
        "service:\n  pipelines:\n    traces:\n      receivers: [spans, tap]",
        ["w.yaml:4: service.pipelines.traces.receivers[1]: `tap` gives events, but this pipeline carries traces"],
    ),
    "a processor of another signal": (
        "processors:\n  dedup:\nservice:\n  pipelines:\n    traces:\n      processors: [dedup]",
        ["w.yaml:6: service.pipelines.traces.processors[0]: `dedup` takes alerts, but this pipeline carries traces"],
    ),
    "a connector that gives another signal": (
        "exporters:\n  sink:\nservice:\n  pipelines:\n    logs: {receivers: [spans], exporters: [sink]}",
        ["w.yaml:5: service.pipelines.logs.receivers[0]: `spans` gives traces, but this pipeline carries logs"],
    ),
    "a connector without its processor": (
        "service:\n  pipelines:\n    events:\n      processors: []",
        [
            "base.yaml:11: service.pipelines.events.exporters[0]: `spans` needs the processor `ledger` before it, "
            "which stands neither here nor upstream"
        ],
    ),
    "a connector that goes nowhere": (
        "connectors:\n  alerts:\nservice:\n  pipelines:\n    events:\n      exporters: [spans, alerts]",
        [
            "w.yaml:6: service.pipelines.events.exporters[1]: the connector `alerts` goes nowhere: no pipeline has it "
            "among its receivers"
        ],
    ),
    "a connector that gets nothing": (
        "connectors:\n  alerts:\nexporters:\n  pager:\nservice:\n  pipelines:\n"
        "    alerts: {receivers: [alerts], exporters: [pager]}",
        [
            "w.yaml:7: service.pipelines.alerts.receivers[0]: the connector `alerts` gets nothing: no pipeline has it "
            "among its exporters"
        ],
    ),
    "a cycle": (
        "connectors:\n  again:\n  again/back:\nservice:\n  pipelines:\n"
        "    traces: {receivers: [spans, again/back], exporters: [lines, again]}\n"
        "    traces/b: {receivers: [again], exporters: [again/back]}",
        ["base.yaml:12: service.pipelines.traces: cycle: traces -> traces/b -> traces"],
    ),
    "a pipeline that feeds itself": (
        "connectors:\n  again:\nservice:\n  pipelines:\n"
        "    traces: {receivers: [spans, again], exporters: [lines, again]}",
        ["base.yaml:12: service.pipelines.traces: cycle: traces -> traces"],
    ),
    "a pipeline without receivers": (
        "service:\n  pipelines:\n    logs: {exporters: [lines]}",
        ["w.yaml:3: service.pipelines.logs: is unreachable: it has no receivers"],
    ),
    "a pipeline without exporters": (
        "service:\n  pipelines:\n    events/b: {receivers: [tap]}",
        ["w.yaml:3: service.pipelines.events/b: has no exporters"],
    ),
    "a pipeline of no signal": (
        "service:\n  pipelines:\n    trace: {receivers: [tap], exporters: [lines]}",
        ["w.yaml:3: service.pipelines.trace: a pipeline's id begins with its signal; did you mean `traces`?"],
    ),
    "no pipelines": (
        "service:\n  pipelines:",
        ["w.yaml:2: service.pipelines: there are none; nothing would run"],
    ),
    # --- what comes from outside ---
    "a variable that is not set": (
        "exporters:\n  lines:\n    url: ${env:URL}",
        [
            "w.yaml:3: exporters.lines.url: the environment variable URL is not set; set it, or write "
            "`${env:URL:-default}`"
        ],
    ),
    "two variables that are not set": (
        "exporters:\n  lines:\n    url: ${env:HOST}/${env:PATH2}",
        [
            "w.yaml:3: exporters.lines.url: the environment variable HOST is not set; set it, or write "
            "`${env:HOST:-default}`",
            "w.yaml:3: exporters.lines.url: the environment variable PATH2 is not set; set it, or write "
            "`${env:PATH2:-default}`",
        ],
    ),
    "a variable as a shell has it": (
        "exporters:\n  lines: {url: '${URL}'}",
        ["w.yaml:2: exporters.lines.url: `${URL}` means nothing; write `${env:URL}`, or `$$` for a plain `$`"],
    ),
    "a variable of no name": (
        "exporters:\n  lines: {url: '${env:a b}'}",
        ["w.yaml:2: exporters.lines.url: `a b` is no name of an environment variable"],
    ),
    "a brace that is not closed": (
        "exporters:\n  lines: {url: 'x${env:URL'}",
        ["w.yaml:2: exporters.lines.url: `${env:URL` has no closing `}`; write `$$` for a plain `$`"],
    ),
    "a file that is not there": (
        "receivers:\n  tap:\n    key: ${file:no/such}",
        ["w.yaml:3: receivers.tap.key: there is no file `no/such`"],
    ),
    "a folder for a file": (
        "receivers:\n  tap:\n    key: ${file:.}",
        ["w.yaml:3: receivers.tap.key: the file `.` cannot be read: Is a directory"],
    ),
    "a variable of another type is not shown": (
        "receivers:\n  tap:\n    limit: ${env:TOKEN}",
        ["w.yaml:3: receivers.tap.limit: expected a whole number, got what `${env:TOKEN}` gives"],
    ),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(GOOD)
    return tmp_path


def said(registry: Registry, text: str) -> list[str]:
    Path("w.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        config = load([Path("base.yaml"), Path("w.yaml")], env={"TOKEN": "s3cret"})
        resolve(config, registry)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(("text", "expected"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_configuration_says_where_and_what_and_nothing_else(
    text: str, expected: list[str], registry: Registry, folder: Path
) -> None:
    assert sorted(said(registry, text)) == sorted(expected)


def test_five_different_faults_are_all_named_in_the_order_of_their_lines(registry: Registry, folder: Path) -> None:
    text = """\
receivers:
  tap:
    pol: 1s
    limit: many
exporters:
  lines:
    url: ${env:NOWHERE}
service:
  clock: moon
  pipelines:
    traces:
      receivers: [spans, spanz]
"""
    assert said(registry, text) == [
        "w.yaml:3: receivers.tap.pol: no such key; did you mean `poll`?",
        "w.yaml:4: receivers.tap.limit: expected a whole number, got `many`",
        "w.yaml:7: exporters.lines.url: the environment variable NOWHERE is not set; set it, or write "
        "`${env:NOWHERE:-default}`",
        "w.yaml:9: service.clock: expected `system` or `events`, got `moon`",
        "w.yaml:12: service.pipelines.traces.receivers[1]: no receiver or connector `spanz` is configured; "
        "did you mean `spans`?",
    ]


def test_a_processor_after_the_one_that_needs_it_is_told_apart_from_a_missing_one(
    registry: Registry, folder: Path
) -> None:
    ledger = registry.spec("processors", "ledger")
    late = ProcessorSpec("late", ledger.config, ledger.build, takes=frozenset({Signal.EVENTS}), needs=("ledger",))  # type: ignore[arg-type]
    text = "processors:\n  late:\nservice:\n  pipelines:\n    events:\n      processors: [late, ledger]"
    assert said(registry.extended(late), text) == [
        "w.yaml:6: service.pipelines.events.processors[0]: `late` needs the processor `ledger` before it, which stands "
        "after it"
    ]


def test_files_that_cannot_be_read_are_all_named(registry: Registry, folder: Path) -> None:
    Path("latin.yaml").write_bytes(b"a: 1\nb: \xe9\n")
    with pytest.raises(ConfigError) as caught:
        load([Path("none.yaml"), Path("base.yaml"), Path(), Path("latin.yaml")])
    assert [str(problem) for problem in caught.value.problems] == [
        "none.yaml:1: cannot be read: No such file or directory",
        ".:1: cannot be read: Is a directory",
        "latin.yaml:2: is not UTF-8",
    ]


@pytest.fixture
def with_outcomes(registry: Registry) -> Registry:
    """A receiver whose events have been through `ledger` before."""
    tap = registry.spec("receivers", "tap")
    return registry.extended(ReceiverSpec("results", tap.config, tap.build, brings=lambda options: ("ledger",)))  # type: ignore[arg-type]


RESULTS = "receivers:\n  results: {brokers: [a]}\nservice:\n  pipelines:\n    events: "


def test_what_a_receiver_brings_needs_no_processor(with_outcomes: Registry, folder: Path) -> None:
    Path("base.yaml").write_text(GOOD)
    Path("w.yaml").write_text(RESULTS + "{receivers: [results], processors: []}")
    resolve(load([Path("base.yaml"), Path("w.yaml")]), with_outcomes)


def test_what_a_receiver_brings_is_not_done_twice(with_outcomes: Registry, folder: Path) -> None:
    assert said(with_outcomes, RESULTS + "{receivers: [results]}") == [
        "base.yaml:11: service.pipelines.events.processors[0]: what `results` reads has been through `ledger` before; "
        "take `ledger` out here"
    ]


def test_beside_a_receiver_that_brings_nothing_the_processor_is_needed(with_outcomes: Registry, folder: Path) -> None:
    assert said(with_outcomes, RESULTS + "{receivers: [results, tap], processors: []}") == [
        "base.yaml:11: service.pipelines.events.exporters[0]: `spans` needs the processor `ledger` before it, which "
        "stands neither here nor upstream"
    ]
