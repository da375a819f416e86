"""dlt_glucose_entries → stg_glucose_entries → fct_glucose_readings → marts, with checks, retries and metadata."""

import time

import dagster as dg
from glucose import telemetry
from glucose.nightscout import readings

from dagster_dagtel import get_logger, trace_operation

telemetry.configure()
logger = get_logger()
PLATFORM = ["team:data-platform-team"]
ANALYTICS = ["team:analytics"]
WEATHER = "demo/weather"  # a run tag: fine | flaky | outliers | bad_rows | down


def weather(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> str:
    """What this run meets with."""
    return context.op_execution_context.run.tags.get(WEATHER, "fine")


def result(rows: int, table: str, **metadata: object) -> dg.MaterializeResult:
    """What was written: row count and table name are the labels that Dagster itself knows."""
    return dg.MaterializeResult(metadata={"dagster/row_count": rows, "dagster/table_name": table, **metadata})


@dg.asset(
    group_name="raw",
    owners=PLATFORM,
    kinds={"dlt", "iceberg"},
    retry_policy=dg.RetryPolicy(max_retries=2, delay=0.2),
    description="Glucose entries of the Nightscout API, merged by id.",
)
def dlt_glucose_entries(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    log = logger.bind(asset_name="dlt_glucose_entries")
    log.info("asset_started")
    try:
        with trace_operation("dlt_glucose_entries"):
            entries = fetch_from_api(weather(context), context.retry_number + 1)
            valid = validate(entries)
            merged = merge_to_iceberg(valid)
    except Exception:
        log.exception("asset_failed")
        raise
    log.info("asset_succeeded", **merged)
    return result(487_000 + len(valid), "lake.raw.glucose_entries", rows_loaded=len(entries), **merged)


def fetch_from_api(weather: str, attempt: int) -> list[readings.Reading]:
    """The first stage, with a span and log lines of its own."""
    with trace_operation("fetch_from_api") as span:
        span.set_attribute("endpoint", "nightscout_api")
        logger.info("api_fetch_started", endpoint=readings.URL, timeout_seconds=30)
        started = time.monotonic()
        entries = readings.fetch(weather, attempt)
        span.set_attribute("rows_fetched", len(entries))
        elapsed = round((time.monotonic() - started) * 1000, 1)
        logger.info("api_fetch_success", rows_returned=len(entries), response_time_ms=elapsed)
    return entries


def validate(entries: list[readings.Reading]) -> list[readings.Reading]:
    """Keeps what is plausible."""
    with trace_operation("pandera_validation", {"schema": "glucose_entries_v1"}) as span:
        logger.info("validation_started", validator="pandera", schema="glucose_entries_v1")
        with trace_operation("type_checking"):
            time.sleep(0.005)
        with trace_operation("constraint_checking"):
            valid = [entry for entry in entries if 20 <= entry.mg_dl <= 600]
        span.set_attribute("rows_valid", len(valid))
        rate = 100.0 * len(valid) / len(entries)
        logger.info("validation_complete", total_rows=len(entries), valid_rows=len(valid), pass_rate=rate)
    return valid


def merge_to_iceberg(valid: list[readings.Reading]) -> dict[str, int]:
    """Pretends to merge; says how many rows were new and how many changed."""
    with trace_operation("iceberg_merge", {"table": "raw.glucose_entries"}) as span:
        logger.info("merge_started", table="raw.glucose_entries", rows_to_merge=len(valid), unique_key="_id")
        for part in ("read_snapshot", "merge_operation", "write_metadata"):
            with trace_operation(part):
                time.sleep(0.01)
        merged = {"inserts": len(valid) - 2, "updates": 2}
        span.set_attribute("inserts", merged["inserts"])
        span.set_attribute("updates", merged["updates"])
        logger.info("merge_complete", table="raw.glucose_entries", **merged)
    return merged


@dg.asset(group_name="staging", owners=PLATFORM, kinds={"dbt"}, deps=[dlt_glucose_entries])
def stg_glucose_entries() -> dg.MaterializeResult:
    time.sleep(0.02)
    return result(487_480, "lake.staging.stg_glucose_entries")


@dg.asset(group_name="core", owners=PLATFORM, kinds={"dbt"}, deps=[stg_glucose_entries])
def fct_glucose_readings() -> dg.MaterializeResult:
    time.sleep(0.03)
    return result(487_239, "lake.core.fct_glucose_readings")


@dg.asset(group_name="marts", owners=ANALYTICS, kinds={"dbt"}, deps=[fct_glucose_readings])
def mrt_glucose_readings() -> dg.MaterializeResult:
    time.sleep(0.02)
    return result(487_239, "lake.marts.mrt_glucose_readings")


@dg.asset(group_name="core", owners=ANALYTICS, kinds={"dbt"}, deps=[fct_glucose_readings])
def fct_daily_glucose_metrics() -> dg.MaterializeResult:
    return result(1_694, "lake.core.fct_daily_glucose_metrics")


@dg.asset(group_name="marts", owners=ANALYTICS, kinds={"dbt"}, deps=[fct_daily_glucose_metrics])
def mrt_glucose_hourly_patterns() -> dg.MaterializeResult:
    return result(24, "lake.marts.mrt_glucose_hourly_patterns")


@dg.asset(group_name="marts", owners=ANALYTICS, kinds={"postgres"}, deps=[mrt_glucose_readings])
def publish_glucose_marts() -> dg.MaterializeResult:
    with trace_operation("publish", {"target": "postgres"}):
        time.sleep(0.03)
    return result(487_239, "marts.glucose_readings")


@dg.asset_check(asset=stg_glucose_entries, description="Each entry stands once.")
def no_duplicates() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True, metadata={"failed_count": 0, "total_count": 487_480})


@dg.asset_check(asset=fct_glucose_readings, blocking=True, description="All readings lie within 20 and 600 mg/dL.")
def glucose_range_check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    failed = 312 if weather(context) == "bad_rows" else 0
    return dg.AssetCheckResult(passed=failed == 0, metadata={"failed_count": failed, "total_count": 487_239})


@dg.asset_check(asset=fct_glucose_readings, description="No readings beyond four standard deviations.")
def statistical_bounds_check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    outliers = 2 if weather(context) == "outliers" else 0
    return dg.AssetCheckResult(
        passed=outliers == 0,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{outliers} outliers detected",
        metadata={"failed_count": outliers, "total_count": 487_239},
    )


pipeline = dg.define_asset_job(
    "daily_glucose_pipeline", selection=dg.AssetSelection.all(), executor_def=dg.in_process_executor
)

defs = dg.Definitions(
    assets=[
        dlt_glucose_entries,
        stg_glucose_entries,
        fct_glucose_readings,
        mrt_glucose_readings,
        fct_daily_glucose_metrics,
        mrt_glucose_hourly_patterns,
        publish_glucose_marts,
    ],
    asset_checks=[no_duplicates, glucose_range_check, statistical_bounds_check],
    jobs=[pipeline],
)
