"""Metrics as any scraper reads them."""

from demo.figures import scrape, total


def test_a_total_takes_the_series_with_these_labels() -> None:
    series = {
        ("dagster_runs_total", (("job_name", "a"), ("status", "success"))): 2.0,
        ("dagster_runs_total", (("job_name", "a"), ("status", "failure"))): 1.0,
        ("other", ()): 9.0,
    }
    assert total(series, "dagster_runs_total") == 3.0
    assert total(series, "dagster_runs_total", status="failure") == 1.0


def test_nobody_there_is_no_series() -> None:
    assert scrape("127.0.0.1:1") == {}
