"""Whose series there are, and when they end: assets, checks and jobs, bounded in number.

A subject ends `gone_after` after it left the asset graph, or once it was silent for `retention`; one that the graph
knows is never too silent (a yearly report is no dead asset). The time last heard of is rounded up to a fiftieth of
`retention`: a busy asset does not cost a row of every checkpoint, and how events came in batches makes no difference.
"""

import msgspec

from connectors.metric_labels import label_value
from connectors.metric_tally import Subject
from pipeline.components import State, Table
from pipeline.lineage import Catalog


class Life(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A subject. `known`: the graph in force has it; `left_ns`: when it was found gone from there, 0 if it is not.

    `variant` is the last label in force of the gauge that a subject has one of (schema, severity).
    """

    seen_ns: int
    known: bool = False
    left_ns: int = 0
    variant: str | None = None


class Subjects:
    """The subjects of one connector. All times are domain time."""

    def __init__(self, state: State, retention_ns: int, gone_after_ns: int, most: int) -> None:
        self._lives: Table[Subject, Life] = state.table("subjects", tuple[str, ...], Life, version=1)
        self._retention_ns, self._gone_after_ns, self._most = retention_ns, gone_after_ns, most
        self._sizes = {"asset": 0, "check": 0, "job": 0}
        for subject, _ in self._lives.items():
            self._sizes[subject[0]] += 1
        self._catalog: Catalog | None = None
        self._due_ns = self._earliest()

    def due(self) -> int | None:
        """No subject ends before; None if none will by itself."""
        return self._due_ns

    def knows(self, subject: Subject) -> bool:
        """Whether it has room of its own."""
        return subject in self._lives

    def variant(self, subject: Subject) -> str | None:
        """The label in force of the gauge that it has one of."""
        life = self._lives.get(subject)
        return life.variant if life else None

    def vary(self, subject: Subject, variant: str | None) -> None:
        """Note the label in force."""
        life = self._lives.get(subject)
        if life is not None and life.variant != variant:
            self._put(subject, msgspec.structs.replace(life, variant=variant))

    def heard(self, subject: Subject, now_ns: int) -> bool:
        """Something was said of it; true if that is new to us and there was room."""
        life, seen_ns = self._lives.get(subject), self._rounded(now_ns)
        if life is None:
            return self._begin(subject, Life(seen_ns, self._in_graph(subject)))
        if life.left_ns:
            # It goes on without the graph: from now on silence ends it, as with one that was never in it.
            self._put(subject, Life(seen_ns, False, 0, life.variant))
        elif seen_ns > life.seen_ns:
            self._put(subject, Life(seen_ns, life.known, 0, life.variant))
        return False

    def learn(self, catalog: Catalog, now_ns: int) -> list[Subject]:
        """A graph is in force. Gives its assets that are new to us; what has left it will end.

        A graph that is no newer than the last one, or empty (nobody could be asked), says nothing.
        """
        if not catalog.assets or (self._catalog is not None and catalog.version <= self._catalog.version):
            return []
        self._catalog = catalog
        for subject, life in list(self._lives.items()):
            self._compare(subject, life, now_ns)
        assets = [("asset", label_value(asset)) for asset in catalog.assets]
        return [
            asset
            for asset in assets
            if asset not in self._lives and self._begin(asset, Life(self._rounded(now_ns), True))
        ]

    def still_there(self, gone: set[Subject], now_ns: int) -> list[Subject]:
        """Those of these assets that the graph in force has: they are known again."""
        life = Life(self._rounded(now_ns), True)
        return [asset for asset in sorted(gone) if self._in_graph(asset) and self._begin(asset, life)]

    def _compare(self, subject: Subject, life: Life, now_ns: int) -> None:
        found = self._in_graph(subject)
        if found and (life.left_ns or not life.known):
            self._put(subject, Life(life.seen_ns, True, 0, life.variant))
        elif not found and life.known and not life.left_ns:
            self._put(subject, Life(life.seen_ns, True, now_ns, life.variant))

    def ended(self, now_ns: int) -> set[Subject]:
        """The subjects whose time is over; they are forgotten."""
        self._due_ns = None  # asked again below: should this call be undone, it is only asked too early
        ends = ((subject, self._ends(life)) for subject, life in self._lives.items())
        over = {subject for subject, end_ns in ends if end_ns is not None and end_ns <= now_ns}
        self.forget(over)
        return over

    def forget(self, subjects: set[Subject]) -> None:
        """Strike these out, with the checks of assets among them."""
        for subject, _ in list(self._lives.items()):
            if subject in subjects or (subject[0] == "check" and ("asset", subject[1]) in subjects):
                self._lives.delete(subject)
                self._sizes[subject[0]] -= 1
        self._due_ns = self._earliest()

    def _in_graph(self, subject: Subject) -> bool:
        if self._catalog is None or subject[0] == "job":
            return False
        facts = self._catalog.assets.get(subject[1])
        return facts is not None and (subject[0] == "asset" or subject[2] in facts.checks)

    def _rounded(self, now_ns: int) -> int:
        step = max(1, self._retention_ns // 50)
        return -(-now_ns // step) * step

    def _begin(self, subject: Subject, life: Life) -> bool:
        if self._sizes[subject[0]] >= self._most:
            return False
        self._sizes[subject[0]] += 1
        self._put(subject, life)
        return True

    def _put(self, subject: Subject, life: Life) -> None:
        self._lives.put(subject, life)
        ends = self._ends(life)
        if ends is not None and (self._due_ns is None or ends < self._due_ns):
            self._due_ns = ends

    def _ends(self, life: Life) -> int | None:
        if life.left_ns:
            return life.left_ns + self._gone_after_ns
        return None if life.known else life.seen_ns + self._retention_ns

    def _earliest(self) -> int | None:
        return min((ends for _, life in self._lives.items() if (ends := self._ends(life)) is not None), default=None)
