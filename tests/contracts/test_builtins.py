"""Every built-in component keeps the contract of its kind; test_registry.py sees to it that none is missing."""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from hypothesis import strategies as st

from connectors import alerts, anomalies, freshness, logs, metrics, silence, spans
from connectors.sla import SlaOption
from exporters import console, file, kafka, loki, otlp, prometheus, store
from exporters.notifiers import alertmanager, apprise, email, pagerduty, ping, slack, webhook
from exporters.notifiers import console as console_alerts
from pipeline.alert_records import Standing
from pipeline.http import Response
from pipeline.options import Duration, Secret, Size
from pipeline.signals import Alert, Signal
from pipeline.testing import strategies
from pipeline.testing.clock import VirtualClock
from pipeline.testing.context import FakeContext
from pipeline.testing.contracts import (
    ConnectorContract,
    ExporterContract,
    HttpExporterContract,
    PayloadContract,
    ProcessorContract,
    ReceiverContract,
    SpecContract,
)
from processors import (
    dedup,
    enrichment,
    filter,
    lineage_impact,
    memory_limiter,
    redaction,
    redelivery,
    route,
    run_ledger,
)
from receivers import alertmanager as alertmanager_receiver
from receivers import dagster as dagster_receiver
from receivers import dagster_api
from receivers import file as file_receiver
from receivers import host as host_receiver
from receivers import kafka as kafka_receiver

# --- receivers -------------------------------------------------------------------------------------------------------


class TestFileReceiver(ReceiverContract):
    spec = file_receiver.SPEC

    def options(self) -> Any:
        return self.spec.config(path=str(self.folder / "events.jsonl"), max_items=2)

    async def fill(self, records: Sequence[bytes]) -> None:
        (self.folder / "events.jsonl").write_bytes(b"".join(record + b"\n" for record in records))

    def hostile(self) -> st.SearchStrategy[bytes]:
        """But for what means something where a file begins with it: gzip's and zstd's marks, and that of UTF-8."""
        marks = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xef\xbb\xbf")
        return super().hostile().filter(lambda record: not record.startswith(marks))


class TestKafkaReceiver(SpecContract):
    """Reading is held against a real broker in tests/receivers/test_kafka_real.py."""

    spec = kafka_receiver.SPEC

    def options(self) -> Any:
        return self.spec.config(topics=("dagster.events",))


class TestDagsterReceiver(SpecContract):
    """Reading is held, by the ReceiverContract too, in tests/receivers/test_dagster.py."""

    spec = dagster_receiver.SPEC


class TestAlertmanagerReceiver(SpecContract):
    """It is called rather than reads: what comes, what is refused and what survives is in
    tests/receivers/test_alertmanager.py, and real rules in tests/integration/test_alertmanager_rules.py."""

    spec = alertmanager_receiver.SPEC


class TestHost(SpecContract):
    """It reads a machine, which has no records: what is read and told is in tests/receivers/test_host.py."""

    spec = host_receiver.SPEC


class TestDagsterApi(SpecContract):
    """It asks a webserver, which has no records: what it tells is in tests/receivers/test_dagster_api.py."""

    spec = dagster_api.SPEC

    def options(self) -> Any:
        return self.spec.config(url="http://localhost:3000")


# --- processors ------------------------------------------------------------------------------------------------------


class TestRedelivery(ProcessorContract):
    spec = redelivery.SPEC


class TestRunLedger(ProcessorContract):
    spec = run_ledger.SPEC
    counts_calls = frozenset({"calls"})


class TestEnrichment(ProcessorContract):
    spec = enrichment.SPEC

    def options(self) -> Any:
        owned = {"raw/*": enrichment.AssetOption(owners=("@data",)), "mart": enrichment.AssetOption(group="marts")}
        return self.spec.config(assets=owned, max_runs=2)


class TestLineageImpact(ProcessorContract):
    spec = lineage_impact.SPEC


class TestDedup(ProcessorContract):
    spec = dedup.SPEC


