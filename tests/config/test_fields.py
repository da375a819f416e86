"""What a config type offers is read from the type: names, defaults, and the docstring after each field."""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
import pytest

from pipeline.config.fields import MISSING, doc, fields, struct_within, words
from pipeline.config.model import ServiceConfig
from pipeline.options import Duration, Secret, Size


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """A base."""

    a: int
    """The first,
    on two lines."""


class Derived(Base, frozen=True, kw_only=True):
    b: list[int] = []
    """The second."""
    c: str = msgspec.field(default="x", name="from")


def test_inherited_fields_keep_their_words() -> None:
    assert [(f.name, f.attribute, f.default, f.doc) for f in fields(Derived)] == [
        ("a", "a", MISSING, "The first, on two lines."),
        ("b", "b", [], "The second."),
        ("from", "c", "x", ""),
    ]


def test_a_type_made_at_run_time_has_no_words() -> None:
    made = msgspec.defstruct("Made", [("a", int, 0)])
    assert [(f.name, f.doc) for f in fields(made)] == [("a", "")]
    assert doc(made) == ""


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        (str, "text"),
        (int, "whole number"),
        (bool, "true or false"),
        (Duration, "duration"),
        (Size | None, "size"),
        (Secret, "secret"),
        (Literal["a", "b", "c"], "`a`, `b` or `c`"),
        (tuple[str, ...], "list of text"),
        (list[Base], "list of maps"),
        (dict[str, float], "map of number"),
        (Mapping[str, Base], "map of maps"),
        (Base | None, "map"),
        (int | str, "whole number or text"),
        (Annotated[int, msgspec.Meta(ge=1)], "whole number"),
    ],
)
def test_types_in_words(hint: object, said: str) -> None:
    assert words(hint) == said


@pytest.mark.parametrize("hint", [Base, Base | None, list[Base], dict[str, Base], tuple[Base, ...] | None])
def test_the_options_within_a_type_are_found(hint: object) -> None:
    assert struct_within(hint) is Base


def _options(cls: type[msgspec.Struct]) -> list[tuple[str, str]]:
    found = []
    for field in fields(cls):
        found.append((f"{cls.__name__}.{field.name}", field.doc))
        if below := struct_within(field.hint):
            found.extend(_options(below))
    return found


def test_every_option_of_the_service_is_described() -> None:
    blocks = {"intake", "state", "dead_letters", "telemetry", "metrics", "health", "logs", "traces", "api", "dagster"}
    assert [name for name, said in _options(ServiceConfig) if not said and name.rpartition(".")[2] not in blocks] == []
