"""Topics in memory behave as Kafka's do where intake relies on it."""

from __future__ import annotations

from confluent_kafka import OFFSET_INVALID, TopicPartition

from streams.contract_kit.memory_log import PARTITIONS, MemoryConsumer, MemoryLog


def consumer_of(log: MemoryLog) -> MemoryConsumer:
    consumer = MemoryConsumer(log)
    consumer.incremental_assign([TopicPartition("t", number) for number in range(PARTITIONS)])
    return consumer


def test_a_key_has_one_partition_and_growing_offsets() -> None:
    log = MemoryLog()
    for number in range(3):
        log.append("t", b"key", str(number).encode(), [])
    batch = consumer_of(log).poll(10)
    assert len({record.partition() for record in batch}) == 1
    assert [(record.offset(), record.value()) for record in batch] == [(0, b"0"), (1, b"1"), (2, b"2")]


def test_records_without_a_key_take_turns() -> None:
    log = MemoryLog()
    for _ in range(PARTITIONS):
        log.append("t", None, b"", [])
    assert {record.partition() for record in consumer_of(log).poll(10)} == set(range(PARTITIONS))


def test_a_batch_is_bounded_and_the_rest_comes_next() -> None:
    log = MemoryLog()
    for number in range(5):
        log.append("t", str(number).encode(), str(number).encode(), [])
    consumer = consumer_of(log)
    assert [record.value() for record in consumer.poll(3)] == [b"0", b"1", b"2"]
    assert [record.value() for record in consumer.poll(3)] == [b"3", b"4"]
    assert consumer.poll(3) == ()


def test_after_a_seek_records_come_again() -> None:
    log = MemoryLog()
    log.append("t", b"key", b"0", [])
    consumer = consumer_of(log)
    (record,) = consumer.poll(10)
    consumer.seek(TopicPartition("t", record.partition(), 0))
    assert consumer.poll(10) == (record,)


def test_a_paused_partition_delivers_nothing_until_it_is_resumed() -> None:
    log = MemoryLog()
    log.append("t", b"key", b"0", [])
    consumer = consumer_of(log)
    consumer.pause(consumer.assignment())
    assert consumer.poll(10) == ()
    consumer.resume(consumer.assignment())
    assert len(consumer.poll(10)) == 1


def test_what_is_not_stored_is_unfinished() -> None:
    """Reading alone finishes nothing."""
    log = MemoryLog()
    for number in range(2):
        log.append("t", b"key", str(number).encode(), [])
    consumer = consumer_of(log)
    first, _second = consumer.poll(10)
    place = (first.topic(), first.partition())
    assert consumer.unfinished() == {place: 2}
    assert [one.offset for one in consumer.committed([TopicPartition(*place)], 1.0)] == [OFFSET_INVALID]
    consumer.store_offsets(offsets=[TopicPartition(*place, 1)])
    assert consumer.unfinished() == {place: 1}
    assert [one.offset for one in consumer.committed([TopicPartition(*place)], 1.0)] == [1]