class TestDedupOnRecord(ProcessorContract):
    """Somebody keeps records of what it decides."""

    spec = dedup.SPEC

    @asynccontextmanager
    async def built(self, context: FakeContext | None = None) -> AsyncIterator[Any]:
        given = context or FakeContext("dedup")
        given.recorded = True
        async with super().built(given) as component:
            yield component


class TestFilter(ProcessorContract):
    spec = filter.SPEC

    def options(self) -> Any:
        return self.spec.config(drop=('level == "DEBUG"', 'message.contains("hunter2")'))

    def items(self) -> st.SearchStrategy[list[Any]]:
        """Of a signal that the conditions know."""
        return strategies.items(Signal.LOGS)


class TestRoute(ProcessorContract):
    spec = route.SPEC

    def options(self) -> Any:
        alerts = route.AlertRule(when='severity == "ERROR"', channels=("slack",))
        return self.spec.config(alerts=(alerts,), events=(route.EventRule(when='type == "LOG"', keep_ratio=0.5),))


class TestRedaction(ProcessorContract):
    spec = redaction.SPEC
    # In an events pipeline the text is what it is there to change; the bytes stay.
    may_set = ProcessorContract.may_set | {"message", "detail"}


class TestMemoryLimiter(ProcessorContract):
    spec = memory_limiter.SPEC

    def options(self) -> Any:
        return self.spec.config(limit=Size("64GiB"))


# --- connectors ------------------------------------------------------------------------------------------------------


class TestSpans(ConnectorContract):
    spec = spans.SPEC


class TestMetrics(ConnectorContract):
    spec = metrics.SPEC

    def told(self, given: Sequence[Any]) -> Any:
        """`since_ns` is the batch's first time (a scrape must not count what is being caught up on as a burst), and a
        flush gives series in no order."""
        return sorted(repr(msgspec.structs.replace(sample, since_ns=0)) for sample in given)


class TestLogs(ConnectorContract):
    spec = logs.SPEC


class TestAlerts(ConnectorContract):
    spec = alerts.SPEC


class TestFreshness(ConnectorContract):
    spec = freshness.SPEC

    def options(self) -> Any:
        slas = {
            "raw/orders": SlaOption(freshness=Duration("2h"), availability="99.9%"),
            "mart": SlaOption(freshness=Duration("1h"), partitions="each"),
            "raw/*": SlaOption(availability="90%"),
        }
        return self.spec.config(sla=slas, again=Duration("3h"))


class TestAnomalies(ConnectorContract):
    spec = anomalies.SPEC

    def options(self) -> Any:
        few = anomalies.BaselineOption(history=4, at_least=3)
        return self.spec.config(baseline=few, watch=(anomalies.WatchOption(field="dagster/row_count"),))


class TestSilence(ConnectorContract):
    spec = silence.SPEC

    def options(self) -> Any:
        return self.spec.config(expect=Duration("30m"), heartbeat=Duration("1h"))


# --- exporters -------------------------------------------------------------------------------------------------------


class TestOtlp(HttpExporterContract):
    spec = otlp.OTLP


class TestJaeger(HttpExporterContract):
    spec = otlp.JAEGER


class TestLoki(HttpExporterContract):
    spec = loki.SPEC


class TestPrometheus(ExporterContract):
    spec = prometheus.SPEC

    def options(self) -> Any:
        return self.spec.config(address="", textfile=str(self.folder / "metrics.prom"))

    def outside(self) -> Any:
        return (self.folder / "metrics.prom").read_text()


class TestKafkaExporter(PayloadContract):
    """Sending is held against a real broker in tests/exporters/test_kafka.py."""

    spec = kafka.SPEC

    def options(self) -> Any:
        return self.spec.config(topic="events")


class TestFile(ExporterContract):
    spec = file.SPEC

    def options(self) -> Any:
        return self.spec.config(path=str(self.folder / "out.jsonl"))

    def outside(self) -> Any:
        return (self.folder / "out.jsonl").read_bytes()


class TestConsole(ExporterContract):
    spec = console.SPEC


