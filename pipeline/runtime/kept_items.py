"""Items as bytes and back, so that one on which a component raised can be given to it again.

Lossless but for two fields of an event: `raw` is the dead letter's own body, and `catalog`, the asset graph in force,
is what it is when the item comes again. Only the kernel's types; an item of a plugin's own type is not kept.
"""

from typing import Any, Final, get_args, get_type_hints

import msgspec

from pipeline.alert_commands import COMMANDS
from pipeline.alert_records import RECORDS
from pipeline.events import Detail, Event
from pipeline.signals import Alert, Edges, LogRecord, Sample, Span

_KEPT: Final = (Span, LogRecord, Sample, Alert, Edges, *COMMANDS, *RECORDS)
_PLAIN: Final[dict[str, type]] = {kind.__name__: kind for kind in _KEPT}
_DETAILS: Final[dict[str, type]] = {kind.__name__: kind for kind in get_args(Detail)}
_APART: Final = ("raw", "catalog", "detail")
_EventFields: Final = msgspec.defstruct(
    "_EventFields", [(name, kind) for name, kind in get_type_hints(Event).items() if name not in _APART]
)


class _Kept(msgspec.Struct, array_like=True):
    kind: str
    value: msgspec.Raw
    detail_kind: str = ""
    detail: msgspec.Raw = msgspec.Raw(b"\xc0")


_encode = msgspec.msgpack.Encoder().encode


def kept(item: object) -> bytes | None:
    """The item as bytes; None for one that cannot be kept (another type, a text that is no Unicode)."""
    try:
        if isinstance(item, Event):
            fields = {name: getattr(item, name) for name in _EventFields.__struct_fields__}
            detail = (type(item.detail).__name__, msgspec.Raw(_encode(item.detail))) if item.detail else ()
            return _encode(_Kept("Event", msgspec.Raw(_encode(fields)), *detail))
        name = type(item).__name__
        if _PLAIN.get(name) is not type(item):
            return None
        return _encode(_Kept(name, msgspec.Raw(_encode(item))))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None


def restored(data: bytes, raw: bytes) -> Any:
    """The item that `kept` gave; `raw` is an event's bytes. Raises ValueError for what another version kept."""
    try:
        found = msgspec.msgpack.decode(data, type=_Kept)
        if found.kind != "Event":
            return msgspec.msgpack.decode(found.value, type=_PLAIN[found.kind])
        fields = msgspec.structs.asdict(msgspec.msgpack.decode(found.value, type=_EventFields))
        detail = msgspec.msgpack.decode(found.detail, type=_DETAILS[found.detail_kind]) if found.detail_kind else None
        return Event(raw=raw, detail=detail, **fields)
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise ValueError(f"kept by another version of dagtel: {error}") from error
