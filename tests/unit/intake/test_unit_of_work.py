"""One transaction's worth of records: atomic, conserved, in order per key, fenced."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaException, TopicPartition

from streams.intake.classify import Fenced, Outage
from streams.intake.record import Outcome
from streams.intake.unit_of_work import UnitOfWork
from streams.outbox.headers import unpack
from streams.storage.database import Database
from tests.kit import TOPIC, FakeConsumer, Note, note, rows, subscription, take

COUNTS = "SELECT consumed, handled, duplicate, parked, discarded, lost, skipped, next_offset FROM progress"


async def emit_each(work: UnitOfWork) -> None:
    for record in work.live:
        work.send([work.outgoing(Note(record.message.text), work.cause(record), 0)])


async def fail_bad(work: UnitOfWork) -> None:
    for record in list(work.live):
        if work.is_held(record):
            work.hold_back(record)
        elif record.message.text == "bad":
            work.fail(record, ValueError("no good"))
        else:
            work.send([work.outgoing(Note(record.message.text), work.cause(record), 0)])


class TestAtomicity:
    async def test_effects_of_a_batch_are_saved_together(self, database: Database) -> None:
        """Inbox, outbox and progress of handled records appear with one commit."""
        await take(subscription(database), [note(0), note(1)], emit_each)
        assert await rows(database, COUNTS) == [(2, 2, 0, 0, 0, 0, 0, 2)]
        assert await rows(database, "SELECT count(*) FROM inbox") == [(2,)]
        assert await rows(database, "SELECT count(*), count(sent_at_ms) FROM outbox") == [(2, 0)]

    async def test_a_failure_leaves_no_trace(self, database: Database) -> None:
        """When the transaction fails, no inbox row, no event and no progress of the batch remains."""

        async def explode(work: UnitOfWork) -> None:
            await emit_each(work)
            raise RuntimeError("the handler is broken")

        records = [note(0)]
        with pytest.raises(RuntimeError, match="broken"):
            await take(subscription(database), records, explode)
        for table in ("inbox", "outbox", "progress", "parked"):
            assert await rows(database, f"SELECT count(*) FROM {table}") == [(0,)]
        assert records[0].outcome is None

    async def test_a_failure_of_the_commit_leaves_no_trace(self, database: Database) -> None:
        """When saving fails after the inbox rows were written, they are gone too."""
        subscribed = subscription(database)
        await take(subscribed, [note(0)])
        other = subscription(database)
        await take(other, [note(1)])
        with pytest.raises(Fenced):
            await take(subscribed, [note(1, message_id="late")], emit_each)
        assert await rows(database, "SELECT count(*) FROM inbox WHERE message_id = 'late'") == [(0,)]
        assert await rows(database, "SELECT count(*) FROM outbox") == [(0,)]


class TestInbox:
    async def test_a_message_read_again_is_a_duplicate_without_effect(self, database: Database) -> None:
        """The same id is handled once, however often it comes."""
        subscribed = subscription(database)
        await take(subscribed, [note(0, message_id="a")], emit_each)
        again = note(1, message_id="a")
        await take(subscribed, [again, note(2, message_id="a")], emit_each)
        assert again.outcome is Outcome.DUPLICATE
        assert await rows(database, COUNTS) == [(3, 1, 2, 0, 0, 0, 0, 3)]
        assert await rows(database, "SELECT count(*) FROM outbox") == [(1,)]

    async def test_a_message_twice_in_one_batch_is_handled_once(self, database: Database) -> None:
        """The second of two records with one id is a duplicate although nothing has been committed yet."""
        await take(subscription(database), [note(0, message_id="a"), note(1, message_id="a")], emit_each)
        assert await rows(database, COUNTS) == [(2, 1, 1, 0, 0, 0, 0, 2)]

    async def test_an_id_with_another_body_is_a_conflict(self, database: Database) -> None:
        """Another body under a handled id is parked, dead, and does not hold its key."""
        subscribed = subscription(database)
        await take(subscribed, [note(0, "one", message_id="a")])
        await take(subscribed, [note(1, "two", message_id="a"), note(2, "three")])
        assert await rows(database, "SELECT reason, state, holds_key FROM parked") == [("id-conflict", "dead", 0)]
        assert await rows(database, COUNTS) == [(3, 2, 0, 1, 0, 0, 0, 3)]

    async def test_another_version_of_the_same_fact_is_a_duplicate(self, database: Database) -> None:
        """An id that was handled under another version of its type says the same thing again, in other words."""
        subscribed = subscription(database, accepts=["note.v1", "note.v2"])
        await take(subscribed, [note(0, "one", message_id="a")])
        await take(subscribed, [note(1, "two", message_id="a", type_name="note.v2")])
        assert await rows(database, COUNTS) == [(2, 1, 1, 0, 0, 0, 0, 2)]

    async def test_an_id_under_another_type_is_a_conflict(self, database: Database) -> None:
        """Two kinds of messages cannot be one fact: the second is kept for a person to look at."""
        subscribed = subscription(database, accepts=["note.v1", "other.v1"])
        await take(subscribed, [note(0, "one", message_id="a")])
        await take(subscribed, [note(1, "one", message_id="a", type_name="other.v1")])
        assert await rows(database, "SELECT reason, state, holds_key FROM parked") == [("id-conflict", "dead", 0)]
        assert await rows(database, COUNTS) == [(2, 1, 0, 1, 0, 0, 0, 2)]

    async def test_a_type_that_the_group_does_not_handle_counts_as_handled(self, database: Database) -> None:
        """A catalogued type outside `accepts` is taken without its body being read or its handler being called."""

        async def nobody(_work: UnitOfWork) -> None:
            raise AssertionError("there is nothing for a handler to do")

        await take(subscription(database), [note(0, type_name="other.v1", value=b"not json")], nobody)
        assert await rows(database, COUNTS) == [(1, 1, 0, 0, 0, 0, 0, 1)]


class TestParking:
    async def test_a_failing_record_and_the_later_ones_of_its_key_are_parked(self, database: Database) -> None:
        """Order per key is kept: nothing of a key is handled past its failed record; other keys go on."""
        batch = [note(0, "bad", key=b"x"), note(1, key=b"y"), note(2, key=b"x"), note(3, key=None)]
        subscribed = subscription(database)
        await take(subscribed, batch, fail_bad)
        await take(subscribed, [note(4, key=b"x"), note(5, key=b"y")], fail_bad)
        parked = await rows(database, 'SELECT "offset", reason, state, holds_key FROM parked ORDER BY id')
        assert parked == [
            (0, "failed", "retrying", 1),
            (2, "behind", "retrying", 1),
            (4, "behind", "retrying", 1),
        ]
        assert await rows(database, COUNTS) == [(6, 3, 0, 3, 0, 0, 0, 6)]
        assert await rows(database, "SELECT count(*) FROM outbox") == [(3,)]

    async def test_an_unheld_topic_does_not_hold_keys(self, database: Database) -> None:
        """Where all commands share a key, one that fails does not keep the others waiting."""
        subscribed = subscription(database, unheld_topics=["notes.commands"])
        await take(subscribed, [note(0, "bad"), note(1)], fail_bad)
        assert await rows(database, COUNTS) == [(2, 1, 0, 1, 0, 0, 0, 2)]

    async def test_an_unreadable_record_does_not_hold_its_key(self, database: Database) -> None:
        """What nobody can read is dead at once, and later records of its key are handled."""
        await take(subscription(database), [note(0, value=b"\xff"), note(1)], emit_each)
        assert await rows(database, "SELECT reason, state FROM parked") == [("undecodable", "dead")]
        assert await rows(database, COUNTS) == [(2, 1, 0, 1, 0, 0, 0, 2)]

    async def test_a_parked_record_keeps_its_original_bytes(self, database: Database) -> None:
        """Key, value and every header survive byte by byte, also what is not UTF-8 or missing."""
        strange = note(
            0, value=b"\x00\xffjunk", key=b"\xfe\x00", headers=[("x", b"\xff\xfe"), ("n", None), ("x", b"2")]
        )
        await take(subscription(database), [strange])
        ((key, value, headers, timestamp),) = await rows(
            database, "SELECT key, value, headers, timestamp_ms FROM parked"
        )
        assert (key, value, timestamp) == (strange.key, strange.value, strange.timestamp_ms)
        assert unpack(headers) == strange.headers
        assert ("x", b"\xff\xfe") in unpack(headers)

    async def test_a_parked_record_read_again_is_a_duplicate(self, database: Database) -> None:
        """Reading from an earlier offset parks nothing twice."""
        records = [note(0, value=b"junk", message_id="a"), note(1, "bad", message_id="b"), note(2, message_id="c")]
        await take(subscription(database), records, fail_bad)
        for record in records:
            record.outcome = None
        await take(subscription(database), records, fail_bad)
        assert await rows(database, "SELECT count(*) FROM parked") == [(3,)]
        assert await rows(database, COUNTS) == [(6, 0, 3, 3, 0, 0, 0, 3)]

    async def test_a_parked_record_without_a_key_is_not_handled_when_read_again(self, database: Database) -> None:
        """Nothing holds it back, but it is parked: its handling is the store's business now."""
        await take(subscription(database), [note(0, "bad", key=None, message_id="a")], fail_bad)
        again = note(0, "bad", key=None, message_id="a")
        await take(subscription(database), [again], emit_each)
        assert again.outcome is Outcome.DUPLICATE
        assert await rows(database, "SELECT count(*) FROM outbox") == [(0,)]

    async def test_a_record_is_parked_with_a_bounded_one_line_error(self, database: Database) -> None:
        """However long the text of an exception is, it fits its column and PostgreSQL's text type."""

        async def fail_loudly(work: UnitOfWork) -> None:
            work.fail(work.live[0], ValueError("line\n" * 5000 + "\x00"))

        await take(subscription(database), [note(0)], fail_loudly)
        ((error, stack),) = await rows(database, "SELECT error, stack FROM parked")
        assert len(error) <= 1000
        assert "\n" not in error
        assert len(stack) <= 2000
        assert "\x00" not in stack