class TestStore(ExporterContract):
    spec = store.SPEC

    def options(self) -> Any:
        return self.spec.config(path=str(self.folder / "history.db"))

    def items(self) -> st.SearchStrategy[list[Any]]:
        """Notifications, and records of them."""
        told = strategies.alerts().map(lambda items: [item for item in items if isinstance(item, Alert)])
        return st.one_of(told, told.map(lambda items: [_record(item) for item in items]))

    def leaves_out(self, item: Any) -> bool:
        return isinstance(item, Alert) and item.kind == "heartbeat"

    def outside(self) -> Any:
        path = self.folder / "history.db"
        if not path.exists():
            return b""
        with sqlite3.connect(path) as file:
            tables = [name for (name,) in file.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
            return {name: _without_the_wall(file, name) for name in sorted(tables)}


def _record(alert: Alert) -> Standing:
    return Standing(alert.key or alert.fingerprint, alert.began_ns, alert.now_ns, "firing", alert)


def _without_the_wall(file: sqlite3.Connection, table: str) -> list[tuple[Any, ...]]:
    columns = [row[1] for row in file.execute(f"PRAGMA table_info({table})") if row[1] != "written_ns"]
    return sorted(file.execute(f"SELECT {', '.join(columns)} FROM {table}"))


class Notifier:
    """Recoveries that nobody was told of are not told."""

    def leaves_out(self, item: Any) -> bool:
        return not isinstance(item, Alert) or item.state == "recovered"


class TestSlack(Notifier, HttpExporterContract):
    spec = slack.SPEC

    def options(self) -> Any:
        return self.spec.config(webhook_url=Secret("http://slack.test/hook"))


class TestWebhook(Notifier, HttpExporterContract):
    spec = webhook.SPEC

    def options(self) -> Any:
        return self.spec.config(url=Secret("http://webhook.test/"))


class TestPagerDuty(Notifier, HttpExporterContract):
    spec = pagerduty.SPEC

    def options(self) -> Any:
        return self.spec.config(routing_key=Secret("0" * 32))

    def answer(self) -> Response:
        return Response(202, {}, b'{"status":"success"}')


class TestEmail(Notifier, PayloadContract):
    """Sending is held against a real server in tests/exporters/notifiers/test_email.py."""

    spec = email.SPEC

    def options(self) -> Any:
        return self.spec.config(host="localhost", sender="a@example.com", recipients=("b@example.com",))


class TestAlertmanager(Notifier, HttpExporterContract):
    spec = alertmanager.SPEC

    def options(self) -> Any:
        return self.spec.config(endpoints=("http://alertmanager.test",))

    @asynccontextmanager
    async def built(self, context: FakeContext | None = None) -> AsyncIterator[Any]:
        """On a clock that stands: when an alert ends is said when it is sent."""
        yield alertmanager.Alertmanager(self.options(), context or FakeContext("alertmanager"), VirtualClock())


class TestApprise(Notifier, PayloadContract):
    """Sending is held against a real server in tests/exporters/notifiers/test_apprise.py."""

    spec = apprise.SPEC

    def options(self) -> Any:
        return self.spec.config(urls=(Secret("json://127.0.0.1:9"),))


class TestConsoleAlerts(Notifier, ExporterContract):
    spec = console_alerts.SPEC


class TestPing(HttpExporterContract):
    spec = ping.SPEC

    def options(self) -> Any:
        return self.spec.config(url=Secret("http://watcher.test/id"))

    def items(self) -> st.SearchStrategy[list[Any]]:
        """Heartbeats: it leaves out the rest."""
        found = strategies.items(Signal.ALERTS)
        return found.map(lambda items: [_beat(item) for item in items if isinstance(item, Alert)])

    def examples(self) -> list[Any]:
        return [_beat(item) for item in super().examples() if isinstance(item, Alert)]


def _beat(alert: Alert) -> Alert:
    return msgspec.structs.replace(alert, kind="heartbeat", channels=("ping",))
