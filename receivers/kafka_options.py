"""The options of the `kafka` receiver."""

from datetime import UTC, datetime
from typing import Literal

import msgspec

from pipeline.http import Tls
from pipeline.kafka_client import Listed, Sasl, listed
from pipeline.options import Duration, Size

OnLost = Literal["fail", "earliest", "latest"]
OnRecreated = Literal["fail", "accept"]


class KafkaReceiverConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Reads Dagster's event log from Kafka topics: key = run id, value = the stored event's bytes, as `dagtel bridge`
    writes them.

    Where it reads on is kept in dagtel's own state, together with what was made of the events before; Kafka's
    committed offsets are written for tools that show lag, and never read. Each partition is a shard
    ("topic/partition"). The consumer group spreads partitions over processes; a rebalance hands over a partition only
    when all that was read from it is committed.
    """

    brokers: Listed = ("localhost:9092",)
    """Some of the brokers, `host:port`; a list, or one text with commas."""
    topics: Listed = ("dagster.events",)
    """Topics to read; they must exist."""
    encoding: Literal["dagster", "outcomes"] = "dagster"
    """What the records hold: `dagster`, stored events; `outcomes`, what the workers of a cluster made of them, written
    by a `kafka` exporter with the same encoding (docs/cluster.md)."""
    group_id: str = "dagtel"
    """The consumer group. Processes of one group share the partitions."""
    client_id: str = "dagtel"
    """Our name in the brokers' logs and quotas."""
    group_instance_id: str | None = None
    """Name of this member (static membership): one that is back within `session_timeout` has its partitions at once,
    without a rebalance. Must differ between processes of a group; with `dagtel run --workers` each worker's number is
    added. Unset: host name and receiver id. "": none."""
    session_timeout: Duration = Duration("10s")
    """A member that is silent for so long loses its partitions to the others."""
    heartbeat_interval: Duration = Duration("3s")
    """How often a member is heard; at most a third of `session_timeout`."""
    rebalance_timeout: Duration = Duration("60s")
    """How long the group waits for a member to finish what it read before its partitions go to others; six tenths of
    it are ours to commit in."""
    max_poll_interval: Duration = Duration("5m")
    """A member that does not poll for so long leaves the group. One that waits for room goes on polling."""
    initial_position: Literal["earliest", "latest", "timestamp"] = "earliest"
    """Where to begin a partition that was never read before."""
    initial_timestamp: datetime | None = None
    """With `initial_position: timestamp`: the time to begin at (`2026-01-31T00:00:00Z`; UTC where no zone is given)."""
    on_lost: OnLost = "fail"
    """What to do when records that were not read yet are gone (retention was faster): `fail` stops the start,
    `earliest` goes on with the oldest that is there, `latest` with what comes."""
    on_recreated: OnRecreated = "fail"
    """What to do when a topic is not the one that was read (deleted and made anew, or cut by an unclean election):
    `fail` stops the start, `accept` reads the new one from its beginning."""
    max_poll_records: int = 5000
    """Records taken at once at most."""
    min_fetch_size: Size = Size(1)
    """A broker answers when it has so many bytes, or `max_fetch_wait` is over."""
    max_fetch_size: Size = Size("50MiB")
    """Bytes in one answer of a broker at most; a single larger record still comes."""
    max_partition_fetch_size: Size = Size("3MiB")
    """The same for one partition."""
    max_fetch_wait: Duration = Duration("500ms")
    """How long a broker waits for `min_fetch_size`."""
    metadata_refresh_interval: Duration = Duration("1m")
    """How often the cluster is asked for new partitions and leaders."""
    commit_interval: Duration = Duration("5s")
    """How often positions are also committed to Kafka, for tools that show lag."""
    topic_timeout: Duration = Duration("30s")
    """How long to wait at the start for a topic that is not there yet."""
    request_timeout: Duration = Duration("40s")
    """How long one request may take."""
    tls: Tls | None = None
    """Encrypt the connections; `tls: {}` trusts the system's certificates."""
    sasl: Sasl | None = None
    """Sign in at the brokers."""

    def __post_init__(self) -> None:
        if not listed(self.brokers):
            raise ValueError("`brokers` is empty; write at least one `host:port`")
        if not listed(self.topics):
            raise ValueError("`topics` is empty; write at least one topic")
        if not self.group_id:
            raise ValueError("`group_id` is empty")
        if (self.initial_position == "timestamp") != (self.initial_timestamp is not None):
            raise ValueError("`initial_position: timestamp` and `initial_timestamp` go together")
        if self.heartbeat_interval * 3 > self.session_timeout * 1.001:
            raise ValueError("`heartbeat_interval` must be at most a third of `session_timeout`")
        if self.max_poll_records < 1:
            raise ValueError("`max_poll_records` must be at least 1")

    @property
    def initial_ms(self) -> int:
        """`initial_timestamp` in milliseconds since the Unix epoch; 0 where there is none."""
        at = self.initial_timestamp
        if at is None:
            return 0
        return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
