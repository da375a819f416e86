"""Signed links: whole ones are read back, everything else does nothing and says why."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.action_links import LONGEST, NAMED, Act, LinkError, Signer
from pipeline.clock import SECOND

OLD, NEW, OTHER = "o" * 32, "n" * 32, "x" * 32
NOW = 1_795_435_200
ACT = Act("silence", NOW + 60, "v1:ab#2", "raw/orders")


@given(
    st.builds(
        Act,
        deed=st.sampled_from(["silence", "acknowledge", "retry"]),
        until_s=st.integers(NOW + 1, NOW + 10**6),
        alert=st.text(max_size=40),
        about=st.text(st.characters(codec="utf-8"), max_size=NAMED),
        run=st.text(max_size=36),
    )
)
def test_what_is_signed_is_read_back(act: Act) -> None:
    token = Signer([NEW]).token(act)
    assert token.isascii() and not set(token) & set("/?#&<>\"' ")
    assert Signer([NEW]).read(token, NOW * SECOND) == act


@pytest.mark.parametrize("at", [0, 5, -1])
def test_one_other_character_and_it_does_nothing(at: int) -> None:
    token = Signer([NEW]).token(ACT)
    changed = list(token)
    changed[at] = "A" if changed[at] != "A" else "B"
    with pytest.raises(LinkError) as error:
        Signer([NEW]).read("".join(changed), NOW * SECOND)
    assert error.value.reason == "forged"


@pytest.mark.parametrize("token", ["", ".", "a.b", "é", "A" * (LONGEST + 1), "\x00", "....", "eyJkIjoicmV0cnkifQ."])
def test_what_is_no_token_does_nothing(token: str) -> None:
    with pytest.raises(LinkError, match="was not made by this dagtel"):
        Signer([NEW]).read(token, NOW * SECOND)


def test_a_link_of_another_dagtel_does_nothing_here() -> None:
    with pytest.raises(LinkError) as error:
        Signer([NEW]).read(Signer([OTHER]).token(ACT), NOW * SECOND)
    assert error.value.reason == "forged"


def test_a_link_ends_at_its_second() -> None:
    token = Signer([NEW]).token(ACT)
    assert Signer([NEW]).read(token, (NOW + 60) * SECOND - 1) == ACT
    with pytest.raises(LinkError, match="too old") as error:
        Signer([NEW]).read(token, (NOW + 60) * SECOND)
    assert error.value.reason == "expired"


def test_old_links_work_while_the_old_key_is_kept_and_new_ones_are_signed_with_the_new() -> None:
    assert Signer([OLD, NEW]).read(Signer([OLD]).token(ACT), NOW * SECOND) == ACT
    assert Signer([NEW]).read(Signer([OLD, NEW]).token(ACT), NOW * SECOND) == ACT


def test_what_is_signed_for_something_else_with_the_same_key_is_no_link() -> None:
    from itsdangerous import URLSafeSerializer

    foreign = URLSafeSerializer(NEW, salt="session").dumps(msgspec.to_builtins(ACT))
    with pytest.raises(LinkError):
        Signer([NEW]).read(str(foreign), NOW * SECOND)


def test_a_long_name_is_cut_so_that_the_link_stays_short() -> None:
    token = Signer([NEW]).token(msgspec.structs.replace(ACT, about="é" * 5000))
    assert len(token) < LONGEST
    assert Signer([NEW]).read(token, NOW * SECOND).about == "é" * NAMED


def test_two_messages_silence_twice_and_two_channels_once_and_a_run_is_retried_once_by_all() -> None:
    later = msgspec.structs.replace(ACT, until_s=ACT.until_s + 3600)
    assert ACT.id == msgspec.structs.replace(ACT, about="as another channel has it").id
    assert ACT.id != later.id
    retry = Act("retry", NOW, "v1:ab#2", "raw/orders", "run-1")
    assert retry.id == msgspec.structs.replace(retry, alert="v1:cd#1", until_s=NOW + 9).id
    assert retry.id != msgspec.structs.replace(retry, run="run-2").id
