"""What is imported inside Dagster: spans that nest under the run's trace, and structured log lines.

    from dagster_dagtel import get_logger, trace_operation

Needs `opentelemetry-api` alone; the spans are sent by the OpenTelemetry SDK that the user configures.
"""

from dagster_dagtel.flushing import flush
from dagster_dagtel.logger import Logger, get_logger
from dagster_dagtel.tracing import Operation, trace_operation

__all__ = ["Logger", "Operation", "flush", "get_logger", "trace_operation"]
