"""How far each SQLite shard is read, in a note that stays small however many runs there have ever been. Pure.

Dagster on SQLite keeps a database a run for ever, and ids count from 1 in each, so a position is a cursor for every
run. Cursors of runs that are quiet for an hour are dropped, and three facts take their place:

- `begun`: the highest `runs.id` (Dagster numbers its runs) whose reading was begun. A run above it was never read, so
  it is read from its start, however old its file is: that is how a long history is caught up with in order.
- `quiet_ns`: at the last look, every shard that is begun and has no cursor here was read to its end and last written
  at or before this time. One that is written later has woken up.
- What is new in a shard that woke up was stored after that last look, an hour after `quiet_ns`; what was read was made
  before it. So events not younger than the middle between them (`QUIET / 2`) are left out. Late events of ended runs
  are common: a sensor that acts on a run writes into it, minutes or days after its end.
"""

from collections.abc import Iterable

import msgspec

from pipeline.clock import HOUR

QUIET = HOUR
"""A shard that was not written for so long needs no cursor."""


class Cursor(msgspec.Struct, array_like=True):
    """The last id read of one shard. Events not younger than `skip_until_ns` were read before it was dropped."""

    id: int = 0
    skip_until_ns: int = 0


class Cursors(msgspec.Struct, array_like=True):
    """All there is to know of what was read. `shards` maps a shard (run id, "" for events without a run)."""

    begun: int = 0
    quiet_ns: int = 0
    read: int = 0  # events read so far: the position's number
    shards: dict[str, Cursor] = {}

    def begin(self, number: int, shard: str) -> None:
        """A run that was never read comes next."""
        self.begun = max(self.begun, number)
        self.shards.setdefault(shard, Cursor())

    def wake(self, shard: str) -> None:
        """A shard without a cursor was written."""
        if shard not in self.shards:
            self.shards[shard] = Cursor(0, self.quiet_ns + QUIET // 2 if self.quiet_ns else 0)

    def woken(self, written_ns: int) -> bool:
        """Whether a begun shard without a cursor, last written then, has something new."""
        return written_ns > self.quiet_ns

    def settle(self, now_ns: int, finished: Iterable[tuple[str, int]]) -> list[str]:
        """Drop the cursors of shards that are read to their end and were last written an hour ago.

        `finished`: (shard, time of its last write). Must follow a look at all shards that woke those that are awake,
        and `now_ns` is the wall's time before that look. Gives the shards whose cursors were dropped.
        """
        self.quiet_ns = now_ns - QUIET
        quiet = [shard for shard, written_ns in finished if written_ns <= self.quiet_ns]
        for shard in quiet:
            self.shards.pop(shard, None)
        return quiet


encode_note = msgspec.msgpack.Encoder().encode
decode_note = msgspec.msgpack.Decoder(Cursors).decode
