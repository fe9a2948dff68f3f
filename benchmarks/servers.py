"""The comparison of throughput on a real Kafka and a real PostgreSQL, the app also with two instances.

The work, its check and the ways to do it are those of the embedded comparison. Kafka and PostgreSQL are started once;
each measurement has topics, groups, a database and processes of its own. Some work that is not counted goes first: a
Java machine is slow until it has compiled what it runs. Where one of the two cannot be run the part is left out.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks.balance import shares_of, until_balanced
from benchmarks.findings import Findings, Row
from benchmarks.measurement import Measurement, Place, Variant, measure
from benchmarks.real_servers import PARTITIONS, real_servers
from benchmarks.throughput import ratios
from benchmarks.workload import make_workload
from streams.app import SUBSCRIPTIONS
from tests.services.required import ServiceMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.findings import Sizes
    from benchmarks.real_servers import RealServers
    from benchmarks.workload import Workload

__all__ = ["VARIANTS", "measure_on", "measure_servers", "rows_of"]

PART = "servers"
WHERE = "Kafka, PostgreSQL"
WARM_UP_TASKS = 500
VARIANTS = (
    Variant("a", "benchmarks.app_variant", "Payday, one instance", 1.0),
    Variant("a2", "benchmarks.app_variant", "Payday, two instances", 1.0, instances=2),
    Variant("b", "benchmarks.by_hand_variant", "FastStream by hand, a transaction per message", 0.05),
    Variant("c", "benchmarks.bare_variant", "bare confluent-kafka and asyncpg in one loop", 1.0),
)
RATIOS = (("a", "b", "(a) / (b)"), ("a", "c", "(a) / (c)"), ("a2", "a", "(a2) / (a), two instances to one"))
BUSY_GROUPS = ("tasks", "accounting")
BUSY_TOPICS = ("tasks.commands", "tasks.events")


def measure_servers(sizes: Sizes, say: Callable[[str], None]) -> Findings:
    """Every variant in turn, `sizes.runs` times; nothing but a remark where there is no Kafka or no PostgreSQL."""
    try:
        with real_servers() as servers:
            divisions: list[str] = []
            found = measure_on(servers, sizes, say, divisions)
            return Findings(rows_of(found), remarks=[_remark(servers), _division_remark(divisions)])
    except ServiceMissing as missing:
        say(f"left out: {missing}")
        return Findings([], remarks=[f"{WHERE}: left out, {missing}."])


def rows_of(found: Mapping[str, Sequence[Measurement]]) -> list[Row]:
    """The part's lines of the table.

    Args:
        found: one measurement per run, by the variant's name.
    """
    rates = {name: tuple(each.records_per_second for each in mine) for name, mine in found.items()}
    rows = [
        Row(PART, f"{PART}_{one.name}", f"{WHERE}: ({one.name}) {one.title}", "records/s", rates[one.name])
        for one in VARIANTS
    ]
    for mine, other, title in RATIOS:
        row = Row(PART, f"{PART}_{mine}_to_{other}", f"{WHERE}: {title}", "ratio", ratios(rates[mine], rates[other]))
        rows.append(row)
    return rows


def measure_on(
    servers: RealServers, sizes: Sizes, say: Callable[[str], None], divisions: list[str]
) -> dict[str, list[Measurement]]:
    """Every variant in turn; one measurement per run, by the variant's name.

    What several instances say about how they divide the busy topics is added to `divisions`.

    Raises:
        WrongResult: one of them did not do the work.
    """
    workloads = {one.name: make_workload(max(1, round(sizes.commands * one.share / 2))) for one in VARIANTS}
    _measure(servers, VARIANTS[-1], make_workload(WARM_UP_TASKS), divisions)
    found: dict[str, list[Measurement]] = {one.name: [] for one in VARIANTS}
    for run in range(sizes.runs):
        for one in VARIANTS:
            measurement = _measure(servers, one, workloads[one.name], divisions)
            say(f"run {run + 1}, ({one.name}): {measurement.commands:,} commands in {measurement.seconds:.2f} s")
            found[one.name].append(measurement)
    return found


def _measure(servers: RealServers, variant: Variant, workload: Workload, divisions: list[str]) -> Measurement:
    with servers.place() as place:
        before = partial(_divide, place, variant.instances, divisions) if variant.instances > 1 else None
        return measure(variant, workload, place, before=before)


def _divide(place: Place, instances: int, divisions: list[str]) -> None:
    """Wait until the instances share the partitions: the one that came first had them all."""
    groups = {f"{place.prefix}payday.{group}": PARTITIONS * len(SUBSCRIPTIONS[group]) for group in BUSY_GROUPS}
    found = list(until_balanced(place.bootstrap_servers, groups, instances).values())
    divisions.append(", ".join(f"{topic} {shares_of(place.prefix + topic, found)}" for topic in BUSY_TOPICS))


def _remark(servers: RealServers) -> str:
    return (
        f"{WHERE}: {servers.described}, all on this machine beside what is measured; fresh topics and a fresh database "
        "for each measurement."
    )


def _division_remark(divisions: Sequence[str]) -> str:
    """Instances have the same number of partitions, but not of each topic: that decides what two of them gain."""
    return f"{WHERE}: partitions of the busy topics on the two instances of (a2), run by run: {'; '.join(divisions)}."