class TestProgress:
    async def test_a_replaced_consumer_is_fenced(self, database: Database) -> None:
        """A consumer that was frozen while another took its partition over cannot commit anything."""
        frozen, successor = subscription(database), subscription(database)
        await take(frozen, [note(0)])
        await take(successor, [note(1)])
        with pytest.raises(Fenced):
            await take(frozen, [note(1)])
        assert await rows(database, COUNTS) == [(2, 2, 0, 0, 0, 0, 0, 2)]

    async def test_a_replaced_consumer_is_fenced_where_offsets_meet(self, database: Database) -> None:
        """Also when the successor has read again up to exactly where the frozen one stood."""
        frozen, successor = subscription(database), subscription(database)
        first = note(0, message_id="a")
        await take(frozen, [first])
        first.outcome = None
        await take(successor, [first])
        with pytest.raises(Fenced):
            await take(frozen, [note(1)])

    async def test_two_consumers_cannot_both_start_a_partition(self, database: Database) -> None:
        """The first row of a partition's progress is written once."""
        late = subscription(database)
        async with database.write() as connection:
            await late.positions_for(connection, [note(0)])
        await take(subscription(database), [note(0)])
        with pytest.raises(Fenced):
            await take(late, [note(0)])

    async def test_a_consumer_goes_on_after_rereading_its_positions(self, database: Database) -> None:
        """Having been fenced is not for ever: the rightful owner reads the row and goes on."""
        one, other = subscription(database), subscription(database)
        await take(one, [note(0)])
        await take(other, [note(1)])
        one.forget_all()
        await take(one, [note(2)])
        assert await rows(database, COUNTS) == [(3, 3, 0, 0, 0, 0, 0, 3)]


