"""Records of many partitions in one sequence."""

from __future__ import annotations

from streams.contract_kit.causal_order import in_causal_order
from streams.contract_kit.records import Emitted
from streams.contract_kit.wire_log import WireRecord
from streams.outbox.headers import Headers


def record(name: str, offset: int, *, cause: str = "", at: int = 0, partition: int = 0) -> WireRecord:
    headers: Headers = [("ce_id", name.encode()), ("ce_causationid", cause.encode())]
    return WireRecord(Emitted("a topic", b"key", b"{}", headers), partition, offset, at)


def names(*records: WireRecord) -> list[str]:
    return [one.record.id for one in in_causal_order(records)]


def test_a_cause_comes_before_its_effect_whatever_the_clocks_say() -> None:
    """Another machine's clock may be behind."""
    assert names(record("effect", 0, cause="cause", at=1), record("cause", 0, at=2, partition=1)) == ["cause", "effect"]


def test_a_partition_keeps_its_order() -> None:
    """Timestamps are the senders'."""
    assert names(record("second", 1, at=1), record("first", 0, at=2)) == ["first", "second"]


def test_time_decides_about_what_has_no_other_order() -> None:
    """As far as anybody can know."""
    assert names(record("late", 0, at=2), record("early", 0, at=1, partition=1)) == ["early", "late"]


def test_a_circle_of_causes_is_not_waited_for() -> None:
    """Only a broken service emits one; the envelope's check will say so."""
    one, other = record("one", 0, cause="other"), record("other", 0, cause="one", at=1, partition=1)
    assert names(one, other) == ["one", "other"]
