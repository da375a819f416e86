"""The real daemon and servers that keep each service's rules: busy, broken, slow, cut off, or away for long."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.clock import SECOND
from pipeline.testing.builders import Fault as Error
from pipeline.testing.builders import Log
from tests.exporters.notifiers.test_email import Mailboxes, serving
from tests.integration import services
from tests.integration.conftest import Daemon, until
from tests.integration.services import Fault

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:aiosmtpd")

CONFIG = str(Path(__file__).with_name("notifiers.yaml"))
BROKEN = Error("TimeoutError", "<!channel> Connection timeout after 30s", file="ingestion/readings.py", line=45)


class World:
    """The services, the event log, and one daemon at a time."""

    def __init__(self, folder: Path, start: Callable[..., Daemon], stack: ExitStack) -> None:
        self.slack, self.hook_slack = services.Slack(), services.Slack()
        self.pagerduty, self.hook, self.alertmanager = services.PagerDuty(), services.Hook(), services.Hook()
        for service in (self.slack, self.hook_slack, self.pagerduty, self.hook, self.alertmanager):
            stack.enter_context(service.running())
        self.mail: Mailboxes = stack.enter_context(serving())
        self.events = folder / "events.jsonl"
        self.events.touch()
        self.runs = 0
        self._start, self._environment = start, {
            "EVENTS": str(self.events),
            "STATE": str(folder / "state.db"),
            "SLACK": self.slack.url,
            "SLACK_HOOK": self.hook_slack.url,
            "PAGERDUTY": self.pagerduty.url,
            "HOOK": self.hook.url,
            "ALERTMANAGER": self.alertmanager.url,
            "SMTP_PORT": str(self.mail.port),
        }  # fmt: skip

    def start(self) -> Daemon:
        return self._start("run", "--config", CONFIG, **self._environment)

    def run(self, failed: bool, asset: str = "glucose_entries") -> None:
        """A run of the asset, now."""
        self.runs += 1
        log = Log(f"run-{self.runs}", job=f"job_{asset}", start_ns=time.time_ns() - 5 * SECOND, tick_ns=1_000_000)
        log.plan(asset, "fetch").run_start().step_start("fetch")
        if failed:
            log.step_failure("fetch", BROKEN).run_failure()
        else:
            log.materialize(asset, "fetch").step_success("fetch").run_success()
        with self.events.open("ab") as file:
            file.write(b"".join(line + b"\n" for line in log.lines()))

    def slack_says(self) -> list[str]:
        return [str(root.body["blocks"][0]["text"]["text"]) for root in self.slack.roots]

    def hook_slack_says(self) -> list[str]:
        return [str(root.body["blocks"][0]["text"]["text"]) for root in self.hook_slack.roots]

    def states(self) -> list[str]:
        """What the webhook was told."""
        return [body["state"] for _, _, body in self.hook.calls]


FIRST, END = "🔴 Asset Materialization Failed", "✅ Resolved: glucose_entries"


@pytest.fixture
def world(tmp_path: Path, daemons: Callable[..., Daemon]) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path, daemons, stack)


def test_a_failure_and_its_end_reach_everybody_once_whatever_the_services_say_first(world: World) -> None:
    world.slack.faults += [services.busy(1), Fault(503)]
    world.hook_slack.faults += [Fault(500), Fault(200, after_s=2), services.CUT]  # the slow one is given up after 0.5 s
    world.pagerduty.faults += [services.CUT, services.busy(1), services.LOST_ANSWER]
    world.hook.faults += [Fault(502)]
    world.mail.data = "451 try later"
    world.start()
    world.run(failed=True)
    until("the first failure is told", lambda: (
        world.slack_says() == [FIRST] and world.hook_slack_says() == [FIRST]
        and set(world.pagerduty.incidents.values()) == {"triggered"} and "firing" in world.states()
    ))  # fmt: skip
    world.mail.data = ""
    until("and by email", lambda: len(world.mail.taken) == 1)
    world.run(failed=False)
    until("its end is told", lambda: (
        world.slack_says() == [END] and world.hook_slack_says() == [FIRST, END]
        and set(world.pagerduty.incidents.values()) == {"resolved"} and world.states()[-1] == "resolved"
        and len(world.mail.taken) == 2
    ))  # fmt: skip
    waits = [now - before for before, now in zip(world.slack.times, world.slack.times[1:], strict=False)]
    assert waits[0] >= 1, "Slack had asked to wait for a second"
    (key,) = world.pagerduty.incidents
    assert key.endswith("#1")
    first, last = (message for _, message in world.mail.taken)
    assert last["References"] == first["References"]
    assert "<!channel>" not in str([body for _, _, body in world.slack.calls])


def test_a_notifier_that_was_away_is_told_only_what_is_still_worth_telling(world: World) -> None:
    world.slack.down, world.hook_slack.down = Fault(503), services.CUT
    daemon = world.start()
    world.run(failed=True)
    world.run(failed=True, asset="orders")
    until("it has been tried", lambda: len(world.slack.calls) > 2 and len(world.hook_slack.calls) > 2)
    until("the others know", lambda: world.states().count("firing") == 2)
    daemon.kill()
    world.run(failed=False)
    world.start()
    until("the others know of the end", lambda: world.states().count("resolved") == 1)
    world.slack.down = world.hook_slack.down = None
    until("Slack knows", lambda: len(world.slack.roots) == 2 and len(world.hook_slack.roots) == 2)
    world.run(failed=False, asset="orders")
    until("all is over", lambda: len(world.hook_slack.roots) == 3)
    assert FIRST in world.hook_slack_says()[:2], "orders still fails"
    assert world.hook_slack_says().count(END) == 1
    assert world.hook_slack_says().count(FIRST) == 1, "glucose_entries was over: nobody needs to know that it failed"
    assert world.states() == ["firing", "firing", "resolved", "resolved"]


def test_a_thread_goes_on_after_a_kill(world: World) -> None:
    daemon = world.start()
    world.run(failed=True)
    until("it is told", lambda: world.slack_says() == [FIRST])
    until("and all others too", lambda: len(world.mail.taken) == 1 and world.states() == ["firing"])
    daemon.kill()
    world.run(failed=False)
    world.start()
    until("its end is told", lambda: END in world.slack_says() and world.slack.replies)
    assert len(world.slack.roots) <= 2, "the first is repeated only if its acknowledgement was lost"
    assert len(world.slack.replies) == 1


def test_alertmanager_is_told_again_and_again_what_is_open_after_a_kill_too(world: World) -> None:
    def told_again() -> bool:
        """Calls that no notification asked for."""
        before = len(world.alertmanager.calls)
        return bool(until("it is told again", lambda: len(world.alertmanager.calls) > before + 2))

    daemon = world.start()
    world.run(failed=True)
    until("it is told", lambda: world.alertmanager.calls)
    assert told_again()
    daemon.kill()
    daemon = world.start()
    assert told_again()
    world.run(failed=False)
    until("it is over", lambda: _ends_soon(world.alertmanager.calls[-1][2]))
    assert daemon.stop() == 0
    assert _ends_soon(world.alertmanager.calls[-1][2]), "what is over is not told again"


def _ends_soon(posted: list[dict[str, str]]) -> bool:
    """Each of them is over, not open for a day."""
    ends = [datetime.fromisoformat(one["endsAt"]) for one in posted]
    return bool(ends) and max(ends) <= datetime.now(UTC)


@pytest.mark.parametrize("done", [False, True])
def test_a_kill_during_the_call_loses_nothing_and_repeats_at_most_that_call(world: World, done: bool) -> None:
    world.hook_slack.down = Fault(after_s=30, done=done)
    daemon = world.start()
    world.run(failed=True)
    until("the call is under way", lambda: len(world.hook_slack.calls) == 1, 20)
    daemon.kill()
    world.hook_slack.down = None
    world.start()
    until("it came again", lambda: len(world.hook_slack.calls) == 2)
    until("it is told", lambda: len(world.hook_slack.roots) == 1 + done)
    world.run(failed=False)
    until("its end is told", lambda: END in world.hook_slack_says())
    assert world.hook_slack_says() == [FIRST] * (1 + done) + [END]


def test_what_is_refused_goes_to_the_dead_letters_with_what_it_means_and_delays_nobody(
    world: World, tmp_path: Path
) -> None:
    world.hook_slack.down = Fault(404)
    daemon = world.start()
    world.run(failed=True)
    until("the others know", lambda: world.states() == ["firing"] and world.slack_says() == [FIRST])
    until("it was refused", lambda: len(world.hook_slack.calls) == 1)
    until("and says why", lambda: "there is nothing at this URL; check it" in daemon.log.read_text())
    assert daemon.stop() == 0
    log = daemon.log.read_text()
    for secret in ("xoxb-test", "0123456789abcdef0123456789abcdef", "whsec_", world.hook_slack.url):
        assert secret not in log
