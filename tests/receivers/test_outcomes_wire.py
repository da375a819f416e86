"""The `outcomes` encoding of the kafka receiver."""

import pytest

from pipeline.components import Rejected
from pipeline.errors import DecodeError
from pipeline.events import Event
from pipeline.outcomes import RunEnded
from pipeline.outcomes_wire import encode_events
from processors.redelivery import EventIds
from receivers.kafka import SPEC
from receivers.kafka_options import KafkaReceiverConfig
from receivers.outcomes_wire import decode_outcomes

ENDED = RunEnded("r", "j", "success", 5, 1)


def event(offset: int) -> Event:
    return Event(
        raw=b"{}",
        type="PIPELINE_SUCCESS",
        run_id="r",
        at_ns=5,
        level=20,
        job="j",
        step_key="",
        message="",
        source="e/3",
        offset=offset,
        now_ns=7,
        outcomes=(ENDED,),
    )


def test_events_keep_the_place_and_time_of_the_topic_that_they_were_read_from_first() -> None:
    [(record, _)] = encode_events([event(1), event(2)])
    came = decode_outcomes(record, source="outcomes/0", offset=9, record_ns=10**18)
    assert [(e.source, e.offset, e.record_ns, e.outcomes) for e in came] == [
        ("e/3", 1, 7, (ENDED,)),
        ("e/3", 2, 7, (ENDED,)),
    ]


def test_redelivery_knows_them_again() -> None:
    [(record, _), (other, _)] = [*encode_events([event(1), event(2)]), *encode_events([event(3)])]
    once, twice, new = (
        EventIds().of(decode_outcomes(data, source="o/0", offset=0)) for data in (record, record, other)
    )
    assert once == twice
    assert len({*once, *new}) == 3


def test_it_brings_the_work_of_run_ledger_and_a_rejected_record_can_be_read_again() -> None:
    config = KafkaReceiverConfig(encoding="outcomes")
    assert SPEC.brings(config) == ("run_ledger",)
    assert SPEC.brings(KafkaReceiverConfig()) == ()
    assert SPEC.redecode is not None
    [(record, _)] = encode_events([event(1)])
    assert [e.outcomes for e in SPEC.redecode(config, Rejected(record, "", ""))] == [(ENDED,)]
    with pytest.raises(DecodeError):
        SPEC.redecode(config, Rejected(b"{}", "", ""))
