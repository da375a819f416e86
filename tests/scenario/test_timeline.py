"""When things happen."""

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from pipeline.scenario.story import Log

Play = Callable[..., Result]


def failed(run: str, start_s: int) -> Log:
    log = Log(run, start_ns=start_s * 10**9, tick_ns=0).plan("orders", "orders").run_start().step_start("orders")
    return log.after(90).step_failure("orders").run_failure()


def test_a_recorded_log_is_played_from_the_time_at_which_it_stands_and_as_far_apart_as_it_was(
    play: Play, folder: Path
) -> None:
    (folder / "log.jsonl").write_bytes(b"\n".join(failed("r1", 1_600_000_000).lines()) + b"\n")
    result = play(
        "scenarios:\n  - name: recorded\n    events: [{at: 1h, file: log.jsonl}]\n"
        "    expect: [{at: 1h1m30s, state: firing, asset: orders, run: r1}]\n"
    )
    assert result.exit_code == 0, result.output


def test_entries_in_the_file_itself_happen_at_their_time(play: Play) -> None:
    lines = json.dumps([line.decode() for line in failed("r1", 1_600_000_000).lines()])
    result = play(
        f"scenarios:\n  - name: lines\n    events: [{{at: 2m, lines: {lines}}}]\n"
        "    expect: [{at: 2m, state: firing, asset: orders}]\n"
    )
    assert result.exit_code == 0, result.output


def test_an_entry_without_a_time_goes_on_where_the_one_before_was(play: Play) -> None:
    result = play(
        """\
scenarios:
  - name: on and on
    events:
      - {at: 0s, every: 10m, times: 3, asset_failed: {asset: a}}
      - asset_materialized: {asset: a}
      - {advance: 5m, asset_failed: {asset: b}}
      - {advance: 1h, asset_materialized: {asset: b}}
    expect:
      - {at: 0s, state: firing, asset: a}
      - {at: 20m, state: resolved, asset: a, count: 3}
      - {at: 25m, state: firing, asset: b}
      - {at: 85m, state: resolved, asset: b}
"""
    )
    assert result.exit_code == 0, result.output


def test_time_goes_on_to_the_end_that_is_said_and_the_timers_with_it(play: Play) -> None:
    text = "scenarios:\n  - name: later\n    events: [{every: 1m, times: 2, asset_failed: {asset: a}}]\n"
    text += "    expect: [{at: 0s, state: firing}]\n"
    assert play(text + "    until: 59m\n").exit_code == 0
    result = play(text + "    until: 1h\n")
    assert result.exit_code == 1
    assert "+        1h  digest" in result.stdout


def test_repetitions_are_numbered_in_their_texts(play: Play) -> None:
    result = play(
        "scenarios:\n  - name: two\n    events: [{every: 1m, times: 2, asset_failed: {asset: 'a{n}', run: 'r{n}'}}]\n"
        "    expect: [{at: 0s, asset: a1, run: r1}, {at: 1m, asset: a2, run: r2}]\n"
    )
    assert result.exit_code == 0, result.output
