"""Items on which a component raised, as bytes and back."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.events import Event
from pipeline.runtime.kept_items import kept, restored
from pipeline.signals import Signal
from pipeline.testing import strategies
from pipeline.testing.rig import plain


@pytest.mark.parametrize("signal", list(Signal))
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_what_is_kept_comes_back_equal(signal: Signal, data: st.DataObject) -> None:
    for item in data.draw(strategies.items(signal)):
        found = kept(item)
        if found is None:
            continue
        again = restored(found, item.raw if isinstance(item, Event) else b"")
        assert type(again) is type(item)
        if isinstance(item, Event):
            item.catalog = None
            assert type(again.detail) is type(item.detail)
        assert plain(msgspec.structs.asdict(again)) == plain(msgspec.structs.asdict(item))


def test_an_item_of_another_type_is_not_kept() -> None:
    class Own(msgspec.Struct):
        a: int

    assert kept(Own(1)) is None
    assert kept(None) is None
    assert kept(object()) is None


@pytest.mark.parametrize("data", [b"", b"\x93\xa5Other\xc0\xc0", msgspec.msgpack.encode(["Span", {"x": 1}]), b"\x00"])
def test_what_another_version_kept_is_said(data: bytes) -> None:
    with pytest.raises(ValueError, match="another version"):
        restored(data, b"")
