"""What a test of several instances asks of them."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.request import urlopen

from tests.integration.day import assert_conserved, assert_events_in_order, assert_posted_once, audit, whole_day
from tests.integration.processes import wait_until

if TYPE_CHECKING:
    from tests.integration.processes import Home, RunningProcess
    from tests.services.kafka import Kafka, Offsets

HANDLED = re.compile(r'^payday_intake_records_total\{.*outcome="handled".*\} ([0-9.e+]+)$', re.MULTILINE)
ANSWER_SECONDS = 5.0
COMMITTED_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Deployment:
    """Homes that share a Kafka and a database."""

    kafka: Kafka
    first: Home
    second: Home


def send_in_background(home: Home) -> RunningProcess:
    """The whole day, part after part, each when the one before has had its effects."""
    return home.start("send", "--file", "-", "--timeout", "200", "--deliver-within", "200", given=whole_day())


def handled(home: Home) -> int:
    """How many records the app of this home has handled since it started."""
    port = home.environment["PAYDAY_HTTP_PORT"]
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=ANSWER_SECONDS) as answer:
        return sum(int(float(count)) for count in HANDLED.findall(answer.read().decode()))


def consumed(home: Home) -> int:
    """How many records all groups have taken, whoever took them."""
    return int(home.query("SELECT coalesce(sum(consumed), 0) FROM progress")[0][0])


def unsent(home: Home) -> int:
    """How many events are committed and not yet marked as sent."""
    return int(home.query("SELECT count(*) FROM outbox WHERE sent_at_ms IS NULL")[0][0])


def assert_day_is_exact(home: Home, kafka: Kafka) -> int:
    """Totals, conservation, order and offsets of a whole day; how many events stand on their topics more than once."""
    home.run("wait", "--settled")
    audit(home)
    assert_conserved(home)
    assert_posted_once(home)
    repeats = assert_events_in_order(home)
    assert_at_the_end(home, kafka)
    return repeats


def assert_at_the_end(home: Home, kafka: Kafka) -> None:
    """Each group's progress is at the log's ends, and its committed offsets come to be."""
    progress: dict[str, Offsets] = defaultdict(dict)
    for group, *place, offset in home.query("SELECT group_name, topic, partition, next_offset FROM progress"):
        progress[group][place[0], place[1]] = offset
    ends = {
        group: {
            place: end
            for topic in {topic for topic, _ in places}
            for place, (_, end) in kafka.watermarks(topic).items()
            if end > 0
        }
        for group, places in progress.items()
    }
    assert progress == ends

    def committed() -> dict[str, Offsets]:
        return {group: kafka.committed(group) for group in ends}

    wait_until(
        lambda: committed() == ends, COMMITTED_SECONDS, lambda: f"committed {committed()}, the logs end at {ends}"
    )
