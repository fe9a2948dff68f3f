"""Waiting until the instances of the app have divided a Kafka's partitions among themselves, as Kafka itself tells.

A group counts partitions, whatever their topics: each instance has as many as the other, and one of them may still have
all those of a busy topic. So the division is handed back, to be told beside the figures.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient

from benchmarks.process import WrongResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Division", "is_balanced", "shares_of", "until_balanced"]

BALANCE_SECONDS = 30.0
ANSWER_SECONDS = 5.0
LOOK_SECONDS = 0.2
Division = list[Counter[str]]
"""For each member of a group, how many partitions of which topic it has."""


def until_balanced(address: str, groups: Mapping[str, int], instances: int) -> dict[str, Division]:
    """Wait until each instance has its share of the partitions of each group, whose topics have so many in all.

    Raises:
        WrongResult: they do not agree in time.
    """
    client = AdminClient({"bootstrap.servers": address})
    deadline = time.monotonic() + BALANCE_SECONDS
    divisions = _divisions(client, groups)
    while not all(is_balanced(divisions[name], partitions, instances) for name, partitions in groups.items()):
        if time.monotonic() > deadline:
            raise WrongResult(f"the instances did not divide the partitions: {divisions}")
        time.sleep(LOOK_SECONDS)
        divisions = _divisions(client, groups)
    return divisions


def is_balanced(division: Division, partitions: int, instances: int) -> bool:
    """Whether every partition is somebody's, and nobody has two more than another one."""
    shares = [member.total() for member in division]
    return len(shares) == instances and sum(shares) == partitions and max(shares) - min(shares) <= 1


def shares_of(topic: str, divisions: Sequence[Division]) -> str:
    """How a topic is divided by the group that reads it, `3 + 1`; the largest share first."""
    for division in divisions:
        shares = sorted((member[topic] for member in division), reverse=True)
        if any(shares):
            return " + ".join(str(share) for share in shares)
    return "nobody's"


def _divisions(client: AdminClient, groups: Mapping[str, int]) -> dict[str, Division]:
    """Of each group, empty while it is not stable."""
    found: dict[str, Division] = {name: [] for name in groups}
    for name, future in client.describe_consumer_groups(list(groups), request_timeout=ANSWER_SECONDS).items():
        try:
            group = future.result(ANSWER_SECONDS)
        except KafkaException:  # asked again
            continue
        if group.state is ConsumerGroupState.STABLE:
            found[name] = [
                Counter(partition.topic for partition in member.assignment.topic_partitions) for member in group.members
            ]
    return found
