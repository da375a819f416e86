"""Every name that leaves dagtel: resource, span and log attributes, span events. docs/telemetry.md is made of this.

OpenTelemetry's semantic conventions where they have a word (`cicd.pipeline.*`, `exception.*`, `service.*`), `dagster.*`
for the rest. A test holds docs/telemetry.md against this module, so a name without its line there fails.
"""

from typing import Final

# --- resource --------------------------------------------------------------------------------------------------------

SERVICE_NAME: Final = "service.name"
SERVICE_NAMESPACE: Final = "service.namespace"
SERVICE_INSTANCE_ID: Final = "service.instance.id"
DEPLOYMENT: Final = "deployment.environment.name"
CODE_LOCATION: Final = "dagster.code_location"

SCOPE: Final = "dagtel"
"""The instrumentation scope of everything that dagtel makes."""

# --- spans: runs, step attempts, what is inside ----------------------------------------------------------------------

PIPELINE_NAME: Final = "cicd.pipeline.name"
PIPELINE_RUN_ID: Final = "cicd.pipeline.run.id"
PIPELINE_RUN_URL: Final = "cicd.pipeline.run.url.full"
PIPELINE_RESULT: Final = "cicd.pipeline.result"
TASK_NAME: Final = "cicd.pipeline.task.name"
TASK_RUN_ID: Final = "cicd.pipeline.task.run.id"
"""On step-attempt spans and nothing else: `step_key#attempt`. What counts attempts counts these."""
TASK_RUN_RESULT: Final = "cicd.pipeline.task.run.result"
ERROR_TYPE: Final = "error.type"

RUN_STATUS: Final = "dagster.run.status"
RUN_FAILURE_REASON: Final = "dagster.run.failure_reason"
RUN_TAG: Final = "dagster.run.tags."
"""A prefix: the run tag's key follows."""
BACKFILL: Final = "dagster.backfill.id"
PARTITION: Final = "dagster.partition"
STEP_STATUS: Final = "dagster.step.status"
STEP_KIND: Final = "dagster.step.kind"
STEP_ATTEMPT: Final = "dagster.step.attempt"
STEP_INTERRUPTED: Final = "dagster.step.interrupted"
ASSET_KEYS: Final = "dagster.asset.keys"
INNER_KIND: Final = "dagster.inner.kind"
EVENTS_DROPPED: Final = "dagster.events.dropped"
INNER_DROPPED: Final = "dagster.inner.dropped"
LINK_TYPE: Final = "dagster.link.type"

LINK_PREVIOUS_ATTEMPT: Final = "previous_attempt"
LINK_PARENT_RUN: Final = "parent_run"

# --- span events -----------------------------------------------------------------------------------------------------

EXCEPTION: Final = "exception"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"

EVENT_RUN_STARTING: Final = "dagster.run.starting"
EVENT_RUN_STARTED: Final = "dagster.run.started"
EVENT_MATERIALIZATION: Final = "dagster.asset.materialization"
EVENT_OBSERVATION: Final = "dagster.asset.observation"
EVENT_CHECK: Final = "dagster.asset.check"

ASSET_KEY: Final = "dagster.asset.key"
ASSET_GROUP: Final = "dagster.asset.group"
ASSET_OWNERS: Final = "dagster.asset.owners"
ASSET_KINDS: Final = "dagster.asset.kinds"
ROWS: Final = "dagster.rows"
CHECK_NAME: Final = "dagster.check.name"
CHECK_PASSED: Final = "dagster.check.passed"
CHECK_SEVERITY: Final = "dagster.check.severity"
CHECK_BLOCKING: Final = "dagster.check.blocking"

# --- log records as OTLP (as JSON lines they carry the names of `pipeline.signals.LogRecord`) ------------------------

LOG_ID: Final = "log.record.uid"
LOG_EVENT: Final = "dagster.event.type"
LOG_STATUS: Final = "dagster.status"
LOG_DURATION_MS: Final = "dagster.duration_ms"
LOG_SLOW: Final = "dagster.slow"
LOG_LEVEL: Final = "dagster.level"
LOG_DERIVED: Final = "dagster.derived"

# --- Kafka headers ---------------------------------------------------------------------------------------------------

STORAGE_ID_HEADER: Final = "dagtel-storage-id"
"""The event's id in Dagster's storage, as decimal text; on SQLite each run counts from 1. See docs/bridge.md."""
