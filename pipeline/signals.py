"""The signals that leave dagtel: spans, metric samples, log records, alerts. Events are in `pipeline.events`."""

from enum import Enum
from typing import Literal, TypeAlias

import msgspec

from pipeline.facts import ErrorInfo, Metadata, Parts
from pipeline.lineage import Impact


class Signal(str, Enum):
    """What flows in a pipeline; a pipeline's id begins with it (`traces/slow`)."""

    EVENTS = "events"
    TRACES = "traces"
    METRICS = "metrics"
    LOGS = "logs"
    ALERTS = "alerts"


Attribute: TypeAlias = str | bool | int | float | tuple[str, ...]
Labels: TypeAlias = tuple[tuple[str, str], ...]
"""Label pairs, sorted by name."""


class SpanEvent(msgspec.Struct, frozen=True, gc=False):
    """Something at one moment of a span: an exception, a materialization. Source: OpenTelemetry Span.Event."""

    name: str
    at_ns: int
    attributes: dict[str, Attribute]


class SpanLink(msgspec.Struct, frozen=True, gc=False):
    """A relation to another span: a retry's first attempt, a re-executed run's parent."""

    trace_id: str
    span_id: str
    attributes: dict[str, Attribute] = {}


class Span(msgspec.Struct, frozen=True, gc=False):
    """A finished span. Ids are lower-case hex (32 and 16 digits); `parent_id` is "" for a root.

    `resource` are the resource's attributes, one object shared by many spans. `kind` as in OTLP (1 internal, 2 server).
    `error` is the status message of a failed span, None for one that is well.
    """

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Attribute]
    resource: Labels
    kind: int = 1
    events: tuple[SpanEvent, ...] = ()
    links: tuple[SpanLink, ...] = ()
    error: str | None = None
    ok: bool = False  # the operation said that it succeeded (status OK); both off: unset


