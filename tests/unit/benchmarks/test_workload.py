"""The benchmark's work is the same each time, and failing records stand evenly among the good ones."""

from __future__ import annotations

from benchmarks.workload import FAILING_TITLE, make_workload


def test_the_same_number_of_tasks_is_the_same_work() -> None:
    assert make_workload(20) == make_workload(20)


def test_failing_records_are_added_and_change_nothing_of_the_good_ones() -> None:
    clean, mixed = make_workload(50), make_workload(50, failing=10)
    failing = [record for record in mixed.commands if FAILING_TITLE.encode() in record.value]
    assert len(failing) == 10
    assert [record for record in mixed.commands if record not in failing] == clean.commands
    assert mixed.balances == clean.balances


def test_failing_records_have_keys_of_their_own() -> None:
    mixed = make_workload(50, failing=10)
    failing = {record.key for record in mixed.commands if FAILING_TITLE.encode() in record.value}
    good = {record.key for record in mixed.commands if FAILING_TITLE.encode() not in record.value}
    assert len(failing) == 10
    assert not failing & good


def test_failing_records_are_evenly_spread() -> None:
    mixed = make_workload(50, failing=10)
    places = [place for place, record in enumerate(mixed.commands) if FAILING_TITLE.encode() in record.value]
    assert places == list(range(10, 110, 11))
