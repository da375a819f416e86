"""A Dagster project that uses dagster_dagtel in every kind of step; run by the Dagster environment's own Python.

    OBSERVED_FOLDER=FOLDER python observed_project.py in_process|multiprocess

writes FOLDER/spans.jsonl as steps send their spans (batched for an hour and without the SDK's exit hook, so that only
a flush sends them) and prints the event log as one JSON document.
"""

import json
import logging
import os
import sys
import threading
from contextvars import copy_context
from pathlib import Path

import dagster as dg
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from dagster_dagtel import get_logger, trace_operation

FOLDER = Path(os.environ["OBSERVED_FOLDER"])
logger = get_logger("observed")


class AppendingExporter(SpanExporter):
    """Spans as JSON lines, for whichever process sends them."""

    def export(self, spans: "list[ReadableSpan]") -> SpanExportResult:
        with (FOLDER / "spans.jsonl").open("a") as file:
            for span in spans:
                file.write(json.dumps(json.loads(span.to_json(indent=None))) + "\n")
        return SpanExportResult.SUCCESS


provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(BatchSpanProcessor(AppendingExporter(), schedule_delay_millis=3_600_000))
trace.set_tracer_provider(provider)


@dg.asset(check_specs=[dg.AssetCheckSpec("inner_check", asset="entries")])
def entries(context: dg.AssetExecutionContext):
    log = logger.bind(asset_name="entries")
    log.info("asset_started", timestamp="2024-10-15T10:35:42")
    with trace_operation("entries_work", {"n": 1, "when": None, "keys": ["a", "b"]}) as span:
        with trace_operation("fetch_from_api") as fetch:
            fetch.set_attribute("rows_fetched", 487)
            log.info("api_fetch_success", rows_returned=487, ratio=99.5)
        span.set_attribute("late", True)
        threads = [
            threading.Thread(target=copy_context().run, args=(in_thread, "copied")),
            threading.Thread(target=in_thread, args=("bare",)),
        ]
        for thread in threads:
            thread.start()
            thread.join()
    with trace_operation("second"):
        pass
    return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=True, check_name="inner_check")])


def in_thread(how: str) -> None:
    logger.info("from_thread", how=how)
    with trace_operation(f"thread_{how}"):
        pass


@dg.asset_check(asset=entries)
@trace_operation("check_work")
def outer_check() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.multi_asset(outs={"left": dg.AssetOut(), "right": dg.AssetOut()})
def both_sides():
    with trace_operation("left_work"):
        yield dg.Output(1, "left")
    with trace_operation("right_work"):
        yield dg.Output(2, "right")


@dg.asset
@trace_operation("async_work")
async def from_coroutine() -> int:
    with trace_operation("async_inner"):
        return 1


@dg.op(out=dg.DynamicOut())
@trace_operation("spread_work")
def spread():
    yield dg.DynamicOutput("x", mapping_key="bad_table")


@dg.op
@trace_operation("vacuum_work")
def vacuum(table: str) -> str:
    return table


@dg.op(out={"a": dg.Out(int), "b": dg.Out(int)})
async def async_spread():
    with trace_operation("async_generator_work"):
        yield dg.Output(1, "a")
        yield dg.Output(2, "b")


@dg.op(retry_policy=dg.RetryPolicy(max_retries=1))
def flaky(context: dg.OpExecutionContext) -> None:
    with trace_operation("flaky_work"):
        try:
            if context.retry_number == 0:
                raise TimeoutError("Connection timeout after 30s")
        except TimeoutError:
            logger.exception("asset_failed", asset_name="flaky")
            raise


@dg.op(out=dg.Out(io_manager_key="broken"))
def left_open():
    with trace_operation("left_open_work"):
        yield dg.Output(1)


class BrokenIOManager(dg.IOManager):
    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        logger.warning("io_manager_line")
        raise OSError("disk full")

    def load_input(self, context: dg.InputContext) -> object:
        raise NotImplementedError


@dg.op
def last() -> None:
    with trace_operation("last_work"):
        pass


@dg.job(resource_defs={"broken": dg.IOManagerDefinition.hardcoded_io_manager(BrokenIOManager())})
def ops_job():
    spread().map(vacuum)
    async_spread()
    flaky()
    left_open()
    last()


defs = dg.Definitions(
    assets=[entries, both_sides, from_coroutine],
    asset_checks=[outer_check],
    jobs=[ops_job, dg.define_asset_job("assets_job", selection=dg.AssetSelection.all())],
)


def assets_job() -> dg.JobDefinition:
    return defs.resolve_job_def("assets_job")


def stored(instance: dg.DagsterInstance, run_id: str) -> list[dict[str, object]]:
    return [
        {
            "text": entry.user_message,
            "level": logging.getLevelName(entry.level),
            "step": entry.step_key,
            "type": entry.dagster_event_type.value if entry.dagster_event_type else "",
        }
        for entry in instance.all_logs(run_id)
    ]


def main(executor: str) -> None:
    with dg.DagsterInstance.local_temp(str(FOLDER / "home")) as instance:
        runs = []
        for job in (assets_job, ops_job):
            if executor == "in_process":
                definition = assets_job() if job is assets_job else ops_job
                run_id = definition.execute_in_process(instance=instance, raise_on_error=False).run_id
            else:
                with dg.execute_job(dg.reconstructable(job), instance, raise_on_error=False) as result:
                    run_id = result.run_id
            runs.append({"run_id": run_id, "events": stored(instance, run_id)})
    print(json.dumps(runs))


if __name__ == "__main__":
    main(sys.argv[1])
