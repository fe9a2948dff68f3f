"""What is said about topics that are not as they should be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streams.inspection.topics import TopicPlan, TopicState, findings

SOUND = TopicState(
    partitions=4,
    replication=3,
    min_insync_replicas=2,
    retention_ms=7 * 86_400_000,
    cleanup_policy="delete",
    max_message_bytes=1_048_588,
)


def test_a_topic_as_planned_is_not_mentioned() -> None:
    """Nothing to do, nothing to say."""
    assert findings({"t": SOUND}, TopicPlan()) == ([], [])


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (None, "t does not exist"),
        (replace(SOUND, cleanup_policy="compact,delete"), "set cleanup.policy=delete"),
        (replace(SOUND, max_message_bytes=1000), "set max.message.bytes to 1000000"),
        (replace(SOUND, min_insync_replicas=1), "min.insync.replicas=1"),
        (replace(SOUND, replication=1), "nothing can be written to it"),
    ],
)
def test_what_would_refuse_or_lose_records_is_a_problem(state: TopicState | None, text: str) -> None:
    """Each names the topic and what to set."""
    (problem,), _ = findings({"t": state}, TopicPlan())
    assert text in problem


@pytest.mark.parametrize(
    ("state", "note"),
    [
        (replace(SOUND, partitions=6), "6 partitions, not 4: all topics"),
        (replace(SOUND, retention_ms=86_400_000), "records are kept 1 days, not 7 days: all topics"),
        (replace(SOUND, retention_ms=-1), "records are kept for ever, not 7 days: all topics"),
        (replace(SOUND, replication=1, min_insync_replicas=1), "on one broker only: all topics"),
    ],
)
def test_what_differs_from_the_plan_is_a_note(state: TopicState, note: str) -> None:
    """It works; somebody may have meant it."""
    assert findings({"t": state}, TopicPlan()) == ([], [note])


def test_a_note_that_concerns_some_topics_names_them() -> None:
    """And is said once."""
    odd = replace(SOUND, partitions=6)
    assert findings({"a": odd, "b": SOUND, "c": odd}, TopicPlan()) == ([], ["6 partitions, not 4: a, c"])


@pytest.mark.parametrize(("brokers", "replication", "min_insync"), [(1, 1, 1), (2, 2, 1), (3, 3, 2), (9, 3, 2)])
def test_the_plan_fits_the_cluster(brokers: int, replication: int, min_insync: int) -> None:
    """Three replicas, two of them in sync, where there are as many brokers."""
    plan = TopicPlan().on(brokers)
    assert (plan.replication, plan.min_insync_replicas) == (replication, min_insync)
