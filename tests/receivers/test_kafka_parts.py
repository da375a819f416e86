"""aiokafka's own answers to fetches, with records that stay where they lie."""

from io import BytesIO

import pytest
from aiokafka.consumer import fetcher
from aiokafka.protocol import fetch

from receivers.kafka_parts import Part, leave_records_in_place
from receivers.kafka_records import Batches

leave_records_in_place(fetcher, Batches)

ANSWERS = [kind for name, kind in vars(fetch).items() if name.startswith("FetchResponse_v")]


def answer(kind: type, records: bytes | None) -> bytes:
    """An answer with a partition that has records, and one after it."""
    version = kind.API_VERSION  # type: ignore[attr-defined]
    later = [] if version < 4 else [7, []] if version == 4 else [7, 0, []]
    partitions = [
        (number, 0, 9, *later, *([1] if version >= 11 else []), part) for number, part in enumerate((records, b"z"))
    ]
    given = [[("topic", partitions)]]
    given = given if version == 0 else [5, *given] if version < 7 else [5, 0, 3, *given]
    encoded: bytes = kind(*given).encode()
    return encoded


@pytest.mark.parametrize("kind", ANSWERS)
def test_records_of_any_answer_stay_where_they_lie(kind: type) -> None:
    raw = answer(kind, b"records")
    found = kind.decode(BytesIO(raw))  # type: ignore[attr-defined]
    parts = [partition[-1] for partition in found.topics[0][1]]
    assert [bytes(part) for part in parts] == [b"records", b"z"]
    assert all(part.whole is raw for part in parts)
    assert "7 bytes" in repr(found)


@pytest.mark.parametrize("kind", ANSWERS)
def test_no_records_are_none(kind: type) -> None:
    found = kind.decode(BytesIO(answer(kind, None)))  # type: ignore[attr-defined]
    assert found.topics[0][1][0][-1] is None


def test_an_answer_that_is_cut_off_is_an_error() -> None:
    raw = answer(ANSWERS[0], b"records" * 9)
    with pytest.raises(ValueError, match="underrun"):
        ANSWERS[0].decode(BytesIO(raw[:-20]))


def test_a_part_has_a_length() -> None:
    assert len(Part(b"abcdef", 2, 5)) == 3
    assert bytes(Part(b"abcdef", 2, 5)) == b"cde"
