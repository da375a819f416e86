"""State and unsent payloads that a configuration would leave without an owner: named, moved, forgotten or refused."""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from pipeline.errors import StateError
from pipeline.runtime.inherit import Bequest
from pipeline.store.state import Ack, Commit, StateStore
from pipeline.topology.plan import Plan

EXPORTERS: Final = "exporters."


def settle(store: StateStore, plan: Plan) -> None:
    """At a start: move and forget what the configuration says. Raises StateError over what nobody would read or send.

    Blocks.
    """
    state, stored = plan.service.state, store.owners()
    for old, new in state.moved.items():
        store.move(_stored_owner(old, stored, plan), _owner_of(new, owners(plan)))
    for gone in state.forget:
        if gone.startswith(EXPORTERS):
            drop_unsent(store, gone.removeprefix(EXPORTERS))
        else:
            store.forget(_stored_owner(gone, stored, plan))
    _refuse_orphans(store, store.owners() - owners(plan))
    waiting = {row.exporter for row in store.waiting()} - set(plan.exporters)
    if waiting:
        raise StateError(
            f"{store.name} holds unsent payloads of exporters that the configuration does not have: "
            f"{', '.join(sorted(waiting))}. Put them back until they are sent, or throw the payloads away: "
            f"service.state.forget: [{', '.join(EXPORTERS + id for id in sorted(waiting))}]"
        )


def bequest(store: StateStore, old: Plan, new: Plan) -> Bequest:
    """What a reload from `old` to `new` does to stored state; entries that stood there before are done.

    Raises StateError over state that nobody would read. Blocks.
    """
    state, was, stored, present = new.service.state, old.service.state, store.owners(), owners(new)
    moved = {_stored_owner(a, stored, new): _owner_of(b, present) for a, b in state.moved.items()}
    moved = {a: b for a, b in moved.items() if a in stored and (a not in present or state.moved != was.moved)}
    named = {_stored_owner(id, stored, new): id for id in state.forget if not id.startswith(EXPORTERS)}
    forgotten = frozenset(owner for owner, id in named.items() if owner not in present or id not in was.forget)
    _refuse_orphans(store, stored - present - set(moved) - forgotten)
    return Bequest(moved, forgotten)


def drop_unsent(store: StateStore, exporter: str) -> None:
    """Throw an exporter's waiting payloads away. Blocks."""
    rows = [row for row in store.waiting() if row.exporter == exporter]
    if rows:
        store.commit(Commit(acks=[Ack(row.id, row.exporter, shard=row.shard) for row in rows]))


def forgets_unsent(plan: Plan, exporter: str) -> bool:
    """Whether `service.state.forget` throws an exporter's waiting payloads away."""
    return f"{EXPORTERS}{exporter}" in plan.service.state.forget


def owners(plan: Plan) -> set[str]:
    """The components that may have state."""
    processors = {f"processors.{n.id}" for p in plan.pipelines.values() for n in p.processors}
    return processors | {f"connectors.{id}" for id in plan.connectors}


def _stored_owner(id: str, stored: Collection[str], plan: Plan) -> str:
    """The owner of stored state by a bare id; of two, the one that the configuration does not have any more."""
    gone = [owner for owner in stored if owner not in owners(plan)]
    return _owner_of(id, [*gone, *stored])


def _owner_of(id: str, known: Collection[str]) -> str:
    """An id as the store knows it: `processors.dedup`; a bare `dedup` is looked up among those known."""
    if id.startswith(("processors.", "connectors.")):
        return id
    return next((owner for owner in known if owner.partition(".")[2] == id), f"processors.{id}")


def _refuse_orphans(store: StateStore, orphans: Collection[str]) -> None:
    if orphans:
        raise StateError(
            f"{store.name} holds state of components that the configuration does not have: "
            f"{', '.join(sorted(orphans))}. Name each in service.state.moved (old: new) or service.state.forget"
        )


Failing = Mapping[str, str]
"""Why an exporter does not deliver at present, by id."""


def refuse_unsent(gone: Iterable[str], waiting: Mapping[str, int], failing: Failing, plan: Plan) -> None:
    """At a reload: an exporter that goes away delivers what it has first. Raises StateError where it cannot."""
    stuck = [id for id in gone if waiting.get(id) and id in failing and not forgets_unsent(plan, id)]
    if stuck:
        said = "; ".join(f"{id} has {waiting[id]}, and fails: {failing[id]}" for id in stuck)
        raise StateError(
            f"unsent payloads of exporters that the configuration does not have any more: {said}. Keep them until they "
            f"are sent, or throw the payloads away: service.state.forget: [{', '.join(EXPORTERS + id for id in stuck)}]"
        )
