"""What state a graph inherits: whose rows are whose now, and which are worthless. Pure.

A row belongs to a component's id. `service.state.moved` and `forget` change that; and where an option that the type
lists in `resets_state` has changed, what was stored under the old one goes. Each shard remembers these options of each
component in a row beside its state, so they are compared with those under which the state was made, whenever that was.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final

import msgspec

from pipeline.errors import StateError
from pipeline.options import Secret
from pipeline.store.state import StateRow, StoredRow
from pipeline.topology.plan import Node, Plan

SETTINGS: Final = "@settings"
"""The table that holds a digest of the options that `resets_state` names, in one row."""
_KEY: Final = b"\xa0"

Rows = Mapping[tuple[str, str], Sequence[StoredRow]]
"""Stored rows by owner and table."""


class Bequest(msgspec.Struct, frozen=True):
    """What a reload does to stored state: owners renamed (old → new), owners whose state is thrown away."""

    moved: Mapping[str, str] = {}
    forgotten: frozenset[str] = frozenset()


def settings_of(plan: Plan) -> dict[str, bytes]:
    """By owner: a digest of the options whose change makes its state worthless."""
    nodes = [(f"processors.{n.id}", n) for p in plan.pipelines.values() for n in p.processors]
    nodes += [(f"connectors.{id}", n) for id, n in plan.connectors.items()]
    return {owner: _digest(node) for owner, node in nodes if getattr(node.spec, "resets_state", ())}


def inherited(shard: str, stored: Rows, settings: Mapping[str, bytes], bequest: Bequest) -> tuple[Rows, list[StateRow]]:
    """The rows that the components of a shard are to load, and what must be written for the store to say the same.

    Raises StateError when state is moved to a component that has some.
    """
    rows = {key: list(found) for key, found in stored.items()}
    changes: list[StateRow] = []
    for owner, name in [key for key in rows if key[0] in bequest.forgotten]:
        changes += _deleted(shard, owner, name, rows.pop((owner, name)))
    for owner, name in [key for key in rows if key[0] in bequest.moved]:
        new, found = bequest.moved[owner], rows.pop((owner, name))
        if any(key[0] == new for key in stored) and new not in bequest.forgotten:
            raise StateError(f"service.state.moved: {new} has state of its own; name it in service.state.forget first")
        changes += _deleted(shard, owner, name, found)
        changes += [StateRow(shard, new, name, *row) for row in found]
        rows[new, name] = found
    for owner, digest in settings.items():
        changes += _reset(shard, owner, digest, rows)
    return rows, changes


def _reset(shard: str, owner: str, digest: bytes, rows: dict[tuple[str, str], list[StoredRow]]) -> list[StateRow]:
    """Compare one owner's options with those that its state was made under; with others its rows go."""
    found = rows.get((owner, SETTINGS))
    if found and found[0][2] == digest:
        return []
    gone: list[StateRow] = []
    if found:
        for key in [key for key in rows if key[0] == owner]:
            gone += _deleted(shard, *key, rows.pop(key))
    rows[owner, SETTINGS] = [(_KEY, 1, digest)]
    return [*gone, StateRow(shard, owner, SETTINGS, _KEY, 1, digest)]


def latest(changes: Sequence[StateRow], rows: Sequence[StateRow]) -> list[StateRow]:
    """Both as one, each row once: what was written later counts."""
    by_key = {(row.shard, row.owner, row.name, row.key): row for row in (*changes, *rows)}
    return list(by_key.values())


def _deleted(shard: str, owner: str, name: str, rows: Sequence[StoredRow]) -> list[StateRow]:
    return [StateRow(shard, owner, name, key, version, None) for key, version, _ in rows]


def _digest(node: Node) -> bytes:
    names: tuple[str, ...] = getattr(node.spec, "resets_state", ())
    chosen = {name: getattr(node.options, name) for name in sorted(names)}
    return sha256(msgspec.json.encode(chosen, enc_hook=_plain, order="deterministic")).digest()


def _plain(value: object) -> object:
    return value.reveal() if isinstance(value, Secret) else repr(value)
