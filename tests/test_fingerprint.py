"""Fingerprints neither split one problem nor merge two."""

import re
import string

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.facts import ErrorInfo
from pipeline.fingerprint import MASKS, Fingerprinter, Mask, Override, Parts, fingerprint

FINGERPRINTER = Fingerprinter()


def masked(message: str) -> tuple[str, ...]:
    return FINGERPRINTER.masked(message)


def of(error: ErrorInfo, asset: str = "raw/orders", partition: str | None = None, run: str = "") -> str:
    return fingerprint(FINGERPRINTER.explain("asset_failure", asset=asset, error=error, partition=partition, run=run))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Connection timeout after 30s", "Connection timeout after <duration>"),
        ("GET https://api.x.io/v2?day=2026-03-06#a failed", "GET <url> failed"),
        ("GET /v2/payments?day=2026-03-06&page=1", "GET <path>?day=<time>&page=<number>"),
        ("no run 6f1de2a6-8f5e-4d4e-9a51-0d2a3a1f5b77 here", "no run <uuid> here"),
        ("since 2024-01-15T02:00:00.123Z", "since <time>"),
        ("since 2024-01-15 02:00 UTC", "since <time>"),
        ("at 10:35:42,123", "at <time>"),
        ("refused by 10.0.3.17:5432", "refused by <ip>:<number>"),
        ("refused by warehouse:5432", "refused by warehouse:<number>"),
        ("at 0x7f3a2b10", "at <hex>"),
        ("commit 9fceb02d0ae598e95dc970b74767f19372d61af8", "commit <id>"),
        ("mail to ana.b@example.com failed", "mail to <email> failed"),
        ("column 'a b' is \"x\" or `y`", "column <quoted> is <quoted> or <quoted>"),
        ("we can't and won't", "we can't and won't"),
        ("no file /opt/lake/x-1/part.parquet", "no file <path>"),
        ("no file lake/raw/part-3.parquet", "no file <path>"),
        (r"no file C:\lake\x", "no file <path>"),
        ("read/write of 12.5 GB, 1e-9 or 1,000", "read/write of <number> GB, <number> or <number>"),
        ("worker-7f9c5d6-x2k9p died after 1h30m", "worker-<id>-<id> died after <duration>"),
        ("utf8 and sha256 and S3UploadError stay", "utf8 and sha256 and S3UploadError stay"),
        ("part_20240115 col12", "part_<number> col12"),
    ],
)
def test_what_differs_from_run_to_run_is_masked(message: str, expected: str) -> None:
    assert masked(message) == (expected,)


def test_only_the_first_two_lines_count() -> None:
    assert masked("\n  bad row\n\nid 7\nthird") == ("bad row", "id <number>")
    assert masked("") == ()


@given(st.lists(st.text(string.ascii_letters + " .,:;!?()[]{}=_-", max_size=20), min_size=1), st.data())
def test_the_same_message_with_other_numbers_is_the_same_problem(words: list[str], data: st.DataObject) -> None:
    def message() -> str:
        number = st.integers(0, 10**9).map(str)
        return " ".join(f"{word} {data.draw(number)}" for word in words)

    assert of(ErrorInfo("E", message())) == of(ErrorInfo("E", message()))


@given(st.uuids(), st.uuids(), st.datetimes(), st.datetimes())
def test_ids_and_times_do_not_split(a: object, b: object, t: object, u: object) -> None:
    assert of(ErrorInfo("E", f"run {a} at {t}")) == of(ErrorInfo("E", f"run {b} at {u}"))


@given(st.text(max_size=300))
def test_masking_is_total_and_bounded(message: str) -> None:
    lines = masked(message)
    assert len(lines) <= 2
    assert all(line.strip() for line in lines)


@given(st.sampled_from("abcdefgh"), st.sampled_from("abcdefgh"))
def test_another_class_frame_or_place_is_another_problem(a: str, b: str) -> None:
    same = a == b
    assert (of(ErrorInfo(a, "m")) == of(ErrorInfo(b, "m"))) == same
    assert (of(ErrorInfo("E", "m", frames=(f"x.py:{a}",))) == of(ErrorInfo("E", "m", frames=(f"x.py:{b}",)))) == same
    assert (of(ErrorInfo("E", f"{a}{a}")) == of(ErrorInfo("E", f"{b}{b}"))) == same
    assert (of(ErrorInfo("E", "m"), asset=a) == of(ErrorInfo("E", "m"), asset=b)) == same