class TestGaps:
    async def test_an_unexplained_gap_is_read_again_once(self, database: Database) -> None:
        """Records after a gap stay unfinished and the consumer goes back; a gap that stays is counted as skipped."""
        subscribed = subscription(database)
        subscribed.assignment._consumer = FakeConsumer()
        await take(subscribed, [note(0)])
        later = note(5)
        await take(subscribed, [later])
        outcomes = [later.outcome]
        assert subscribed.take_rewinds() == {(later.topic, 0): 1}
        await take(subscribed, [later])
        assert [*outcomes, later.outcome] == [None, Outcome.HANDLED]
        assert await rows(database, COUNTS) == [(2, 2, 0, 0, 0, 0, 4, 6)]

    async def test_what_retention_removed_is_counted_as_lost(self, database: Database) -> None:
        """Records below the low watermark were removed before anybody read them."""
        subscribed = subscription(database)
        subscribed.assignment._consumer = FakeConsumer(low=5)
        await take(subscribed, [note(0)])
        await take(subscribed, [note(5)])
        assert await rows(database, COUNTS) == [(2, 2, 0, 0, 0, 4, 0, 6)]

    async def test_a_topic_made_anew_is_read_from_its_start(self, database: Database) -> None:
        """Offsets below the known position are taken: the inbox decides, not the position."""
        subscribed = subscription(database)
        await take(subscribed, [note(7)])
        await take(subscribed, [note(0), note(1)])
        assert await rows(database, COUNTS) == [(3, 3, 0, 0, 0, 0, 0, 2)]

    async def test_a_gap_is_not_passed_over_because_its_transaction_failed(self, database: Database) -> None:
        """Redone before the consumer has gone back, the records behind the gap still wait."""
        subscribed = subscription(database)
        subscribed.assignment._consumer = FakeConsumer()
        await take(subscribed, [note(0)])
        later = note(5)
        for _ in range(2):
            await take(subscribed, [later])
        assert later.outcome is None
        assert subscribed.take_rewinds() == {(later.topic, 0): 1}

    async def test_kafka_not_answering_about_a_gap_is_an_outage(self, database: Database) -> None:
        """The records behind the gap are not to blame: they are neither parked nor skipped."""

        class Silent(FakeConsumer):
            def get_watermark_offsets(
                self, partition: TopicPartition, timeout: float = 0.0, *, cached: bool = False
            ) -> tuple[int, int]:
                raise KafkaException("timed out")

        subscribed = subscription(database)
        subscribed.assignment._consumer = Silent()
        await take(subscribed, [note(0)])
        with pytest.raises(Outage):
            await take(subscribed, [note(5)])
        assert await rows(database, COUNTS) == [(1, 1, 0, 0, 0, 0, 0, 1)]

    async def test_a_partition_that_was_revoked_meanwhile_is_not_written(self, database: Database) -> None:
        """Between opening and saving the owner may change; then the transaction leaves no trace."""
        subscribed = subscription(database)

        async def revoke(_work: UnitOfWork) -> None:
            subscribed.assignment.on_revoke(FakeConsumer(), [TopicPartition(TOPIC, 0)])

        with pytest.raises(Fenced):
            await take(subscribed, [note(0)], revoke)
        assert await rows(database, COUNTS) == []


