"""The user's own OpenTelemetry set-up, as any project has one: spans by OTLP/HTTP to where the environment says."""

import os

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def configure() -> None:
    """Send spans to each base URL in GLUCOSE_OTLP_ENDPOINTS (comma-separated); without any, tracing is a no-op."""
    endpoints = [url for url in os.environ.get("GLUCOSE_OTLP_ENDPOINTS", "").split(",") if url]
    if not endpoints:
        return
    provider = TracerProvider(resource=Resource.create({"service.name": "glucose"}))
    for url in endpoints:
        exporter = OTLPSpanExporter(endpoint=f"{url.rstrip('/')}/v1/traces", timeout=2)
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
