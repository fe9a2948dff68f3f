"""Publishing with at most one unacknowledged record per key."""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaError
from hypothesis import given
from hypothesis import strategies as st

from streams.outbox.headers import pack
from streams.outbox.producer import KeyedPublisher
from streams.outbox.store import UnsentRow


class FakeProducer:
    """Acknowledges or refuses on poll, as told; remembers the largest number in flight per key."""

    def __init__(self, refuse: set[int] = frozenset(), silent: bool = False) -> None:  # type: ignore[assignment]
        self.refuse = set(refuse)
        self.silent = silent
        self.pending: list[tuple[int, tuple[str, bytes | None], Any]] = []
        self.log: list[int] = []
        self.most_per_key = 0
        self.full = False

    def produce(self, topic: str, **options: Any) -> None:
        if self.full:
            raise BufferError
        self.pending.append((int(options["value"]), (topic, options["key"]), options["on_delivery"]))
        keys = [key for _, key, _ in self.pending if key[1] is not None]
        self.most_per_key = max([self.most_per_key, *(keys.count(key) for key in keys)])

    def purge(self, in_queue: bool = True, in_flight: bool = True, blocking: bool = True) -> None:
        """librdkafka's answer comes with the next poll."""
        purged, self.pending = self.pending, []
        for _number, _key, on_delivery in purged:
            on_delivery(KafkaError(KafkaError._PURGE_INFLIGHT), None)

    def poll(self, timeout: float) -> int:
        if self.silent:
            return 0
        answered, self.pending = self.pending, []
        for number, _key, on_delivery in answered:
            if number in self.refuse:
                on_delivery("refused", None)
            else:
                self.log.append(number)
                on_delivery(None, None)
        return len(answered)


def row(number: int, key: bytes | None = b"k", topic: str = "t") -> UnsentRow:
    return UnsentRow(number, topic, key, str(number).encode(), pack([]))


@given(st.lists(st.sampled_from([b"a", b"b", b"c", None]), max_size=40), st.sets(st.integers(0, 39), max_size=3))
def test_each_key_goes_out_in_order_one_at_a_time(keys: list[bytes | None], refused: set[int]) -> None:
    """Whatever is refused on the way: never two in flight of a key, and first occurrences in order."""
    producer = FakeProducer(refuse=refused)
    publisher = KeyedPublisher(producer)
    unsent = {number: row(number, key) for number, key in enumerate(keys)}
    for _ in range(len(keys) + 1):
        step = publisher.step(sorted(unsent.values(), key=lambda one: one.id), 1.0)
        for number in step.acknowledged:
            del unsent[number]
        producer.refuse.clear()
    assert not unsent
    assert producer.most_per_key <= 1
    for key in {key for key in keys if key is not None}:
        order = [number for number in producer.log if keys[number] == key]
        assert order == sorted(order)


def test_nothing_is_acknowledged_without_the_broker() -> None:
    """As long as no delivery report comes, a step reports nothing."""
    publisher = KeyedPublisher(FakeProducer(silent=True))
    step = publisher.step([row(1), row(2, b"other")], 0.01)
    assert (step.acknowledged, step.refused, publisher.in_flight) == ([], [], 2)


def test_rows_in_flight_are_not_published_again() -> None:
    """The relay reads unsent rows again and again; those that librdkafka has are passed over."""
    producer = FakeProducer(silent=True)
    publisher = KeyedPublisher(producer)
    publisher.step([row(1)], 0.0)
    publisher.step([row(1), row(2)], 0.0)
    assert len(producer.pending) == 1


def test_a_refused_row_gives_back_those_behind_it() -> None:
    """The followers of a refused row are not published past it."""
    producer = FakeProducer(refuse={1})
    publisher = KeyedPublisher(producer)
    step = publisher.step([row(1), row(2), row(3, b"other")], 0.1)
    assert [refusal.row.id for refusal in step.refused] == [1]
    assert producer.log == [3]
    assert publisher.loaded == 0


def test_a_full_local_queue_is_waited_for() -> None:
    """librdkafka's own queue being full is no refusal."""
    producer = FakeProducer()
    producer.full = True
    publisher = KeyedPublisher(producer)
    assert publisher.step([row(1)], 0.0).refused == []
    producer.full = False
    assert publisher.step([], 0.1).acknowledged == [1]
