"""A backend that takes nothing stops the intake, and whoever can still be told is told, over kills too."""

import signal
from pathlib import Path

from tests.end_to_end.daemon import Daemon, append, lines, until
from tests.integration.services import Hook
from tests.ports import free_address


def told(hook: Hook) -> list[tuple[str, str]]:
    return [(body["state"], body["summary"]) for _, _, body in hook.calls if body["kind"] == "pipeline_silent"]


def prepare(daemon: Daemon, hook: Hook) -> None:
    """Loki is away and its outbox holds next to nothing; a webhook is told."""
    config = daemon.config
    config["processors"]["dedup"] = {}
    config["connectors"]["alerts"] = {}
    config["exporters"] |= {
        "loki": {"endpoint": f"http://{free_address()}", "sending_queue": {"queue_size": "20KiB"}},
        "webhook": {"url": hook.url},
    }
    pipelines = config["service"]["pipelines"]
    pipelines["events"]["exporters"].append("alerts")
    pipelines["logs"]["exporters"].append("loki")
    pipelines["alerts"] = {"receivers": ["alerts"], "processors": ["dedup"], "exporters": ["webhook"]}
    config["service"] |= {"clock": "system", "shutdown_timeout": "1s"}
    config["service"]["intake"] = {"max_bytes": "64KiB", "tell_after": "1s"}


def test_a_stopped_intake_is_told_to_who_can_be_told_and_so_is_its_end_after_a_kill(daemon: Daemon) -> None:
    hook = Hook()
    with hook.running():
        prepare(daemon, hook)
        daemon.start()
        append(daemon, lines(1500))
        until("it is told", lambda: told(hook))
        ((state, summary),) = told(hook)
        assert state == "firing"
        assert summary.startswith("No input is taken: the outbox of exporter loki is full (")
        assert "It has stood still since" in summary
        daemon.process.send_signal(signal.SIGKILL)
        daemon.process.wait()
        daemon.config["exporters"]["loki"]["sending_queue"]["queue_size"] = "1GiB"
        daemon.start()
        # The kill may have come before the first call's acknowledgement was written: then that one comes again.
        until("it is over", lambda: list(dict.fromkeys(state for state, _ in told(hook))) == ["firing", "resolved"])
        assert daemon.stop() == 0


def test_it_can_be_left_alone(daemon: Daemon, tmp_path: Path) -> None:
    hook = Hook()
    with hook.running():
        prepare(daemon, hook)
        daemon.config["service"]["intake"]["tell_after"] = "0"
        daemon.start()
        append(daemon, lines(1500))
        until("it stands still", lambda: "loki" in daemon.ready["blocked"])  # it is not ready from the first refusal on
        assert not daemon.ready["ready"]
        daemon.config["service"]["intake"]["tell_after"] = "1s"
        daemon.reload()
        until("a reload turns it on", lambda: told(hook))
        assert daemon.stop() == 0
