"""What the daemon publishes at its metrics addresses, read as any Prometheus would read it."""

import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(address: str) -> Series:
    """Every series of `http://ADDRESS/metrics`, by name and sorted labels; none while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=2) as answer:
            text = answer.read().decode()
    except (urllib.error.URLError, OSError):
        return {}
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(series: Series, name: str, **labels: str) -> float:
    """The sum over all series of a name that have these labels."""
    return sum(
        value for (found, pairs), value in series.items() if found == name and labels.items() <= dict(pairs).items()
    )
