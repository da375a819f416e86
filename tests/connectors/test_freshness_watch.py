"""How late one asset is, and what of that was told."""

from connectors.freshness_watch import LEAD_NS, Watch, begun, judged, leaving, retargeted, said, updated, wiped
from connectors.sla import Level, Target
from pipeline.clock import HOUR, MINUTE, SECOND

START = 1_700_000_000 * SECOND
AGAIN = 6 * HOUR
OURS = Target((Level(2 * HOUR, "WARNING"), Level(4 * HOUR, "CRITICAL")), 2 * HOUR)
WINDOW = Target((Level(2 * HOUR, "WARNING"), Level(4 * HOUR, "CRITICAL")), 2 * HOUR, source="policy")
LEVELS = (Level(HOUR, "WARNING"), Level(2 * HOUR, "ERROR"), Level(4 * HOUR, "CRITICAL"))
WARNS = Target(LEVELS, 2 * HOUR, source="policy")


def at(hours: float) -> int:
    return START + round(hours * HOUR)


def fresh(target: Target | None = OURS) -> Watch:
    turn = updated(begun(at(-1), target, AGAIN), at(0), at(0), AGAIN)
    assert (turn.severity, turn.recovered) == (None, False)
    return turn.watch


def late(target: Target = OURS) -> Watch:
    watch = fresh(target)
    return judged(watch, watch.due_ns, AGAIN).watch


def test_it_is_told_at_its_target_worse_at_twice_and_again_while_it_lasts() -> None:
    watch, told = fresh(), []
    while watch.due_ns <= at(17):
        now = watch.due_ns
        turn = judged(watch, now, AGAIN)
        told.append(((now - START) / HOUR, turn.severity))
        watch = turn.watch
        assert watch.due_ns > now
    assert told == [(2, "WARNING"), (4, "CRITICAL"), (10, "CRITICAL"), (16, "CRITICAL")]


def test_an_update_heals_it_and_the_time_begins_anew() -> None:
    turn = updated(late(), at(3), at(3), AGAIN)
    assert (turn.recovered, turn.watch.told, turn.watch.due_ns) == (True, "", at(5))


def test_an_update_that_is_old_already_heals_nothing() -> None:
    watch = late()
    turn = updated(judged(watch, at(4), AGAIN).watch, at(1), at(5), AGAIN)
    assert (turn.recovered, turn.watch.last_ns) == (False, at(1))
    assert updated(turn.watch, at(0.5), at(5), AGAIN).watch == turn.watch, "and one from before the last says nothing"


def test_what_comes_late_is_found_soon_after_and_no_timer_is_nearer_than_the_lead() -> None:
    watch = updated(begun(at(9), OURS, AGAIN), at(0), at(9), AGAIN).watch
    assert watch.due_ns == at(9) + LEAD_NS
    assert judged(watch, watch.due_ns, AGAIN).severity == "CRITICAL"


def test_what_was_never_updated_is_late_since_it_is_watched() -> None:
    watch = begun(at(0), OURS, AGAIN)
    assert watch.due_ns == at(2)
    assert judged(watch, at(2), AGAIN).severity == "WARNING"


def test_without_a_target_nothing_is_ever_due() -> None:
    assert fresh(None).due_ns == 0
    assert judged(fresh(None), at(99), AGAIN).severity is None


def test_dagsters_word_and_our_timer_tell_a_breach_once() -> None:
    first = said(fresh(WINDOW), "FAIL", "PASS", at(2), at(2), AGAIN)
    assert first.severity == "WARNING"
    ours = judged(first.watch, at(2.01), AGAIN)
    assert ours.severity is None
    other = said(late(WINDOW), "FAIL", "PASS", at(2.01), at(2.01), AGAIN)
    assert other.severity is None, "the other way round, too"


def test_with_a_warning_before_dagsters_failure_is_an_error() -> None:
    warned = said(fresh(WARNS), "WARN", "PASS", at(1), at(1), AGAIN)
    assert warned.severity == "WARNING"
    assert said(warned.watch, "FAIL", "WARN", at(2), at(2), AGAIN).severity == "ERROR"


def test_dagster_calls_late_what_has_no_target_that_we_know() -> None:
    failed = said(begun(at(0), None, AGAIN), "FAIL", "UNKNOWN", at(1), at(1), AGAIN)
    assert failed.severity == "WARNING"
    assert failed.watch.due_ns == at(1) + AGAIN
    assert judged(failed.watch, at(7), AGAIN).severity == "WARNING", "it lasts until somebody says otherwise"
    assert said(failed.watch, "PASS", "FAIL", at(8), at(8), AGAIN).recovered


def test_dagsters_word_is_not_asked_where_the_target_is_ours() -> None:
    assert said(fresh(), "FAIL", "PASS", at(1), at(1), AGAIN).severity is None


def test_what_dagster_said_before_the_last_update_is_overtaken() -> None:
    assert said(fresh(WINDOW), "FAIL", "PASS", at(-0.5), at(0.1), AGAIN).severity is None


def test_after_dagster_said_pass_ages_count_from_there() -> None:
    well = said(late(WINDOW), "PASS", "FAIL", at(3), at(3), AGAIN)
    assert well.recovered
    assert well.watch.due_ns == at(5)


def test_an_unknown_state_ends_dagsters_word_only() -> None:
    by_dagster = said(begun(at(0), None, AGAIN), "FAIL", "PASS", at(1), at(1), AGAIN).watch
    assert said(by_dagster, "NOT_APPLICABLE", "FAIL", at(2), at(2), AGAIN).recovered
    assert not said(late(WINDOW), "UNKNOWN", "FAIL", at(3), at(3), AGAIN).recovered


def test_a_milder_target_heals_and_a_stricter_one_breaches() -> None:
    milder = retargeted(late(), Target((Level(9 * HOUR, "WARNING"),), 9 * HOUR), at(3))
    assert milder.due_ns == at(3) + LEAD_NS
    assert judged(milder, milder.due_ns, AGAIN).recovered
    stricter = retargeted(fresh(), Target((Level(5 * MINUTE, "WARNING"),), 5 * MINUTE), at(1))
    assert judged(stricter, stricter.due_ns, AGAIN).severity == "WARNING"


def test_the_target_of_an_asset_that_leaves_the_graph_ends_a_while_later() -> None:
    left = leaving(late(WINDOW), at(3), HOUR, AGAIN)
    assert left.due_ns == at(4)
    turn = judged(left, at(4), AGAIN)
    assert (turn.recovered, turn.watch.target, turn.watch.due_ns) == (True, None, 0)
    back = retargeted(left, WINDOW, at(3.5))
    assert back.ends_ns == 0


def test_what_is_wiped_promises_nothing_until_it_is_made_again() -> None:
    turn = wiped(late(), at(3))
    assert turn.recovered
    assert turn.watch.due_ns == 0
    assert retargeted(turn.watch, WINDOW, at(4)).due_ns == 0
    assert said(turn.watch, "FAIL", "PASS", at(4), at(4), AGAIN).severity is None
    again = updated(turn.watch, at(5), at(5), AGAIN)
    assert (again.recovered, again.watch.due_ns) == (False, at(7))
