"""Runs of Dagster as a scenario tells of them, as the entries that Dagster would store."""

from typing import Any, TypeVar

import msgspec

from pipeline.scenario.model import AssetRun, CheckRun, JobRun, Step
from pipeline.scenario.story import CHECK_FAILED, INTERRUPTED, Fault, Log

Entries = list[tuple[int, bytes]]
"""Time (Unix ns) and bytes of each entry."""

T = TypeVar("T", bound=msgspec.Struct)


def entries(step: Step, at_ns: int, name: str, number: int) -> Entries:
    """What a builder's entry stands for, the `number`th time; `name` is the run's id where it has none of its own."""
    log: Log | None = None
    if step.asset_failed:
        log = _asset(_numbered(step.asset_failed, number), at_ns, name, failed=True)
    elif step.asset_materialized:
        log = _asset(_numbered(step.asset_materialized, number), at_ns, name, failed=False)
    elif step.check_failed:
        log = _check(_numbered(step.check_failed, number), at_ns, name, passed=False)
    elif step.check_passed:
        log = _check(_numbered(step.check_passed, number), at_ns, name, passed=True)
    elif step.run_failed:
        run = _numbered(step.run_failed, number)
        log = _log(run, at_ns, name).run_start().after(run.took)
        log.run_failure(fault(run.error) if run.error else None, "RUN_EXCEPTION")
    elif step.run_succeeded:
        run = _numbered(step.run_succeeded, number)
        log = _log(run, at_ns, name).run_start().after(run.took).run_success()
    elif step.run_canceled:
        log = _canceled(_numbered(step.run_canceled, number), at_ns, name)
    return log.timed_lines() if log is not None else []


def fault(text: str, file: str = "/opt/project/defs.py", line: int = 17, function: str = "compute") -> Fault:
    """`Type: message` as an error; a text without a type is a plain Exception."""
    cls, colon, message = text.partition(":")
    if not colon or not cls.replace(".", "").replace("_", "").isalnum():
        cls, message = "Exception", text
    module, _, name = cls.strip().rpartition(".")
    return Fault(name, message.strip(), module, file, line, function)


def _log(run: AssetRun | CheckRun | JobRun, at_ns: int, name: str) -> Log:
    return Log(run.run or name, run.job, at_ns, tick_ns=0)


def _asset(run: AssetRun, at_ns: int, name: str, failed: bool) -> Log:
    assets = {run.asset: run.step or _step(run.asset)} | {asset: _step(asset) for asset in run.also}
    log = _log(run, at_ns, name)
    for asset, step in assets.items():
        log.plan(asset, step, run.partition)
    log.run_start()
    for step in assets.values():
        log.step_start(step)
    error = fault(run.error, run.file, run.line, run.function)
    for attempt in range(2, run.attempts + 1):
        log.after(run.took)
        for step in assets.values():
            log.step_up_for_retry(step, error, float(run.retry_wait))
        log.after(run.retry_wait)
        for step in assets.values():
            log.step_restarted(step, attempt)
    log.after(run.took)
    for asset, step in assets.items():
        if failed:
            log.step_failure(step, error)
        else:
            log.materialize(asset, step, run.partition, run.metadata).step_success(step)
    return log.run_failure() if failed else log.run_success()


def _check(run: CheckRun, at_ns: int, name: str, passed: bool) -> Log:
    step = _step(run.asset)
    log = _log(run, at_ns, name).plan(run.asset, step).plan_check(run.asset, run.check, step)
    log.run_start().step_start(step).after(run.took).materialize(run.asset, step)
    log.check(run.asset, run.check, passed, step, run.severity, run.blocking, run.metadata)
    if not passed and run.blocking:
        return log.step_failure(step, CHECK_FAILED).run_failure()
    return log.step_success(step).run_success()


def _canceled(run: JobRun, at_ns: int, name: str) -> Log:
    log = _log(run, at_ns, name)
    if not run.asset:
        return log.run_start().after(run.took).run_canceled()
    step = _step(run.asset)
    log.plan(run.asset, step).run_start().step_start(step).after(run.took)
    return log.step_failure(step, INTERRUPTED, "INTERRUPT").run_canceled()


def _step(asset: str) -> str:
    return asset.replace("/", "__")


def _numbered(run: T, number: int) -> T:
    return msgspec.structs.replace(run, **{f: _with(getattr(run, f), number) for f in run.__struct_fields__})


def _with(value: Any, number: int) -> Any:
    return value.replace("{n}", str(number)) if isinstance(value, str) else value
