"""What a test of several instances asks of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.request import urlopen

from tests.integration.day import assert_conserved, assert_events_in_order, assert_posted_once, audit
from tests.integration.processes import wait_until

if TYPE_CHECKING:
    from tests.integration.processes import Home
    from tests.services.kafka import Kafka

HANDLED = re.compile(r'^payday_intake_records_total\{.*outcome="handled".*\} ([0-9.e+]+)$', re.MULTILINE)
ANSWER_SECONDS = 5.0
COMMITTED_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Deployment:
    """Homes that share a Kafka and a database."""

    kafka: Kafka
    first: Home
    second: Home


def handled(home: Home) -> int:
    """How many records the app of this home has handled since it started."""
    port = home.environment["PAYDAY_HTTP_PORT"]
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=ANSWER_SECONDS) as answer:  # noqa: S310  our own
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
    for group in [name for (name,) in home.query("SELECT DISTINCT group_name FROM progress")]:
        progress = {
            (topic, partition): offset
            for name, topic, partition, offset in home.query(
                "SELECT group_name, topic, partition, next_offset FROM progress"
            )
            if name == group
        }
        topics = {topic for topic, _ in progress}
        ends = {
            place: end for topic in topics for place, (_, end) in kafka.watermarks(topic).items() if end > 0
        }
        assert progress == ends, group
        wait_until(
            lambda: kafka.committed(group) == ends,
            COMMITTED_SECONDS,
            lambda: f"{group} has committed {kafka.committed(group)}, the logs end at {ends}",
        )
