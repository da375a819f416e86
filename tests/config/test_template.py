"""`${…}`: variables, files, defaults, nesting, dollar signs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.template import Expanded, expand

ENV = {"A": "1", "EMPTY": "", "NAME": "A", "EVIL": "${env:A}$$", "DIR": "secrets"}
FILES = {"secrets/key": "s3cret\n", "windows": "x\r\n", "two": "a\n\n"}


def read_file(path: str) -> str:
    if path == "locked":
        raise PermissionError(13, "Permission denied")
    if path == "binary":
        raise ValueError("'utf-8' codec can't decode")
    if path not in FILES:
        raise FileNotFoundError(path)
    return FILES[path]


def expanded(text: str) -> Expanded:
    return expand(text, ENV, read_file)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain", "plain"),
        ("${env:A}", "1"),
        ("x${env:A}y${env:A}", "x1y1"),
        ("${env:EMPTY}", ""),
        ("${env:NONE:-d}", "d"),
        ("${env:NONE:-}", ""),
        ("${env:EMPTY:-d}", "d"),
        ("${env:A:-d}", "1"),
        ("${env:NONE:--}", "-"),
        ("${env:NONE:-a:-b}", "a:-b"),
        ("${env:NONE:-{a: {b: c}}}", "{a: {b: c}}"),
        ("${env:NONE:-${env:A}/x}", "1/x"),
        ("${env:NONE:-${env:ALSO:-${env:A}}}", "1"),
        ("${env:${env:NAME}}", "1"),
        ("${env:NONE:-$$5}", "$5"),
        ("${env:EVIL}", "${env:A}$$"),
        ("${file:secrets/key}", "s3cret"),
        ("${file:${env:DIR}/key}", "s3cret"),
        ("${file:windows}", "x"),
        ("${file:two}", "a\n"),
        ("${file:none:-d}", "d"),
        ("$$", "$"),
        ("$${env:A}", "${env:A}"),
        ("$$${env:A}", "$1"),
        ("^a$", "^a$"),
        ("$5 and $x", "$5 and $x"),
        ("{a}", "{a}"),
    ],
)
def test_references_are_replaced(text: str, result: str) -> None:
    assert expanded(text).text == result
    assert expanded(text).faults == ()


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("${env:NONE}", ["the environment variable NONE is not set; set it, or write `${env:NONE:-default}`"]),
        (
            "${env:NONE:-${env:ALSO}}",
            ["the environment variable ALSO is not set; set it, or write `${env:ALSO:-default}`"],
        ),
        ("${env:}", ["`` is no name of an environment variable"]),
        ("${env:1A}", ["`1A` is no name of an environment variable"]),
        ("${A}", ["`${A}` means nothing; write `${env:A}`, or `$$` for a plain `$`"]),
        ("${http://x}", ["`${http://x}` means nothing; write `${env:NAME}`, or `$$` for a plain `$`"]),
        ("${}", ["`${}` means nothing; write `${env:NAME}`, or `$$` for a plain `$`"]),
        ("a${env:A", ["`${env:A` has no closing `}`; write `$$` for a plain `$`"]),
        ("${env:A:-${x}", ["`${env:A:-${x}` has no closing `}`; write `$$` for a plain `$`"]),
        ("${file:none}", ["there is no file `none`"]),
        ("${file:locked}", ["the file `locked` cannot be read: Permission denied"]),
        ("${file:binary:-d}", ["the file `binary` cannot be read: 'utf-8' codec can't decode"]),
        ("${env:" * 20 + "A" + "}" * 20, ["`${…}` is nested deeper than 16 levels"]),
    ],
)
def test_a_reference_to_nothing_is_a_fault(text: str, faults: list[str]) -> None:
    assert list(expanded(text).faults) == faults


def test_a_default_is_not_looked_at_while_the_variable_is_there() -> None:
    assert expanded("${env:A:-${env:NONE}}").faults == ()


def test_every_fault_of_a_text_is_named() -> None:
    assert len(expanded("${env:X}${file:none}${Y}").faults) == 3


def test_dollar_signs_alone_are_no_references() -> None:
    assert expanded("a$$b$").references == 0
    assert expanded("${env:A:-${env:B}}").references == 1


@given(st.text())
def test_a_text_whose_dollars_are_doubled_comes_out_as_it_was(text: str) -> None:
    assert expanded(text.replace("$", "$$")) == Expanded(text, 0, ())


@given(st.text(st.sampled_from("${}:-envA ")))
def test_any_text_is_replaced_or_named(text: str) -> None:
    assert isinstance(expanded(text).text, str)
