"""Every metric that dagtel derives from Dagster's events: name, kind, labels, help, and whose series it is.

One table, from which the connector takes the labels, the exporter the help texts and docs/metrics.md its list
(tests/connectors/test_metrics.py holds the page against it). `owner` says when a series is retired: with its asset,
its check, its job, or never.
"""

from typing import Final, Literal

import msgspec

OVERFLOW: Final = "__overflow__"
"""Label value of the one series that takes what a metric's limit of series leaves no room for."""

MetricName = Literal[
    "asset_executions_total",
    "asset_execution_failures_total",
    "asset_execution_seconds",
    "asset_materializations_total",
    "asset_rows_processed_total",
    "asset_row_count",
    "asset_bytes_written_total",
    "asset_last_update_timestamp",
    "asset_metadata_value",
    "validation_pass_rate",
    "asset_check_passed",
    "asset_check_evaluations_total",
    "dagster_runs_total",
    "dagster_run_seconds",
    "dagster_run_queue_seconds",
    "dagster_step_retries_total",
    "dagster_log_records_total",
]


class Metric(msgspec.Struct, frozen=True):
    """One metric. `labels` in the order in which the connector's series keys hold their values.

    `bounded` are the labels whose values are ours and few; the others are names from user code, and become
    `__overflow__` in the overflow series.
    """

    name: MetricName
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    owner: Literal["asset", "check", "job", ""]
    bounded: tuple[str, ...] = ()


_ALL: Final = (
    Metric("asset_executions_total", "counter", ("asset_name",),
           "Times an asset was attempted, once an asset and run: it was made, or its step failed.", "asset"),
    Metric("asset_execution_failures_total", "counter", ("asset_name",),
           "Attempts at an asset that failed for good (after all retries), once an asset and run.", "asset"),
    Metric("asset_execution_seconds", "histogram", ("asset_name", "status"),
           "Seconds from the start of the step's attempt until the asset was made or failed.", "asset", ("status",)),
    Metric("asset_materializations_total", "counter", ("asset_name",),
           "Materializations of an asset, one a partition, also those reported from outside a run.", "asset"),
    Metric("asset_rows_processed_total", "counter", ("asset_name", "operation"),
           "Rows that materializations reported, by operation: materialize, fetch, insert, update, delete.",
           "asset", ("operation",)),
    Metric("asset_row_count", "gauge", ("asset_name", "schema"),
           "Rows in the asset's table as the last materialization reported them (dagster/row_count).", "asset"),
    Metric("asset_bytes_written_total", "counter", ("asset_name",),
           "Bytes that materializations reported as written.", "asset"),
    Metric("asset_last_update_timestamp", "gauge", ("asset_name",),
           "When the asset was last materialized, in seconds since the Unix epoch.", "asset"),
    Metric("asset_metadata_value", "gauge", ("asset_name", "label"),
           "Last value of the numeric metadata that the configuration names.", "asset"),
    Metric("validation_pass_rate", "gauge", ("asset_name", "check_name"),
           "Share of rows that passed the check's last evaluation, 0 to 100; 100 or 0 where it counts no rows.",
           "check"),
    Metric("asset_check_passed", "gauge", ("asset_name", "check_name", "severity"),
           "Whether the check's last evaluation passed: 1 or 0.", "check"),
    Metric("asset_check_evaluations_total", "counter", ("asset_name", "check_name", "status", "severity"),
           "Evaluations of a check, by status (passed, failed) and severity.", "check", ("status",)),
    Metric("dagster_runs_total", "counter", ("job_name", "status"),
           "Runs by status: success, failure, canceled; of one that was closed as unfinished, where it was last seen.",
           "job", ("status",)),
    Metric("dagster_run_seconds", "histogram", ("job_name", "status"),
           "Seconds from a run's start to its end.", "job", ("status",)),
    Metric("dagster_run_queue_seconds", "histogram", ("job_name",),
           "Seconds that a run waited between being enqueued and being started.", "job"),
    Metric("dagster_step_retries_total", "counter", ("job_name",),
           "Attempts of steps that failed and were tried again.", "job"),
    Metric("dagster_log_records_total", "counter", ("level",),
           "Log records, one an entry of Dagster's event log, by the level that the log line has.", "", ("level",)),
)  # fmt: skip

METRICS: Final[dict[str, Metric]] = {metric.name: metric for metric in _ALL}


class GaugeName(msgspec.Struct, frozen=True):
    """A gauge of a component other than the `metrics` connector: its labels and help."""

    name: str
    labels: tuple[str, ...]
    help: str


_OTHERS: Final = (
    GaugeName("asset_freshness_seconds", ("asset_name",), "Seconds since the asset's last update."),
    GaugeName("asset_sla_freshness_target_seconds", ("asset_name",),
              "The age that the asset may have: its SLA, else Dagster's freshness policy."),
    GaugeName("asset_sla_freshness_breached", ("asset_name",),
              "1 while the asset (or any of its partitions) is later than promised, else 0."),
    GaugeName("asset_sla_availability_target_ratio", ("asset_name",), "The share of executions that is to succeed."),
    GaugeName("asset_sla_availability_ratio", ("asset_name",), "The share of executions in the window that succeeded."),
    GaugeName("asset_sla_error_budget_remaining_ratio", ("asset_name",),
              "The share of the error budget that is left in the window; below 0: overspent."),
    GaugeName("disk_usage_percent", ("mount_point",), "Used share of the file system, 0 to 100."),
    GaugeName("disk_used_bytes", ("mount_point",), "Used bytes of the file system."),
    GaugeName("disk_total_bytes", ("mount_point",), "Size of the file system in bytes."),
    GaugeName("memory_usage_percent", (), "Share of the memory that is not available, 0 to 100."),
    GaugeName("memory_used_bytes", (), "Memory that is not available, in bytes."),
    GaugeName("memory_total_bytes", (), "Memory of the machine in bytes."),
    GaugeName("load_average", (), "Load average of five minutes."),
    GaugeName("load_percent", (), "Load average of five minutes as a share of the CPUs; 100 is all that they can do."),
    GaugeName("container_health", ("container_name",), "1 if the container runs and is not unhealthy, else 0."),
    GaugeName("connection_pool_used", ("pool",), "Connections of clients that a PostgreSQL server has."),
    GaugeName("connection_pool_size", ("pool",), "Connections that it takes, without those kept for superusers."),
    GaugeName("storage_lake_size_bytes", ("bucket", "prefix"), "Bytes of all objects of a bucket under a prefix."),
    GaugeName("storage_lake_objects", ("bucket", "prefix"), "Objects of a bucket under a prefix."),
)  # fmt: skip

GAUGES: Final[dict[str, GaugeName]] = {gauge.name: gauge for gauge in _OTHERS}
