"""Reloads: read the configuration again, check all of it, take it over; say what came of it. A bad one changes nothing.

Requests that come while one is under way are one further reload, which reads what the files hold then.
"""

import logging
import threading
from collections.abc import Awaitable, Callable, Iterable

import anyio
import anyio.to_thread
import msgspec

from pipeline.clock import SECOND, Clock
from pipeline.config.model import Config
from pipeline.config.source import SET, place
from pipeline.errors import ConfigError, DagtelError, Problem
from pipeline.runtime.plan_change import needs_restart
from pipeline.runtime.telemetry import Telemetry
from pipeline.runtime.watch import Fingerprint, fingerprint, watch
from pipeline.topology.plan import Plan

log = logging.getLogger("dagtel.reload")


class Loaded(msgspec.Struct, frozen=True):
    """A configuration that could run: its plan, what it was made of, and what its files held."""

    plan: Plan
    config: Config
    files: Fingerprint


def loaded(plan: Plan, config: Config) -> Loaded:
    """With what the files hold now. Blocks."""
    return Loaded(plan, config, fingerprint([*(f for f in config.files if f != SET), *config.outside]))


class Reloading(msgspec.Struct, frozen=True):
    """What the command line hands over. `load` reads the same files and options again; it raises ConfigError.
    `asked` is set by a SIGHUP that came before the service listened to it.
    """

    first: Loaded
    load: Callable[[], Loaded]
    watch: bool
    asked: threading.Event


class Outcome(msgspec.Struct, frozen=True):
    """How the last reload ended; `reasons` are those of a refusal."""

    successful: bool
    at_ns: int
    reasons: tuple[str, ...] = ()


class Reloads:
    """The reloads of one daemon. `take_over` gives what changed, as facts for the log; it raises and leaves all as it
    was, or it has happened.
    """

    def __init__(
        self,
        reloading: Reloading,
        take_over: Callable[[Plan], Awaitable[dict[str, object]]],
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self.now, self._reloading = reloading.first, reloading
        self.last = Outcome(True, clock.wall_ns())
        self._before: Loaded | None = None
        self._take_over, self._clock = take_over, clock
        self._seen = reloading.first.files
        self._wanted = anyio.Event()
        self._busy = anyio.Lock()
        self._succeeded_ns = self.last.at_ns
        if reloading.asked.is_set():
            self._wanted.set()
        self._count = telemetry.meter.create_counter("dagtel_config_reloads", description="Reloads, by result.")
        telemetry.gauge(
            "dagtel_config_last_reload_successful",
            "1 when the last reload (or the start) was good, 0 when it was refused.",
            lambda: [(float(self.last.successful), {})],
        )
        telemetry.gauge(
            "dagtel_config_last_reload_success_timestamp_seconds",
            "When the configuration in force was taken over.",
            lambda: [(self._succeeded_ns / SECOND, {})],
        )

    def ask(self) -> None:
        """Reload as soon as possible."""
        self._wanted.set()

    async def run(self) -> None:
        """Do what is asked for until cancelled."""
        async with anyio.create_task_group() as tasks:
            if self._reloading.watch:
                tasks.start_soon(watch, lambda: self._seen, self.ask)
            while True:
                await self._wanted.wait()
                self._wanted = anyio.Event()
                await self.reload()

    async def reload(self) -> None:
        """Read, check and take over; whatever goes wrong is said, and changes nothing."""
        async with self._busy:
            # Read before the files are: what changes while they are read is seen as a change afterwards.
            self._seen = await anyio.to_thread.run_sync(fingerprint, self._seen)
            try:
                new = await anyio.to_thread.run_sync(self._reloading.load)
                self._seen = {**new.files, **{file: self._seen[file] for file in self._seen if file in new.files}}
                self._refuse_restart_only(new)
                facts = await self._take_over(new.plan)
            except ConfigError as error:
                self._refused(error.problems)
            except DagtelError as error:
                self._refused([error])
            except Exception as error:
                log.exception("A reload failed.")
                self._refused([error])
            else:
                self._before, self.now = self.now, new
                self._taken_over(facts)

    async def revert(self, reason: str) -> bool:
        """Go back to the configuration before this one, because of what came of it. False: there is none, or the way
        back is barred too."""
        async with self._busy:
            if self._before is None:
                return False
            back, self._before = self._before, None
            try:
                await self._take_over(back.plan)
            except Exception:
                log.exception("The configuration before this one cannot be taken over.")
                return False
            self.now = back
            self._refused([DagtelError(f"{reason}; back to the configuration before")])
            return True

    async def finished(self) -> None:
        """Wait for a reload that is under way."""
        async with self._busy:
            pass

    def _refuse_restart_only(self, new: Loaded) -> None:
        paths = list(needs_restart(self.now.plan.service, new.plan.service))
        if paths:
            at = [(path, place(new.config.tree, path)) for path in paths]
            raise ConfigError([Problem(path, "needs a restart to change", node.file, node.line) for path, node in at])

    def _refused(self, reasons: Iterable[Exception]) -> None:
        texts = tuple(str(reason) or repr(reason) for reason in reasons)
        for text in texts:
            log.error("Configuration not reloaded, going on with the old one.", extra={"problem": text})
        self.last = Outcome(False, self._clock.wall_ns(), texts)
        self._count.add(1, {"result": "refused"})

    def _taken_over(self, facts: dict[str, object]) -> None:
        for problem in self.now.plan.warnings:
            log.warning("Configuration.", extra={"warning": str(problem)})
        log.info("Configuration reloaded.", extra=facts)
        self.last = Outcome(True, self._clock.wall_ns())
        self._succeeded_ns = self.last.at_ns
        self._count.add(1, {"result": "success"})
