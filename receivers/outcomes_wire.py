"""The `outcomes` encoding of the `kafka` receiver: a record holds many events, each with its own place and time."""

from pipeline.events import Event
from pipeline.outcomes_wire import decode_events
from receivers.kafka_partition import Headers


def decode_outcomes(
    raw: bytes,
    source: str,
    offset: int,
    record_ns: int = 0,
    headers: Headers = (),
    texts: dict[str, str] | None = None,
) -> list[Event]:
    """See `receivers.kafka_partition.Decode`. Raises DecodeError.

    Source, offset and time are those of the event in the topic that it was read from first: domain time goes on in the
    time of Dagster's events, however late their outcomes come.
    """
    return decode_events(raw)
