"""What an answer's status and Retry-After mean."""

from datetime import UTC, datetime

import pytest

from pipeline.errors import PermanentError, RetryableError
from pipeline.http import Response, expect_no_page, expect_ok, retry_after

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        (" 1.5 ", 1.5),
        ("-3", 0),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30),
        ("Thu, 01 Jan 2026 13:00:30 +0100", 30),
        ("Thu, 01 Jan 2026 12:00:30 -0000", 30),
        ("Thursday, 01-Jan-26 12:00:30 GMT", 30),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0),
        ("", None),
        ("soon", None),
        ("inf", None),
        ("nan", None),
        ("1e999", None),
    ],
)
def test_retry_after_is_a_number_or_a_date_and_nonsense_is_nothing(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}, NOON) == seconds


def test_which_statuses_may_pass_is_the_protocols_to_say() -> None:
    answer = Response(500, {"retry-after": "4"}, b"x" * 1000)
    with pytest.raises(RetryableError, match=r"the sink answered 500: x{300}$") as caught:
        expect_ok(answer, "the sink")
    assert caught.value.retry_after == 4
    with pytest.raises(PermanentError):
        expect_ok(answer, "the sink", retryable={429})
    assert expect_ok(Response(204, {}, b""), "the sink").status == 204


def test_a_page_for_people_is_told_from_an_answer() -> None:
    fine = Response(200, {"content-type": "application/json"}, b"{}")
    assert expect_no_page(fine, "the sink") is fine
    with pytest.raises(RetryableError, match="the sink answered 200 with a web page"):
        expect_no_page(Response(200, {"content-type": "Text/HTML; charset=utf-8"}, b""), "the sink")
