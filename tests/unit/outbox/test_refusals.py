"""What is refused is tried again at growing intervals and holds back its own key, or its topic, and nothing else."""

from __future__ import annotations

import time
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.outbox import window
from streams.outbox.envelope import OutgoingMessage
from streams.outbox.producer import KEY_MAX_ROWS
from streams.outbox.relay import Relay, RelayLimits
from streams.outbox.store import append
from streams.outbox.summary import Choice, retry_now
from streams.outbox.verdict import described
from streams.outbox.window import refused_wait_seconds
from streams.resilience.circuit_breaker import BreakerLimits, State
from tests.kit import rows
from tests.unit.outbox.test_relay import unsent, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from streams.storage.database import Database

TOO_LARGE = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
NO_TOPIC = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
TIMED_OUT = KafkaError(KafkaError._MSG_TIMED_OUT)
QUICK = RelayLimits(breaker=BreakerLimits(first_open_seconds=0.05, max_open_seconds=0.1))


class Answering:
    """Answers each record as `answer` says: None acknowledges, `silent` says nothing, an exception is raised."""

    silent = object()

    def __init__(self, answer: Callable[[str, bytes], Any] = lambda _topic, _value: None) -> None:
        self.answer = answer
        self.pending: list[tuple[str, bytes, Any]] = []
        self.log: list[str] = []
        self.asked: list[str] = []
        self.most_in_flight = 0

    def produce(self, topic: str, **options: Any) -> None:
        answer = self.answer(topic, options["value"])
        self.asked.append(options["value"].decode())
        if isinstance(answer, Exception):
            raise answer
        self.pending.append((topic, options["value"], options["on_delivery"]))
        self.most_in_flight = max(self.most_in_flight, len(self.pending))

    def poll(self, _timeout: float) -> int:
        answered, self.pending = self.pending, []
        for topic, value, on_delivery in answered:
            answer = self.answer(topic, value)
            if answer is self.silent:
                self.pending.append((topic, value, on_delivery))
                continue
            if answer is None:
                self.log.append(value.decode())
            on_delivery(answer, None)
        return len(answered)

    def purge(self, in_queue: bool = True, in_flight: bool = True, blocking: bool = True) -> None:
        purged, self.pending = self.pending, []
        for _topic, _value, on_delivery in purged:
            on_delivery(KafkaError(KafkaError._PURGE_INFLIGHT), None)


async def put(database: Database, *values: str, topic: str = "t") -> None:
    """The key of a value is what stands before its dot."""
    messages = [
        OutgoingMessage(topic, value.split(".")[0].encode(), 0, value.encode(), b"[]", f"{topic}/{value}", "x.v1")
        for value in values
    ]
    async with database.write() as connection:
        await append(connection, messages, time.time_ns() // 1_000_000)


@pytest.fixture
async def running(database: Database) -> AsyncIterator[Callable[..., Relay]]:
    """Starts relays that are stopped after the test."""
    relays: list[Relay] = []

    def start(producer: Any, limits: RelayLimits | None = None) -> Relay:
        relays.append(Relay(database, lambda: producer, limits=limits or QUICK))
        relays[-1].start()
        return relays[-1]

    yield start
    for relay in relays:
        await relay.stop(0.0)


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "REFUSED_FIRST_WAIT_SECONDS", 0.02)
    monkeypatch.setattr(window, "REFUSED_MAX_WAIT_SECONDS", 0.04)


def left(database: Database, count: int) -> Callable[[], Any]:
    async def so_many() -> bool:
        return await unsent(database) == count

    return so_many


def test_the_intervals_double_from_a_second_to_an_hour() -> None:
    """Each spread over its upper half."""
    source = Random(1)
    for attempts, bound in ((0, 1), (1, 2), (5, 32), (11, 2048), (12, 3600), (500, 3600)):
        waits = [refused_wait_seconds(attempts, source) for _ in range(50)]
        assert bound / 2 <= min(waits) < max(waits) <= bound


async def test_a_refused_row_holds_back_its_own_key_alone(database: Database, running: Any) -> None:
    """The others go out; attempts, error and next attempt are written down; nothing passes the refused row."""
    producer = Answering(lambda _topic, value: TOO_LARGE if value == b"a.1" else None)
    await put(database, "a.1", "b.1", "a.2", "c.1")
    running(producer)
    await until(left(database, 2))
    assert sorted(producer.log) == ["b.1", "c.1"]
    before = await rows(database, "SELECT attempts, error, next_attempt_at_ms - created_at_ms FROM outbox WHERE id = 1")
    assert before[0][:2] == (1, described(TOO_LARGE))
    assert 500 <= before[0][2] < 10_000
    assert await rows(database, "SELECT attempts FROM outbox WHERE id = 3") == [(0,)]