def test_partition_and_run_do_not_tell_problems_apart() -> None:
    austria = of(ErrorInfo("E", "no VAT table for AT on 2026-03-03"), partition="2026-03-03|AT", run="aaaa1111-x")
    france = of(ErrorInfo("E", "no VAT table for FR on 2026-03-04"), partition="2026-03-04|FR", run="bbbb2222-x")
    assert austria == france


def test_a_partition_that_is_a_word_changes_nothing() -> None:
    norway = of(ErrorInfo("E", "there is no file"), partition="no")
    assert norway == of(ErrorInfo("E", "there is no file"), partition="se")


def test_dagsters_own_wrappers_and_line_numbers_say_nothing() -> None:
    chain = ("DagsterExecutionStepExecutionError", "IngestError", "KeyError")
    retried = ("RetryRequestedFromPolicy", "IngestError", "KeyError")
    assert of(ErrorInfo("KeyError", "x", line=4, chain=chain)) == of(ErrorInfo("KeyError", "x", line=5, chain=retried))
    assert of(ErrorInfo("KeyError", "x", chain=("KeyError",))) != of(ErrorInfo("KeyError", "x", chain=chain))
    crash = ErrorInfo("DagsterSubprocessError", "x", chain=("DagsterSubprocessError",))
    assert FINGERPRINTER.explain("run_failure", error=crash).chain == ("DagsterSubprocessError",)


def test_frames_are_the_innermost_without_release_folders_and_recursion() -> None:
    frames = ("/app/a.py:main", "/app/releases/3f2b9c1e/shop/load.py:walk", *["/x/9fceb02d0a/io.py:read"] * 5, "y.py:z")
    parts = FINGERPRINTER.explain("asset_failure", asset="a", error=ErrorInfo("E", "", frames=frames))
    assert parts.frames == ("shop/load.py:walk", "<release>/io.py:read", "y.py:z")


def test_a_failure_without_an_error_is_told_by_its_reason() -> None:
    def reason(text: str) -> str:
        return fingerprint(FINGERPRINTER.explain("run_failure", job="nightly", text=text))

    assert reason("START_TIMEOUT") != reason("RUN_WORKER_RESTART")
    assert reason("waited 60 seconds") == reason("waited 61 seconds")


def test_kind_place_check_and_deployment_are_part_of_it() -> None:
    prints = {
        fingerprint(f.explain(kind, asset=asset, job=job, step=step, check=check))
        for f in (Fingerprinter(), Fingerprinter(deployment="staging"))
        for kind, asset, job, step, check in [
            ("asset_failure", "a", "j", "s", ""),
            ("check_failure", "a", "j", "s", "c"),
            ("run_failure", "", "j", "s", ""),
            ("run_failure", "", "j", "", ""),
        ]
    }
    assert len(prints) == 8


def test_a_fingerprint_shows_its_algorithm_and_never_changes() -> None:
    parts = Parts("asset_failure", ("raw/orders",), chain=("TimeoutError",), message=("after <duration>",))
    assert fingerprint(parts) == "v1:364bfb327cf52ec3"


def test_own_masks_come_first_and_built_in_ones_can_be_left_out() -> None:
    own = Fingerprinter(extra=[Mask(name="order", pattern=r"O-\d+")], without=["number"])
    assert own.masked("order O-17 of 3") == ("order <order> of 3",)


def test_an_override_replaces_what_the_error_says() -> None:
    rules = [Override(fingerprint="warehouse down", error_type=".*Refused.*", message="warehouse")]
    own = Fingerprinter(overrides=rules)
    refused = own.explain("asset_failure", asset="a", error=ErrorInfo("ConnectionRefusedError", "by warehouse:1"))
    reset = own.explain("asset_failure", asset="a", error=ErrorInfo("ConnectionResetError", "by warehouse:1"))
    assert refused == Parts("asset_failure", ("a",), override="warehouse down")
    assert reset.override == ""


@pytest.mark.parametrize("kind", [Mask, Override])
def test_a_broken_pattern_is_named(kind: type) -> None:
    field = "pattern" if kind is Mask else "asset"
    given = {"name": "x", "fingerprint": "x", field: "(["}
    wanted = {name: value for name, value in given.items() if name in kind.__struct_fields__}  # type: ignore[attr-defined]
    with pytest.raises(msgspec.ValidationError, match=re.escape("'([' is no regular expression")):
        msgspec.convert(wanted, kind)


def test_names_of_masks_are_unique() -> None:
    assert len({mask.name for mask in MASKS}) == len(MASKS)
