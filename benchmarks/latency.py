"""How long a command takes to become an event, at a modest rate.

From the call that produces a create-task to the poll that reads its task-assigned: command to the broker, intake,
transaction, relay, event to the broker, reader. The floor is one hop of the same records over the same broker: produced
and read, with nothing in between. The first second of each is not counted.
"""

from __future__ import annotations

import tempfile
import threading
import time
from statistics import quantiles
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.findings import Findings, Row
from benchmarks.process import START_SECONDS, Child, WrongResult
from benchmarks.workload import FETCH_WAIT_MAX_MS, FLOOR_TOPIC, make_workload, send
from contracts.catalog import entry_for
from contracts.tasks import CreateTask, TaskAssigned
from streams.outbox.producer import producer_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.findings import Sizes
    from benchmarks.workload import OutgoingRecord

__all__ = ["measure_latency"]

PART = "latency"
WARM_UP_SECONDS = 1.0
ANSWER_SECONDS = 30.0
PERCENTILES = {"median": 50, "p95": 95, "p99": 99}
Percentiles = dict[str, float]


class Reader:
    """Reads a topic from its present end, as a member of no group.

    Args:
        address: of the broker.
        topic: all its partitions are read.
        type_name: records of other types are passed over.
    """

    def __init__(self, address: str, topic: str, type_name: str) -> None:
        self._type = type_name.encode()
        self._consumer = Consumer(
            {
                "bootstrap.servers": address,
                "group.id": "benchmark-reader",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": FETCH_WAIT_MAX_MS,
            }
        )
        partitions = self._consumer.list_topics(topic, START_SECONDS).topics[topic].partitions
        ends = [TopicPartition(topic, number) for number in partitions]
        for end in ends:
            end.offset = self._consumer.get_watermark_offsets(end, START_SECONDS)[1]
        self._consumer.assign(ends)

    def collect(self, count: int, deadline: float) -> dict[bytes, float]:
        """Record key -> when it was read, of so many records or what there is by then, by the monotonic clock."""
        found: dict[bytes, float] = {}
        while len(found) < count and time.monotonic() < deadline:
            message = self._consumer.poll(0.1)
            at = time.monotonic()
            if message is None or message.error():
                continue
            if dict(message.headers() or ())["ce_type"] == self._type:
                found.setdefault(message.key() or b"", at)
        self._consumer.close()
        return found


def measure_latency(sizes: Sizes, say: Callable[[str], None]) -> Findings:
    """Floor and app in turn on one broker, `sizes.runs` times."""
    found: dict[str, list[Percentiles]] = {"floor": [], "a": []}
    workload = make_workload(round((WARM_UP_SECONDS + sizes.latency_seconds) * sizes.latency_rate))
    creations = workload.commands[: workload.tasks]
    for run in range(sizes.runs):
        with tempfile.TemporaryDirectory(prefix="payday-bench-") as home, Child("benchmarks.broker") as broker:
            address = broker.line(START_SECONDS)
            found["floor"].append(_latencies(address, creations, FLOOR_TOPIC, sizes.latency_rate))
            send(address, workload.workers)
            with Child("benchmarks.app_service", home, address, "0") as app:
                app.expect("ready")
                found["a"].append(_latencies(address, creations, None, sizes.latency_rate))
        for name, each in found.items():
            say(f"run {run + 1}, {name}: " + ", ".join(f"{word} {value:.1f} ms" for word, value in each[-1].items()))
    titles = {"a": f"(a), command to event at {sizes.latency_rate}/s", "floor": "floor: one hop over the same broker"}
    return Findings(
        [
            Row(PART, f"{name}_{word}", f"{title}: {word}", "ms", tuple(each[word] for each in found[name]))
            for name, title in titles.items()
            for word in PERCENTILES
        ]
    )


def _latencies(address: str, creations: Sequence[OutgoingRecord], floor: str | None, rate: int) -> Percentiles:
    """Send the commands at a steady rate, to the app or over the floor, and time each one's answer.

    Raises:
        WrongResult: answers are missing.
    """
    answer = CreateTask if floor else TaskAssigned
    reader = Reader(address, floor or entry_for(TaskAssigned.type_name).topic, answer.type_name)
    produced: dict[bytes, float] = {}
    sender = threading.Thread(target=_send_steadily, args=(address, creations, floor, rate, produced))
    sender.start()
    read = reader.collect(len(creations), time.monotonic() + len(creations) / rate + ANSWER_SECONDS)
    sender.join()
    if missing := produced.keys() - read.keys():
        raise WrongResult(f"{len(missing)} of {len(creations)} commands had no answer")
    counted = list(produced)[round(WARM_UP_SECONDS * rate) :]
    cuts = quantiles([1000 * (read[key] - produced[key]) for key in counted], n=100, method="inclusive")
    return {word: cuts[percentile - 1] for word, percentile in PERCENTILES.items()}


def _send_steadily(
    address: str, creations: Sequence[OutgoingRecord], topic: str | None, rate: int, produced: dict[bytes, float]
) -> None:
    producer = Producer(producer_settings(address))
    producer.list_topics(timeout=START_SECONDS)  # connected before the first record is timed
    begin = time.monotonic()
    for number, record in enumerate(creations):
        while (left := begin + number / rate - time.monotonic()) > 0:
            time.sleep(left)
        produced[record.key] = time.monotonic()
        producer.produce(topic or record.topic, key=record.key, value=record.value, headers=record.headers)
        producer.poll(0)
    producer.flush(ANSWER_SECONDS)
