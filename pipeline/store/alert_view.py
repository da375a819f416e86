"""How alerts stand, as whoever is not their owner sees it: the silences in force and the problems that are open.

Read from the last checkpoint's rows of the tables `silences`, `lives` and `homes`, which `processors.dedup` keeps;
what was asked for since is laid over it, so that who asks sees at once what was taken down. Only kernel types and keys
are read: what a life holds is nobody's business but the processor's.
"""

from typing import Final

import msgspec
from sqlalchemy import ColumnElement, Engine, select

from pipeline.alert_commands import Expire, Silence
from pipeline.batch import WHOLE
from pipeline.store import acts
from pipeline.store.schema import ROWS

LEAST: Final = 6
"""Characters of a fingerprint's digest that name it, if they name but one."""

_silence = msgspec.msgpack.Decoder(Silence).decode
_text = msgspec.msgpack.Decoder(str).decode


class Standing(msgspec.Struct, frozen=True):
    """A silence and whether the daemon has taken it up yet."""

    silence: Silence
    in_force: bool


def silences(engine: Engine, now_ns: int) -> list[Standing]:
    """Those that have not ended at `now_ns`, the one that ends first first.

    0 where domain time is not the wall's (`clock: events`): all that the processor has not put away yet.
    """
    found: dict[str, Standing] = {}
    with engine.connect() as tx:
        rows = select(ROWS.c.value).where(ROWS.c.shard == WHOLE, ROWS.c.name == "silences", _of_a_processor())
        for data in tx.scalars(rows):
            try:
                silence = _silence(data)
            except msgspec.MsgspecError:
                continue
            found[silence.id] = Standing(silence, True)
    for command in acts.waiting(engine):
        if isinstance(command, Silence):
            found.setdefault(command.id, Standing(command, False))
        elif isinstance(command, Expire):
            found.pop(command.silence, None)
    standing = [one for one in found.values() if one.silence.until_ns > now_ns]
    return sorted(standing, key=lambda one: (one.silence.until_ns, one.silence.id))


def open_alerts(engine: Engine) -> set[str]:
    """The fingerprints of all problems that are open, those that are told with others too."""
    with engine.connect() as tx:
        chosen = select(ROWS.c.key).where(ROWS.c.shard == WHOLE, ROWS.c.name.in_(("lives", "homes")), _of_a_processor())
        return {_text(key) for key in tx.scalars(chosen)}


def named(name: str, open: set[str]) -> list[str]:
    """The open problems that a fingerprint, a key or the beginning of one means: one, none, or too many to tell."""
    fingerprint = name.partition("#")[0]
    if fingerprint in open:
        return [fingerprint]
    begins = [fingerprint, f"v1:{fingerprint}"]
    digest = fingerprint.removeprefix("v1:")
    if len(digest) < LEAST:
        return []
    return sorted(one for one in open if one.startswith(tuple(begins)))


def _of_a_processor() -> ColumnElement[bool]:
    return ROWS.c.owner.startswith("processors.")
