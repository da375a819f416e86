"""Reloads of the real daemon: a bad configuration changes nothing, a good one takes over, and no event is lost."""

import os
import socket
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.end_to_end.daemon import DAGTEL, ROOT, Daemon, append, counters, lines, text_of, until
from tests.ports import free_address


def test_twenty_reloads_under_way_lose_nothing_and_count_nothing_twice(daemon: Daemon) -> None:
    """Every second one changes something else; the figures equal those of a run without any."""
    events = lines(3000)
    share = len(events) // 20 + 1
    daemon.start()
    for number in range(20):
        append(daemon, events[number * share :][: share // 2])
        daemon.config["service"]["checkpoint_interval"] = f"{20 + number}ms"
        if number % 4 == 1:
            daemon.config["exporters"]["file/logs"]["fsync"] = "always" if number % 8 == 1 else "never"
        if number % 4 == 3:
            daemon.config["processors"]["run_ledger"] = {"run_timeout": f"{100 + number}h"}
        daemon.reload()
        append(daemon, events[number * share :][share // 2 : share])
    until("all events", lambda: len(daemon.originals()) >= len(events))
    assert daemon.stop() == 0
    assert list(Counter(daemon.originals()).values()) == [1] * len(events)
    whole = daemon.folder / "whole"
    environment = {**os.environ, "DAGTEL_INPUT": str(daemon.events), "DAGTEL_OUT": str(whole)}
    command = [DAGTEL, "run", "--once", "--config", str(ROOT / "configs" / "file.yaml")]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
    assert counters(daemon.out / "metrics.prom") == counters(whole / "metrics.prom")


def test_a_bad_configuration_changes_nothing_and_says_why_and_where(daemon: Daemon) -> None:
    daemon.start()
    good = daemon.file.read_text()
    daemon.file.write_text(good.replace("file/logs:", "fle/logs:", 1))
    daemon.hang_up()
    until("a refusal", lambda: daemon.reloads()["refused"] == 1)
    assert daemon.figure("dagtel_config_last_reload_successful") == 0
    last = daemon.ready["last_reload"]
    assert daemon.ready["ready"] is True
    assert any("dagtel.yaml:" in reason and "no exporter `fle`" in reason for reason in last["reasons"]), last
    assert "exporters.fle/logs: there is no exporter `fle`; did you mean `file`?" in daemon.log.read_text()
    daemon.file.write_text(": no yaml [")
    daemon.hang_up()
    until("another", lambda: daemon.reloads()["refused"] == 2)
    daemon.file.unlink()
    daemon.hang_up()
    until("a third", lambda: daemon.reloads()["refused"] == 3)
    append(daemon, lines(100))
    until("events as before", lambda: len(daemon.originals()) == 100)
    daemon.reload()
    assert daemon.figure("dagtel_config_last_reload_successful") == 1
    assert daemon.ready["last_reload"]["successful"] is True


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("service", "state", "path"), "elsewhere.db", "service.state.path: needs a restart to change"),
        (("service", "clock"), "system", "service.clock: needs a restart to change"),
        (("service", "telemetry", "metrics", "level"), "none", "service.telemetry.metrics.level: needs a restart"),
        (("exporters", "file/logs", "path"), "/proc/1/none/logs.jsonl", "cannot open /proc"),
        (("service", "telemetry", "health", "address"), "192.0.2.1:80", "cannot listen on 192.0.2.1:80"),
    ],
)
def test_what_cannot_be_taken_over_is_refused_and_the_old_graph_goes_on(
    daemon: Daemon, path: tuple[str, ...], value: str, said: str
) -> None:
    daemon.start()
    append(daemon, lines(50))
    block = daemon.config
    for key in path[:-1]:
        block = block[key]
    block[path[-1]] = value
    daemon.config["processors"]["run_ledger"] = {"run_timeout": "77h"}
    daemon.reload("refused")
    assert said in daemon.log.read_text()
    append(daemon, lines(100)[50:])
    until("events as before", lambda: len(daemon.originals()) == 100)
    assert list(Counter(daemon.originals()).values()) == [1] * 100
    daemon.config = daemon.base()
    daemon.reload()


def test_a_port_that_somebody_else_has_is_named_and_nothing_changes(daemon: Daemon) -> None:
    daemon.start()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        daemon.config["exporters"]["prometheus"]["address"] = address
        daemon.reload("refused")
    assert f"cannot listen on {address}" in daemon.log.read_text()
    assert daemon.ready["ready"]
    daemon.reload()
    append(daemon, lines(200))
    until("figures", lambda: "asset_materializations_total" in text_of(f"{address}/metrics"))


def test_addresses_and_the_log_follow(daemon: Daemon) -> None:
    daemon.start()
    old_health, old_metrics = daemon.health, daemon.metrics
    daemon.config["service"]["telemetry"]["logs"] = {"level": "debug", "format": "json"}
    daemon.config["service"]["telemetry"]["health"]["address"] = new = free_address()
    daemon.config["service"]["telemetry"]["metrics"]["address"] = f"0.0.0.0:{old_metrics.rpartition(':')[2]}"
    daemon.reload()
    until("the new address", lambda: text_of(f"{new}/healthz"))
    until("the old one free", lambda: not text_of(f"{old_health}/healthz"))
    daemon.health = new
    daemon.hang_up()
    until("a JSON line", lambda: '"message": "Configuration reloaded."' in daemon.log.read_text())
    assert "dagtel_config_last_reload_successful" in text_of(f"{old_metrics}/metrics")


def test_a_new_exporter_gets_what_comes_and_one_that_goes_delivers_what_it_has(daemon: Daemon) -> None:
    """No event of either is lost or doubled at the place where one takes over from the other."""
    events = lines(2000)
    daemon.start()
    append(daemon, events[:1000])
    daemon.config["exporters"]["file/new"] = {"path": str(daemon.out / "new.jsonl")}
    daemon.config["service"]["pipelines"]["logs"]["exporters"] = ["file/new"]
    del daemon.config["exporters"]["file/logs"]
    daemon.reload()
    append(daemon, events[1000:])
    until("all events", lambda: len(daemon.originals("logs.jsonl", "new.jsonl")) >= 2000)
    until("the old one gone", lambda: "An exporter has delivered what it had" in daemon.log.read_text())
    assert daemon.stop() == 0
    assert list(Counter(daemon.originals("logs.jsonl", "new.jsonl")).values()) == [1] * 2000
    assert len(daemon.originals("new.jsonl")) >= 1000


def test_an_exporter_whose_file_changes_goes_on_where_it_was(daemon: Daemon) -> None:
    events = lines(2000)
    daemon.start()
    for number in range(8):
        append(daemon, events[number * 250 : number * 250 + 250])
        daemon.config["exporters"]["file/logs"]["path"] = str(daemon.out / f"logs{number}.jsonl")
        daemon.reload()
    names = [f"logs{number}.jsonl" for number in range(8)]
    until("all events", lambda: len(daemon.originals("logs.jsonl", *names)) >= 2000)
    assert daemon.stop() == 0
    assert list(Counter(daemon.originals("logs.jsonl", *names)).values()) == [1] * 2000


def test_state_without_an_owner_is_refused_as_at_a_start_unless_it_is_moved_or_forgotten(daemon: Daemon) -> None:
    events = lines(2000)
    daemon.start()
    append(daemon, events[:1000])
    until("events", lambda: len(daemon.originals()) == 1000)

    def rename(old: str, new: str) -> None:
        daemon.config["connectors"] = {new: {}, "logs": {}}
        daemon.config["service"]["pipelines"]["events"]["exporters"] = [new, "logs"]
        daemon.config["service"]["pipelines"]["metrics"]["receivers"] = [new]

    rename("metrics", "metrics/new")
    daemon.reload("refused")
    assert "connectors.metrics. Name each in service.state.moved (old: new) or service.state.forget" in (
        daemon.log.read_text()
    )
    daemon.config["service"]["state"]["moved"] = {"metrics": "metrics/new"}
    daemon.reload()
    append(daemon, events[1000:])
    until("the rest", lambda: len(daemon.originals()) == 2000)
    assert daemon.stop() == 0
    moved = counters(daemon.out / "metrics.prom")

    daemon.config["service"]["state"]["moved"] = {}
    daemon.start()
    assert counters(daemon.out / "metrics.prom") == moved, "the state is stored under its new owner"
    rename("metrics/new", "metrics")
    daemon.config["service"]["state"]["forget"] = ["connectors.metrics/new"]
    daemon.reload()
    append(daemon, lines(2100)[2000:])
    until("the last", lambda: len(daemon.originals()) == 2100)
    assert daemon.stop() == 0
    assert sum_of(counters(daemon.out / "metrics.prom")) < sum_of(moved)


def sum_of(figures: Counter[str]) -> float:
    return sum(float(line.rsplit(" ", 1)[1]) for line in figures)


def test_unsent_payloads_of_an_exporter_that_does_not_deliver_bar_its_going(daemon: Daemon) -> None:
    dead = free_address()
    daemon.config["exporters"]["loki"] = {"endpoint": f"http://{dead}"}
    daemon.config["service"]["pipelines"]["logs"]["exporters"] = ["file/logs", "loki"]
    daemon.start()
    append(daemon, lines(100))
    until("a failure", lambda: "Export failed" in daemon.log.read_text())
    daemon.config = daemon.base()
    daemon.reload("refused")
    assert "service.state.forget: [exporters.loki]" in daemon.log.read_text()
    daemon.config["service"]["state"]["forget"] = ["exporters.loki"]
    daemon.reload()
    assert 'exporter="loki"' not in text_of(f"{daemon.metrics}/metrics").split("dagtel_exporter_queue_size")[-1]
    assert daemon.stop() == 0
    daemon.config = daemon.base()
    daemon.start()
    append(daemon, lines(200)[100:])
    until("the rest", lambda: len(daemon.originals()) == 200)


def test_a_receiver_with_another_configuration_begins_anew_and_the_others_run_on(daemon: Daemon) -> None:
    second = daemon.folder / "second.jsonl"
    daemon.config["receivers"]["file/second"] = {"path": str(second), "follow": True, "poll_interval": "10ms"}
    daemon.config["service"]["pipelines"]["events"]["receivers"] = ["file", "file/second"]
    daemon.start()
    append(daemon, lines(100))
    second.write_bytes(b"".join(lines(200)[100:]))
    until("both", lambda: len(daemon.originals()) == 200)
    daemon.config["receivers"]["file/second"]["poll_interval"] = "20ms"
    daemon.reload()
    with second.open("ab") as file:
        file.writelines(lines(300)[200:])
    append(daemon, lines(400)[300:])
    until("the rest of both", lambda: len(daemon.originals()) == 400)
    del daemon.config["receivers"]["file/second"]
    daemon.config["service"]["pipelines"]["events"]["receivers"] = ["file"]
    daemon.reload()
    with second.open("ab") as file:
        file.writelines(lines(500)[400:])
    append(daemon, lines(600)[500:])
    until("the rest of one", lambda: len(daemon.originals()) == 500)
    daemon.config["receivers"]["file/second"] = {"path": str(second), "follow": True}
    daemon.config["service"]["pipelines"]["events"]["receivers"] = ["file", "file/second"]
    daemon.reload()
    until("what the other had when nobody read it", lambda: len(daemon.originals()) == 600)
    assert daemon.stop() == 0
    assert list(Counter(daemon.originals()).values()) == [1] * 600


def test_a_receiver_that_cannot_read_what_the_new_file_names_brings_the_old_file_back(daemon: Daemon) -> None:
    daemon.start()
    append(daemon, lines(100))
    daemon.config["receivers"]["file"] = {"path": str(daemon.folder / "nowhere.jsonl")}
    daemon.write()
    daemon.hang_up()
    until("the way back", lambda: "back to the configuration before" in daemon.log.read_text())
    assert daemon.figure("dagtel_config_last_reload_successful") == 0
    append(daemon, lines(200)[100:])
    until("events as before", lambda: len(daemon.originals()) == 200)
    assert daemon.ready["ready"]


def test_hangups_that_come_all_at_once_are_joined(daemon: Daemon) -> None:
    daemon.start()
    append(daemon, lines(500))
    for _ in range(50):
        daemon.hang_up()
        time.sleep(0.002)
    until("events", lambda: len(daemon.originals()) == 500)
    until("a reload", lambda: daemon.reloads()["success"])
    daemon.reload()
    assert 2 <= daemon.reloads()["success"] <= 40
    assert daemon.stop() == 0
    assert list(Counter(daemon.originals()).values()) == [1] * 500


def test_a_hangup_while_it_starts_kills_nobody_and_is_heard(daemon: Daemon) -> None:
    daemon.write()
    daemon.events.touch()
    with daemon.log.open("ab") as log:
        daemon.process = subprocess.Popen([DAGTEL, "run", "--config", str(daemon.file)], stdout=log, stderr=log)
    until("python", lambda: "SigCgt" in Path(f"/proc/{daemon.process.pid}/status").read_text() and hears(daemon))
    daemon.hang_up()
    until("a reload", lambda: daemon.process.poll() is not None or daemon.reloads()["success"] == 1)
    assert daemon.process.poll() is None


def hears(daemon: Daemon) -> bool:
    """Whether the process catches SIGHUP by now (bit 0 of the caught signals)."""
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) & 1)


def test_a_watched_configuration_reloads_when_any_of_its_files_changes(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, "--watch")
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "interval").write_text("60ms\n")
    (tmp_path / "now").symlink_to("v1")  # as Kubernetes mounts a ConfigMap
    daemon.config["service"]["checkpoint_interval"] = "${file:now/interval}"
    try:
        daemon.start()
        daemon.config["processors"]["run_ledger"] = {"run_timeout": "33h"}
        daemon.write()
        until("a reload", lambda: daemon.reloads()["success"] == 1)
        (tmp_path / "v2").mkdir()
        (tmp_path / "v2" / "interval").write_text("70ms\n")
        (tmp_path / "new").symlink_to("v2")
        (tmp_path / "new").replace(tmp_path / "now")
        until("another", lambda: daemon.reloads()["success"] == 2)
        daemon.file.write_text("nonsense")
        until("a refusal", lambda: daemon.reloads()["refused"] == 1)
        append(daemon, lines(100))
        until("events", lambda: len(daemon.originals()) == 100)
        daemon.write()
        until("a third", lambda: daemon.reloads()["success"] == 3)
        assert daemon.reloads() == Counter(success=3, refused=1)
        assert daemon.stop() == 0
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()
        print(daemon.log.read_text()[-5000:])
