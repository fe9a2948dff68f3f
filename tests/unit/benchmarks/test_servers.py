"""The part of the benchmark on real servers: its lines, and what it says where there are none."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.balance import is_balanced, shares_of
from benchmarks.findings import QUICK
from benchmarks.measurement import Measurement, Settled
from benchmarks.servers import VARIANTS, measure_servers, rows_of
from benchmarks.workload import make_workload
from tests.services.required import ServiceMissing
from tests.services.services import Services


def rate(records_per_second: float) -> Measurement:
    return Measurement(400, 1_000, 1_000 / records_per_second, 1.0)


def test_without_a_server_the_part_is_left_out_and_one_line_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_services: Services) -> None:
        raise ServiceMissing("no Kafka: no Java; install one")

    monkeypatch.setattr(Services, "own_kafka", missing)
    said: list[str] = []
    findings = measure_servers(QUICK, said.append)
    assert said == ["left out: no Kafka: no Java; install one"]
    assert findings.rows == []
    assert findings.remarks == ["Kafka, PostgreSQL: left out, no Kafka: no Java; install one."]


def test_each_variant_has_a_line_and_a_ratio_is_taken_within_its_run() -> None:
    rates = {"a": (4_000.0, 2_000.0), "a2": (6_000.0, 2_000.0), "b": (200.0, 50.0), "c": (8_000.0, 8_000.0)}
    rows = {row.name: row for row in rows_of({name: [rate(one) for one in each] for name, each in rates.items()})}
    assert [f"servers_{one.name}" for one in VARIANTS] == list(rows)[:4]
    assert rows["servers_a2"].values == pytest.approx((6_000.0, 2_000.0))
    assert rows["servers_a_to_b"].values == pytest.approx((20.0, 40.0))
    assert rows["servers_a_to_c"].values == pytest.approx((0.5, 0.25))
    assert rows["servers_a2_to_a"].values == pytest.approx((1.5, 1.0))


def test_several_instances_are_timed_from_the_first_command_of_any_to_the_end_of_the_last() -> None:
    workload = make_workload(10)
    measured = Measurement.of(workload, [Settled(103.0, 109.0, 2.0), Settled(101.0, 106.0, 3.0)])
    assert (measured.seconds, measured.cpu_seconds, measured.commands, measured.records) == (8.0, 5.0, 20, 50)


def test_an_instance_that_got_no_command_has_no_beginning() -> None:
    measured = Measurement.of(make_workload(10), [Settled(None, 109.0, 2.0), Settled(101.0, 106.0, 3.0)])
    assert measured.seconds == 8.0


@pytest.mark.parametrize(
    ("shares", "balanced"),
    [
        ([6, 6], True),
        ([5, 7], False),
        ([12], False),
        ([12, 0], False),
        ([6, 5], False),  # one is being handed over
        ([], False),
    ],
)
def test_two_instances_are_balanced_when_each_has_half_of_all_partitions(shares: list[int], *, balanced: bool) -> None:
    assert is_balanced([Counter(topic=share) for share in shares], 12, 2) is balanced


def test_an_odd_partition_may_be_either_instance_s() -> None:
    assert is_balanced([Counter(topic=6), Counter(topic=7)], 13, 2)


def test_as_many_partitions_may_still_be_all_those_of_a_busy_topic_and_that_is_told() -> None:
    division = [Counter(busy=4), Counter(idle=4)]
    assert is_balanced(division, 8, 2)
    assert shares_of("busy", [[Counter(other=1)], division]) == "4 + 0"
    assert shares_of("busy", [[Counter(busy=1, idle=3), Counter(busy=3, idle=1)]]) == "3 + 1"
    assert shares_of("busy", [[]]) == "nobody's"
