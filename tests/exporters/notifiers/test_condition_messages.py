"""What lasts is said to last, and not to have failed again."""

import msgspec

from exporters.notifiers.message import message
from pipeline.clock import HOUR, SECOND
from pipeline.signals import Alert, AlertState

START = 1_705_284_000 * SECOND
STALE = Alert(
    "sla_breach", "firing", "WARNING", "v1:s", START, START, START, "Freshness SLA Breached",
    "Last updated 2 h ago (2024-01-15 00:00 UTC); its SLA allows 2 h.", asset="orders",
)  # fmt: skip


def said(state: AlertState, **changes: object) -> tuple[str, tuple[str, ...]]:
    found = message(msgspec.structs.replace(STALE, state=state, now_ns=START + 9 * HOUR, **changes))
    assert found is not None
    return found.heading, found.text


def test_the_first_word_is_what_and_how_late() -> None:
    assert said("firing") == ("⚠️ Freshness SLA Breached", (STALE.summary,))


def test_while_it_lasts_it_is_still_so() -> None:
    told = ("⚠️ Still: Freshness SLA Breached: orders", (STALE.summary, "Told first: 2024-01-15 02:00 UTC"))
    assert said("digest", count=3) == told
    assert said("repeated", count=0) == told


def test_what_has_its_name_in_its_title_is_named_once() -> None:
    assert said("escalated", asset="", title="Disk Almost Full: /")[0] == "⚠️ Still: Disk Almost Full: /"


def test_partitions_are_named() -> None:
    text = said("digest", failing=2, partitions=("de", "fr"))[1]
    assert text[-1] == "2 partitions: fr, de"


def test_its_end_names_what_it_was() -> None:
    assert said("resolved", count=4) == (
        "✅ Resolved: orders",
        ("Freshness SLA Breached: told at 2024-01-15 02:00 UTC, well since 2024-01-15 11:00 UTC.",),
    )
