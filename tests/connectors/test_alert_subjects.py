"""What fails is found again by its subject, also after calls that were undone and after a restart."""

from connectors.alert_subjects import Subjects, asset_subject
from pipeline.signals import Alert
from pipeline.testing.context import MemoryState

ORDERS = asset_subject("orders")


def failing(partition: str | None) -> Alert:
    return Alert("asset_failure", "failing", "ERROR", f"v1:{partition}", 1, 1, 1, asset="orders", partition=partition)


def healed(subjects: Subjects) -> list[str | None]:
    return [problem.partition for problem in subjects.heal(ORDERS, None, 1)]


def opened(state: MemoryState) -> Subjects:
    return Subjects(state, limit=100, whole_assets=False)


def begin(state: MemoryState) -> None:
    for table in state.tables.values():
        table.begin()


def undo(state: MemoryState) -> None:
    for table in state.tables.values():
        table.undo()


def test_a_success_without_partition_heals_all_partitions_and_no_other_subject() -> None:
    subjects = opened(MemoryState())
    for partition in ("2", "1", "3"):
        subjects.fail(failing(partition))
    subjects.heal(ORDERS, "3", 1)
    assert healed(subjects) == ["1", "2"]
    assert ORDERS not in subjects


def test_a_failure_whose_call_was_undone_is_not_healed() -> None:
    subjects = opened(state := MemoryState())
    subjects.fail(failing("1"))
    begin(state)
    subjects.fail(failing("2"))
    undo(state)
    assert healed(subjects) == ["1"]


def test_a_success_whose_call_was_undone_comes_again() -> None:
    subjects = opened(state := MemoryState())
    for partition in ("1", "2"):
        subjects.fail(failing(partition))
    begin(state)
    subjects.heal(ORDERS, "1", 1)
    undo(state)
    assert healed(subjects) == ["1", "2"]


def test_failures_are_found_after_a_restart() -> None:
    subjects = opened(state := MemoryState())
    for partition in ("1", "2"):
        subjects.fail(failing(partition))
    state.checkpoint()
    assert healed(opened(state.restart())) == ["1", "2"]