class TestEmittedEvents:
    async def test_handling_again_after_a_restore_gives_the_same_ids(self, database: Database) -> None:
        """An event's id and time derive from its cause, in the layout of UUIDv7."""
        record = note(0, message_id="a", headers=[("ce_time", b"2026-11-20T10:00:00Z")])
        await take(subscription(database), [record], emit_each)
        async with database.write() as connection:
            for table in ("inbox", "progress"):
                await connection.exec_driver_sql(f"DELETE FROM {table}")
        record.outcome = None
        await take(subscription(database), [record], emit_each)
        (first,), (second,) = await rows(database, "SELECT message_id FROM outbox ORDER BY id")
        assert first == second
        assert first[14] == "7"

    async def test_an_event_carries_its_cause(self, database: Database) -> None:
        """Causation is the handled message, correlation the first of the chain, the time the cause's."""
        record = note(
            0,
            message_id="a",
            headers=[
                ("ce_time", b"2026-11-20T10:00:00Z"),
                ("ce_correlationid", b"first"),
                ("traceparent", b"00-1-2-01"),
            ],
        )
        await take(subscription(database), [record], emit_each)
        ((packed,),) = await rows(database, "SELECT headers FROM outbox")
        headers = dict(unpack(packed))
        assert headers["ce_causationid"] == b"a"
        assert headers["ce_correlationid"] == b"first"
        assert headers["ce_time"] == b"2026-11-20T10:00:00.000Z"
        assert headers["traceparent"] == b"00-1-2-01"
