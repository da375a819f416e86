"""A batch: the items that travel together, and the shard whose state they touch.

Positions travel beside a batch, in the runtime, and not in it: a component cannot lose what it never holds
(docs/decisions/0002-positions-beside-the-batch.md).
"""

from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")
U = TypeVar("U")

WHOLE = "whole"
"""The one shard of components that must see everything: metrics, lineage, alerts."""


class Batch(msgspec.Struct, Generic[T], frozen=True):
    """Items of one shard, in order. `now_ns` is the shard's domain time once they are processed (Unix ns, UTC)."""

    items: Sequence[T]
    shard: str
    now_ns: int

    def carrying(self, items: Sequence[U]) -> "Batch[U]":
        """The same batch with other items."""
        return Batch(items, self.shard, self.now_ns)
