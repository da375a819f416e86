"""How the daemon ends: in time with what it has in the store, at once when it is told twice."""

import signal
from collections import Counter

from tests.end_to_end.daemon import Daemon, append, lines, text_of, until
from tests.ports import free_address


def test_a_stop_under_load_ends_with_0_and_the_next_start_goes_on(daemon: Daemon) -> None:
    events = lines(2100)
    for number in range(7):
        daemon.start()
        before = len(daemon.originals())
        append(daemon, events[number * 300 : number * 300 + 300])
        until("some of them", lambda before=before: len(daemon.originals()) > before)
        assert daemon.stop() == 0
    daemon.start()
    until("all", lambda: len(daemon.originals()) == len(events))
    assert daemon.stop() == 0
    assert list(Counter(daemon.originals()).values()) == [1] * len(events)


def test_the_log_says_once_how_long_a_start_took_to_its_first_events(daemon: Daemon) -> None:
    said = "The first events are read. after_s="
    daemon.start()
    assert said not in daemon.log.read_text()
    for number in (1, 2):
        append(daemon, lines(200)[number * 100 - 100 : number * 100])
        until("they are read", lambda number=number: len(daemon.originals()) == number * 100)
    assert daemon.stop() == 0
    (line,) = [line for line in daemon.log.read_text().splitlines() if said in line]
    assert 0 < float(line.partition("after_s=")[2].split()[0]) < 100


def test_what_a_dead_backend_does_not_take_stays_and_a_second_signal_ends_at_once(daemon: Daemon) -> None:
    daemon.config["exporters"]["loki"] = {"endpoint": f"http://{free_address()}"}
    daemon.config["service"]["pipelines"]["logs"]["exporters"] = ["file/logs", "loki"]
    daemon.config["service"]["shutdown_timeout"] = "10m"
    daemon.start()
    append(daemon, lines(300))
    until("a failure", lambda: "Export failed" in daemon.log.read_text())
    until("the other exporter's", lambda: len(daemon.originals()) == 300)
    daemon.process.send_signal(signal.SIGTERM)
    until("it stops", lambda: "Stopping." in daemon.log.read_text())
    assert daemon.process.poll() is None, "it waits for the backend"
    daemon.process.send_signal(signal.SIGINT)
    assert daemon.process.wait(5) == 128 + signal.SIGINT
    daemon.config["service"]["shutdown_timeout"] = "1s"
    daemon.start()
    queued = 'dagtel_exporter_queue_size{exporter="loki"}'
    page = text_of(f"{daemon.metrics}/metrics")
    assert queued in page
    assert f"{queued} 0" not in page
    assert daemon.stop() == 0
    assert "Payloads stay in the outbox for the next start." in daemon.log.read_text()
    assert len(daemon.originals()) == 300