async def test_a_refused_row_goes_out_before_its_followers(database: Database, running: Any, short_waits: None) -> None:
    """Once the cause is gone, in order, also those that came meanwhile."""
    refusing = True
    producer = Answering(lambda _topic, value: TOO_LARGE if refusing and value == b"a.1" else None)
    await put(database, "a.1", "a.2", "b.1")
    relay = running(producer)
    await until(left(database, 2))
    await put(database, "a.3")
    relay.wake()
    refusing = False
    await until(left(database, 0))
    assert [value for value in producer.log if value.startswith("a")] == ["a.1", "a.2", "a.3"]


async def test_many_held_rows_do_not_fill_the_window(
    database: Database, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More refused keys, with followers, than a look brings: what comes behind them goes out all the same."""
    monkeypatch.setattr(window, "FIRST_ROWS", 20)
    monkeypatch.setattr(window, "WINDOW_MAX_ROWS", 20)
    monkeypatch.setattr(window, "TOPIC_MIN_ROWS", 20)
    producer = Answering(lambda _topic, value: TOO_LARGE if value.startswith(b"bad") else None)
    bad = [f"bad{number}.{turn}" for turn in range(2) for number in range(60)]
    await put(database, *bad, "good.1")
    running(producer)
    await until(left(database, len(bad)))
    assert producer.log == ["good.1"]


async def test_a_hot_key_does_not_starve_the_others(
    database: Database, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first row is not answered, and there are more behind it than memory and window take."""
    monkeypatch.setattr(window, "FIRST_ROWS", 100)
    monkeypatch.setattr(window, "WINDOW_MAX_ROWS", 100)
    producer = Answering(lambda _topic, value: Answering.silent if value.startswith(b"hot") else None)
    hot = [f"hot.{number}" for number in range(5 * KEY_MAX_ROWS)]
    await put(database, *hot, "cold.1")
    relay = running(producer)
    await until(left(database, len(hot)))
    assert producer.log == ["cold.1"]
    assert relay._publisher is not None
    assert relay._publisher.loaded <= KEY_MAX_ROWS + 1


async def test_a_hot_key_is_sent_in_order(database: Database, running: Any) -> None:
    """Although it is read in parts."""
    hot = [f"hot.{number}" for number in range(3 * KEY_MAX_ROWS)]
    producer = Answering()
    await put(database, *hot)
    running(producer)
    await until(left(database, 0))
    assert producer.log == hot


@pytest.mark.parametrize("raised", [False, True])
async def test_an_unknown_topic_is_held_as_a_whole(
    database: Database, running: Any, short_waits: None, raised: bool
) -> None:
    """One row at a time is tried, others of the topic spend nothing; other topics go on; it opens by itself."""
    refusing = True

    def answer(topic: str, _value: bytes) -> Any:
        if topic != "gone" or not refusing:
            return None
        return KafkaException(NO_TOPIC) if raised else NO_TOPIC

    producer = Answering(answer)
    await put(database, *(f"k{number}.1" for number in range(30)), topic="gone")
    await put(database, "a.1", "a.2")
    running(producer)
    await until(left(database, 30))

    async def tried_thrice() -> bool:
        return bool((await rows(database, "SELECT max(attempts) FROM outbox WHERE topic = 'gone'"))[0][0] >= 3)

    await until(tried_thrice)
    assert (await rows(database, "SELECT count(*) FROM outbox WHERE topic = 'gone' AND attempts > 0"))[0][0] == 1
    refusing = False
    await until(left(database, 0))


async def test_an_operator_can_have_it_tried_now(database: Database, running: Any) -> None:
    """`retry` only moves the next attempt."""
    refusing = True
    producer = Answering(lambda _topic, value: TOO_LARGE if refusing and value == b"a.1" else None)
    await put(database, "a.1", "a.2", "b.1")
    relay = running(producer)
    await until(left(database, 2))
    refusing = False
    async with database.write() as connection:
        await connection.exec_driver_sql("UPDATE outbox SET next_attempt_at_ms = 9000000000000 WHERE id = 1")
        assert await retry_now(connection, Choice(topic="other"), dry_run=False) == 0
        assert await retry_now(connection, Choice(key=b"a"), dry_run=True) == 1
        assert await retry_now(connection, Choice(key=b"a"), dry_run=False) == 1
    relay.wake()
    await until(left(database, 0))
    assert producer.log == ["b.1", "a.1", "a.2"]


# --- the breaker


async def test_missing_acknowledgements_open_the_breaker_and_spend_nothing(database: Database, running: Any) -> None:
    """While it is open one row at a time is tried; no attempt is counted, no next attempt set."""
    answer: Any = TIMED_OUT
    producer = Answering(lambda _topic, _value: answer)
    await put(database, *(f"k{number}.1" for number in range(40)))
    relay = running(producer)

    async def opened() -> bool:
        return relay.breaker.state is State.OPEN

    await until(opened)
    asked = len(producer.asked)
    producer.most_in_flight = 0

    async def probed() -> bool:
        return len(producer.asked) >= asked + 3

    await until(probed)
    assert producer.most_in_flight == 1
    found = "SELECT count(*) FROM outbox WHERE attempts > 0 OR next_attempt_at_ms IS NOT NULL OR sent_at_ms IS NOT NULL"
    assert await rows(database, found) == [(0,)]
    answer = None
    await until(left(database, 0))
    assert relay.breaker.state is State.CLOSED


async def test_others_see_that_it_is_open(database: Database, running: Any) -> None:
    """At once, not with the next renewal, and what it met."""
    await put(database, *(f"k{number}.1" for number in range(40)))
    running(Answering(lambda _topic, _value: TIMED_OUT))

    async def seen() -> bool:
        found = await rows(database, "SELECT breaker, breaker_error FROM relay_instance")
        return bool(found) and found[0][0] != "closed" and found[0][1] == described(TIMED_OUT)

    await until(seen, 2.0)


async def test_a_refused_probe_shows_that_the_broker_is_back(database: Database, running: Any) -> None:
    """And it is there to be tried although its next attempt is far away."""
    answer: Any = TOO_LARGE
    producer = Answering(lambda _topic, _value: answer)
    await put(database, "a.1")
    relay = running(producer)

    async def held() -> bool:
        return bool((await rows(database, "SELECT attempts FROM outbox"))[0][0] == 1)

    await until(held)
    async with database.write() as connection:
        await connection.exec_driver_sql("UPDATE outbox SET next_attempt_at_ms = next_attempt_at_ms + 3600000")
    for _ in range(5):  # as if others had not been answered
        permit = relay._breaker.allow()
        assert permit is not None
        permit.failed()
    assert relay.breaker.state is State.OPEN

    async def closed() -> bool:
        return relay.breaker.state is State.CLOSED

    await until(closed)


# --- leases


async def test_a_lost_lease_takes_back_what_is_queued(database: Database) -> None:
    """The producer is purged, nothing is marked, and another producer begins when the lanes are ours again."""
    clock_ahead = 0.0
    producers: list[Answering] = []

    def make() -> Any:
        producers.append(Answering(lambda _topic, _value: Answering.silent if len(producers) == 1 else None))
        return producers[-1]

    relay = Relay(database, make, clock=lambda: time.monotonic() + clock_ahead)
    await put(database, "a.1", "a.2")
    relay.start()

    async def in_flight() -> bool:
        return bool(producers[0].pending)

    await until(in_flight)
    clock_ahead = 9.0  # as after a freeze
    await until(left(database, 0))
    assert len(producers) == 2
    assert not producers[0].pending, "purged"
    assert producers[1].log == ["a.1", "a.2"]
    await relay.stop(1.0)


async def test_two_relays_share_the_work(database: Database, running: Any) -> None:
    """Every row is published once, each by the holder of its lane."""
    first, second = Answering(), Answering()
    one = running(first, RelayLimits(lease_seconds=0.8))
    other = running(second, RelayLimits(lease_seconds=0.8))

    async def divided() -> bool:
        return len(one.lanes) == len(other.lanes) == 8

    await until(divided)
    values = [f"k{number}.1" for number in range(200)]
    messages = [
        OutgoingMessage("t", value.encode(), number % 16, value.encode(), b"[]", value, "x.v1")
        for number, value in enumerate(values)
    ]
    async with database.write() as connection:
        await append(connection, messages, time.time_ns() // 1_000_000)
    await until(left(database, 0))
    assert sorted(first.log + second.log) == sorted(values)
    assert first.log
    assert second.log


async def test_a_relay_can_be_started_again(database: Database) -> None:
    """With everything it can do."""
    producer = Answering()
    relay = Relay(database, lambda: producer)
    for number in range(2):
        relay.start()
        await put(database, f"a.{number}")
        relay.wake()
        await until(left(database, 0))
        await relay.stop(1.0)
        assert not relay.running
    assert producer.log == ["a.0", "a.1"]


async def test_an_event_that_is_late_is_flagged_and_tried_on(database: Database, running: Any) -> None:
    """It keeps its place."""
    answer: Any = Answering.silent
    producer = Answering(lambda _topic, _value: answer)
    await put(database, "a.1", "a.2")
    running(producer, RelayLimits(expire_seconds=0.0))

    async def flagged() -> bool:
        return bool((await rows(database, "SELECT count(*) FROM outbox WHERE expired_at_ms IS NOT NULL"))[0][0] == 2)

    await until(flagged)
    answer = None
    await until(left(database, 0))
    assert producer.log == ["a.1", "a.2"]
