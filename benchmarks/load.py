"""Recorded events, as many as wanted: copies of the 1.13 corpus, each with run ids of its own."""

import re
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid5

import msgspec

CORPUS = Path(__file__).parents[1] / "tests" / "data" / "dagster-1.13.jsonl"
_SPACE = UUID("6f1d1c9e-7c7b-5f0e-9a53-1f0f3d3d7a11")
_RUN = re.compile(rb'"run_id": "([0-9a-f-]{36})"')


_TIME = re.compile(rb'"timestamp": (\d+)')


def _later(line: bytes, seconds: int) -> bytes:
    return _TIME.sub(lambda found: b'"timestamp": %d' % (int(found[1]) + seconds), line) if seconds else line


class Record(msgspec.Struct):
    """A Kafka record to be: value, key, storage id."""

    value: bytes
    key: bytes
    storage_id: int


def records(count: int, skip_above: int = 50_000, later_s: int = 0, salt: str = "") -> Iterator[Record]:
    """`count` records of the corpus's own mix (mean 1.25 KB), their times `later_s` seconds later than recorded.

    Records above `skip_above` bytes are left out; another `salt` gives other run ids.
    """
    lines = [_later(line, later_s) for line in CORPUS.read_bytes().splitlines() if len(line) <= skip_above]
    found = [_RUN.search(line) for line in lines]
    runs = [match[1] if match else b"" for match in found]
    made = 0
    while True:
        replica = made // len(lines)
        names = {run: str(uuid5(_SPACE, f"{run!r}{replica}{salt}")).encode() if run else b"" for run in set(runs)}
        for line, run in zip(lines, runs, strict=True):
            if made == count:
                return
            made += 1
            value = line.replace(run, names[run]) if run else line
            yield Record(value, names[run] or b"runless", made)