class LogRecord(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One log line. The fields are those of the JSON line, in its order; "" and None are left out of it.

    `at_ns` and `code_location` are no part of the line (timestamp and label); `extra` is merged at its top level,
    never over ours.
    """

    at_ns: int
    level: str  # DEBUG INFO WARNING ERROR CRITICAL
    event: str  # the event's type
    message: str
    event_id: str
    run_id: str = ""
    job_name: str = ""
    step_key: str = ""
    asset_name: str = ""
    partition: str | None = None
    status: str = ""  # started success failure retry skipped canceled …
    duration_ms: float | None = None
    slow: bool = False
    error_type: str = ""
    error_message: str = ""
    error_stack: str = ""
    trace_id: str = ""
    span_id: str = ""
    dagster_level: int | None = None
    derived: bool = False
    code_location: str = ""
    extra: Metadata = {}


class HistogramValue(msgspec.Struct, frozen=True, gc=False):
    """Cumulative counts at or below each bound (the last bucket, +Inf, is `count`), and the sum of all values."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    count: int
    sum: float


class Sample(msgspec.Struct, frozen=True, gc=False):
    """The present figure of one series. `value` None retires the series.

    Counters and histograms are cumulative since the series began, at `since_ns` (domain time, 0: nobody says).
    `begins`: it is the first that was ever given of the series, so nobody can know it yet.
    `name` is the Prometheus name. Source of `since_ns`: OTLP's start_time_unix_nano.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: Labels
    value: float | HistogramValue | None
    at_ns: int = 0
    help: str = ""
    since_ns: int = 0
    begins: bool = False


Severity = Literal["INFO", "WARNING", "ERROR", "CRITICAL"]
AlertState = Literal[
    "failing",  # a connector's finding: something is wrong (again)
    "recovered",  # a connector's finding: it is well
    "firing",  # from here on notifications, as `dedup` makes them
    "digest",
    "escalated",
    "repeated",
    "resolved",
]


class Links(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Where to look and what to do; "" where nothing is configured. The last three are signed and end."""

    run: str = ""
    trace: str = ""
    dashboard: str = ""
    retry: str = ""
    silence: str = ""
    acknowledge: str = ""


Urgency = Literal["", "low", "high"]


class Member(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One problem of a notification that tells of several. `key` is what its own notifications have, had it any."""

    key: str
    state: AlertState
    kind: str
    severity: Severity
    title: str = ""
    asset: str = ""
    check: str = ""
    job: str = ""
    step_key: str = ""
    partition: str | None = None
    message: str = ""  # of its error, one line
    count: int = 1
    more: int = 0  # assets that the same failure took along


class Decision(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What was decided of a problem and why: `at_ns` and `reason` of the first, `times` in a row.

    `detail` is who or what: the silence's author, the upstream that it is folded into, the channels that were told.
    """

    at_ns: int
    reason: str
    times: int = 1
    detail: str = ""


class Alert(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A finding (from a connector) or a notification (from `dedup`).

    `count`: firing 1; digest: in its window; escalated: in the last `escalate_after`; repeated: in the last
    `repeat_every`; resolved: all. `first_ns` and `last_ns` are over the alert's life. `now_ns` is the domain time at
    which it was made. `fingerprint` says what is the same problem; `key` (fingerprint and occurrence) names one life.

    For notifiers (docs/alerts.md, Routing):
    - `channels` names who is meant: a notifier's type (`slack`), its id (`slack/data`), `*` for all. A notifier takes
      an alert if `pipeline.channels.meant_for(alert, context.id)` says so. Empty: nobody has routed it, all are meant.
    - `urgency` is PagerDuty's: `low` or `high`; "" where nobody has routed it: high for CRITICAL, else low.
    - All notifications of one `key` are one incident: whatever state comes first (a `digest` may: reason `flapping` or
      `rate_limited`) opens it, `resolved` closes it and goes to every channel that was told.
    - `members` are the problems that one notification tells of, `members_total` how many there are (the tuple is cut).
      A digest with reason `rate_limited` holds notifications that overflowed: those of its members that are `resolved`
      close their own keys.
    """

    kind: str
    state: AlertState
    severity: Severity
    fingerprint: str
    now_ns: int
    first_ns: int
    last_ns: int
    title: str = ""
    summary: str = ""
    asset: str = ""
    check: str = ""
    step_key: str = ""
    job: str = ""
    run_id: str = ""
    partition: str | None = None
    partitions: tuple[str, ...] = ()
    error: ErrorInfo | None = None
    impact: Impact | None = None
    owners: tuple[str, ...] = ()
    group: str = ""
    code_location: str = ""
    count: int = 1
    window_ns: int = 0  # the time that `count` covers; 0 where it covers the whole life
    key: str = ""
    reason: str = ""
    channels: tuple[str, ...] = ()  # who is meant; of a finding from `alert_channels`, empty: by severity
    escalate_to: tuple[str, ...] = ()
    repeat_ns: int = 0  # it will be said again this often until it is resolved; 0: it will not
    failing: int = 0  # partitions that fail now; `partitions` names some of them
    planned: int = 0  # of so many that their backfill has planned; 0: of no backfill, or of several assets
    links: Links = Links()
    tags: dict[str, str] = {}
    urgency: Urgency = ""
    members: tuple[Member, ...] = ()
    members_total: int = 0  # 0: the notification is of one problem
    grouped_by: str = ""  # what its members share: "run", "backfill", …
    acknowledged_by: str = ""
    late: bool = False  # the failure is old news: dagtel was down, or has just begun to read
    assets: tuple[str, ...] = ()  # of a step that makes several: those that failed, `asset` the first
    upstream: tuple[str, ...] = ()  # what the asset is made from, nearest first (after lineage_impact)
    decisions: tuple[Decision, ...] = ()  # the latest of this life
    began_ns: int = 0  # domain time at which its life began: with `key` it names one life for good
    number: int = 0  # of the notification in its life
    said_by: dict[str, str] = {}  # who said its severity, owners, channels, where it was not the failure itself
    parts: Parts | None = None  # of a finding: what its fingerprint is made of


class Edges(msgspec.Struct, frozen=True, gc=False):
    """What the event log told of lineage: `asset` reads `upstream`, all that is known of it so far.

    Travels from the `alerts` connector to `lineage_impact`, which keeps it to itself. Whatever else stands in an
    alerts pipeline passes it on or leaves it out. See docs/decisions/0010-lineage-edges-in-the-alerts-pipeline.md.
    """

    asset: str
    upstream: tuple[str, ...]
    now_ns: int
