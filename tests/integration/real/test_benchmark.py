"""The benchmark on a real Kafka and a real PostgreSQL, small: every variant does the work, and it is checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.findings import Sizes
from benchmarks.real_servers import RealServers
from benchmarks.servers import VARIANTS, measure_on, rows_of

if TYPE_CHECKING:
    from tests.services.kafka import Kafka
    from tests.services.postgres import Postgres


def test_every_variant_does_the_work_on_real_servers(kafka: Kafka, postgres: Postgres) -> None:
    """One instance and two, by hand and in a bare loop; a wrong balance, transfer or event would raise."""
    said: list[str] = []
    divisions: list[str] = []
    sizes = Sizes(runs=1, commands=200)
    found = measure_on(RealServers(kafka, postgres, "of the tests"), sizes, said.append, divisions)
    assert {name: [one.records for one in each] for name, each in found.items()} == {
        "a": [500],
        "a2": [500],
        "b": [25],
        "c": [500],
    }
    assert len(said) == len(VARIANTS)
    assert len(divisions) == 1, "of the one measurement with two instances"
    assert "nobody" not in divisions[0]
    assert all(value > 0 for row in rows_of(found) for value in row.values)
