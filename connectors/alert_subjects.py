"""What fails now, so that a success is worth a word only where something was wrong.

A subject is what can fail and be well again: an asset, a check of one, a step or a job. Of assets and checks, each
partition by itself. A failure that does not say its partition is healed by any success of the subject, and a success
that does not say its partition heals them all: never healing would be worse than healing early.

Only a success that is not older than the failure heals: partitions of the input are not read in the order of time.

One row a subject and partition, so that a thousand failing partitions cost one row each time, not a thousand.
"""

from collections.abc import Sequence

import msgspec

from pipeline.components import State, Table
from pipeline.signals import Alert


class Failing(msgspec.Struct, frozen=True, gc=False):
    """The problems of one subject and partition: their fingerprints and kinds."""

    fingerprints: tuple[str, ...]
    kind: str
    last_ns: int = 0  # when it failed last, by the events' own clocks; not later than it was read


class Healed(msgspec.Struct, frozen=True, gc=False):
    """One problem that is over in one partition (None: the failure did not say which)."""

    fingerprint: str
    kind: str
    partition: str | None


def subjects(alert: Alert) -> list[str]:
    """What the finding is about."""
    if alert.check:
        return [check_subject(alert.asset, alert.check)]
    if alert.asset:
        return [asset_subject(asset) for asset in alert.assets or (alert.asset,)]
    return [step_subject(alert.job, alert.step_key) if alert.step_key else job_subject(alert.job)]


def failed_ns(alert: Alert) -> int:
    """When it failed; no later than it was read, for a clock that is ahead would outlive successes."""
    return min(alert.last_ns, alert.now_ns)


def asset_subject(asset: str) -> str:
    return f"asset:{asset}"


def check_subject(asset: str, check: str) -> str:
    return f"check:{asset}:{check}"


def step_subject(job: str, step: str) -> str:
    return f"step:{job}:{step}"


def job_subject(job: str) -> str:
    return f"job:{job}"


class Subjects:
    """The subjects that fail, in two tables: how many partitions of each, and the problems of each partition."""

    def __init__(self, state: State, limit: int, whole_assets: bool) -> None:
        self.table: Table[str, int] = state.table("failing_subjects", str, int, version=1)
        """How many partitions of each subject fail."""
        self._failing: Table[tuple[str, str], Failing] = state.table("failing", tuple[str, str], Failing, version=1)
        self._limit, self._whole_assets = limit, whole_assets
        self.parts = None if whole_assets else self._failing
        """The problems of each partition, where a success of one says nothing of the others."""
        self._keys_of: dict[str, set[tuple[str, str]]] = {}  # see `_all`

    def __contains__(self, name: str) -> bool:
        """Whether a success of this subject would put an end to anything."""
        return name in self.table

    def fail(self, alert: Alert, names: Sequence[str] = ()) -> bool:
        """Remember a failure, of its `subjects`. False when there is no room: its recovery will not be noticed."""
        partition, last_ns = (alert.partition or "") if alert.asset else "", failed_ns(alert)
        kept = [self._fail(alert, (name, partition), last_ns) for name in names or subjects(alert)]
        return all(kept)

    def _fail(self, alert: Alert, key: tuple[str, str], last_ns: int) -> bool:
        name, known = key[0], self._failing.get(key)
        if known is None:
            if len(self._failing) >= self._limit:
                return False
            self._failing.put(key, Failing((alert.fingerprint,), alert.kind, last_ns))
            self.table.put(name, (self.table.get(name) or 0) + 1)
            self._keys_of.setdefault(name, set()).add(key)
        elif alert.fingerprint not in known.fingerprints:
            fingerprints = (*known.fingerprints, alert.fingerprint)
            self._failing.put(key, Failing(fingerprints, alert.kind, max(last_ns, known.last_ns)))
        elif last_ns > known.last_ns:
            self._failing.put(key, Failing(known.fingerprints, known.kind, last_ns))
        return True

    def heal(self, name: str, partition: str | None, at_ns: int) -> list[Healed]:
        """What a success of the subject at this time puts an end to; forgotten with it."""
        count = self.table.get(name)
        if count is None:
            return []
        over = [
            (key, problem)
            for key in self._keys(name, partition, count)
            if (problem := self._failing.get(key)) is not None and problem.last_ns <= at_ns
        ]
        if not over:
            return []
        keys = [key for key, _ in over]
        healed = [
            Healed(print_, problem.kind, key[1] or None) for key, problem in over for print_ in problem.fingerprints
        ]
        for key in keys:
            self._failing.delete(key)
        if (known := self._keys_of.get(name)) is not None:
            known.difference_update(keys)
            if not known:
                del self._keys_of[name]
        if count > len(keys):
            self.table.put(name, count - len(keys))
        else:
            self.table.delete(name)
        return healed

    def _keys(self, name: str, partition: str | None, count: int) -> list[tuple[str, str]]:
        if partition is None or self._whole_assets:
            return sorted(self._all(name, count))
        return [(name, partition), (name, "")] if partition else [(name, "")]

    def _all(self, name: str, count: int) -> set[tuple[str, str]]:
        """The rows of the subject, `count` of them. From an index that is made anew where it is found to be wrong.

        As many keys as the subject has rows, each with a row, are all of them: so an index that a call has left
        behind which was undone does no harm. Without it each such success walked all that fails.
        """
        keys = {key for key in self._keys_of.get(name, ()) if key in self._failing}
        if len(keys) != count:
            self._keys_of = {}
            for key, _ in self._failing.items():
                self._keys_of.setdefault(key[0], set()).add(key)
            keys = self._keys_of[name]
        return keys
