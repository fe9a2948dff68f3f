"""The planted faults: what is broken, and which tests must notice."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FAULTS", "Fault"]


@dataclass(frozen=True)
class Fault:
    """A piece of text that is replaced by a wrong one.

    Attributes:
        name: what goes wrong, in the words of an operator.
        file: where.
        old, new: the text, which must stand there exactly once, and its replacement.
        tests: what must go red.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


OFFSETS = ("tests/unit/middleware/test_offsets.py",)
UNIT_OF_WORK = ("tests/unit/intake/test_unit_of_work.py",)
PRODUCER = ("tests/unit/outbox/test_producer.py",)
RELAY = ("tests/unit/outbox/test_relay.py",)
REFUSALS = ("tests/unit/outbox/test_refusals.py",)
ON_BROKER = ("tests/integration/test_intake_on_broker.py",)
DECODE = ("tests/unit/intake/test_decode.py",)
CONTRACTS = ("tests/contract",)
RELEASE = ("tests/unit/intake/test_release.py",)
CONCURRENT_RELEASE = ("tests/conformance/test_release_concurrency.py",)
CLASSIFY = ("tests/unit/intake/test_classify.py",)
KILL_SWITCH = ("tests/unit/intake/test_kill_switch.py",)
OPERATE = ("tests/unit/intake/test_operate.py",)

FAULTS = (
    Fault(
        "offset-before-commit",
        "streams/middleware/offsets.py",
        "if (topic, partition, offset) in finished and key not in unfinished:",
        "if key not in unfinished:",
        OFFSETS,
    ),
    Fault(
        "swallowed-batch",
        "streams/middleware/offsets.py",
        "        subscription.assignment.seek(unfinished)\n",
        "",
        OFFSETS,
    ),
    Fault(
        "offset-past-an-unfinished-record",
        "streams/middleware/offsets.py",
        "in finished and key not in unfinished:",
        "in finished:",
        OFFSETS,
    ),
    Fault(
        "stray-cancellation-ends-consuming",
        "streams/middleware/offsets.py",
        "        and not task.cancelling()\n",
        "        and task.cancelling() > 0\n",
        ("tests/unit/middleware/test_offsets.py", "tests/integration/test_intake_on_broker.py"),
    ),
    Fault(
        "inbox-forgotten",
        "streams/intake/unit_of_work.py",
        "        await inbox.add_to_inbox(connection, subscription.group, handled, self.now_ms)\n",
        "",
        UNIT_OF_WORK,
    ),
    Fault(
        "inbox-outside-the-transaction",
        "streams/intake/unit_of_work.py",
        "        await inbox.add_to_inbox(connection, subscription.group, handled, self.now_ms)\n",
        """
        async def later() -> None:
            async with subscription.database.write() as other:
                await inbox.add_to_inbox(other, subscription.group, handled, self.now_ms)

        import asyncio

        self._after_commit.append(lambda: asyncio.get_running_loop().create_task(later()))
""",
        UNIT_OF_WORK,
    ),
    Fault(
        "inbox-not-asked",
        "streams/intake/unit_of_work.py",
        "        earlier = seen.get(identity)\n",
        "        earlier = None\n",
        UNIT_OF_WORK,
    ),
    Fault(
        "handled-past-a-held-key",
        "streams/intake/unit_of_work.py",
        "record.key is not None and self._held.get((record.topic, record.key), record.position) < record.position",
        "False",
        UNIT_OF_WORK,
    ),
    Fault(
        "zombie-not-fenced",
        "streams/intake/position.py",
        '        progress.c.epoch == bindparam("known_epoch"),\n'
        '        progress.c.next_offset == bindparam("known_offset"),\n',
        "",
        UNIT_OF_WORK,
    ),
    Fault(
        "zombie-not-fenced-where-offsets-meet",
        "streams/intake/position.py",
        '        progress.c.epoch == bindparam("known_epoch"),\n',
        "",
        UNIT_OF_WORK,
    ),
    Fault(
        "gap-passed-over",
        "streams/intake/subscription.py",
        "            if start is not None and record.offset > start:",
        "            if start is not None and record.offset > start + 1_000_000:",
        UNIT_OF_WORK,
    ),
    Fault(
        "gap-blamed-on-the-records",
        "streams/intake/subscription.py",
        "        except (KafkaException, TimeoutError) as error:",
        "        except TimeoutError as error:",
        UNIT_OF_WORK,
    ),
    Fault(
        "parked-again-or-handled-beside-it",
        "streams/intake/unit_of_work.py",
        "            if before and parking.parked_identity(record) in before:",
        "            if not before and parking.parked_identity(record) in before:",
        UNIT_OF_WORK,
    ),
    Fault(
        "no-second-try-of-a-single-record",
        "streams/middleware/dead_letter.py",
        "                if len(message.records) == 1 and await",
        "                if not message.records and await",
        ON_BROKER,
    ),
    Fault(
        "halving-never-ends",
        "streams/middleware/dead_letter.py",
        "deadline and any(record.outcome is not None for record in message.records):",
        "deadline:",
        ON_BROKER,
    ),
    Fault(
        "id-that-no-column-holds",
        "streams/intake/decode.py",
        'len(value) > ATTRIBUTE_MAX_CHARACTERS or "\\x00" in value:',
        "len(value) > ATTRIBUTE_MAX_CHARACTERS:",
        DECODE,
    ),
    Fault(
        "restored-database-not-noticed",
        "streams/intake/assignment.py",
        "if next_offset is not None and partition.offset > next_offset:",
        "if next_offset is not None and partition.offset < next_offset:",
        OFFSETS,
    ),
    Fault(
        "partition-stays-paused",
        "streams/intake/assignment.py",
        "            (consumer.pause if self.paused else consumer.resume)(partitions)\n",
        "",
        OFFSETS,
    ),
    Fault(
        "header-that-is-not-utf8-lost",
        "streams/outbox/headers.py",
        '        return {"base64": base64.b64encode(value).decode()}',
        '        return value.decode("utf-8", "replace")',
        ("tests/unit/outbox/test_headers.py", *UNIT_OF_WORK),
    ),
    Fault(
        "marked-before-acknowledged",
        "streams/outbox/producer.py",
        "                self._in_flight.add(row.id)\n",
        "                self._in_flight.add(row.id)\n                self._step.acknowledged.append(row.id)\n",
        RELAY,
    ),
    Fault(
        "two-unacknowledged-of-a-key",
        "streams/outbox/producer.py",
        "                queue.append(row)\n",
        "                self._ready.append(row)\n",
        PRODUCER,
    ),
    Fault(
        "follower-published-past-a-refused-row",
        "streams/outbox/producer.py",
        "for follower in self._waiting.pop(key, ()):\n",
        "for follower in list(self._waiting.get(key, ())):\n",
        PRODUCER,
    ),
    Fault(
        "everything-below-the-highest-marked",
        "streams/outbox/store.py",
        "update(outbox)\n        .where(among(connection, outbox.c.id, ids))",
        "update(outbox)\n        .where(outbox.c.id <= max(ids))",
        RELAY,
    ),
    Fault(
        "posted-twice",
        "streams/ledger/domain.py",
        "    if state[TransferKey(posting.source_ref)] is not None:\n        return\n",
        "",
        ("tests/unit/ledger",),
    ),
    Fault(
        "closed-period-posted-to",
        "streams/ledger/domain.py",
        "        return max(business_date, self.closed_through + timedelta(days=1))",
        "        return business_date",
        CONTRACTS,
    ),
    Fault(
        "anybody-completes",
        "streams/tasks/domain.py",
        "    elif task.assignee != command.worker_id:",
        "    elif not command.worker_id:",
        CONTRACTS,
    ),
    Fault(
        "new-price-at-every-event",
        "streams/accounting/domain.py",
        "    if state[PriceKey(task_id)] is None:\n        price = price_of(rules.secret, task_id, cause.time_ms)",
        "    if True:\n        price = price_of(rules.secret, task_id + cause.id, cause.time_ms)",
        CONTRACTS,
    ),
    Fault(
        "reassigned-without-a-charge",
        "streams/accounting/domain.py",
        "    yield from post(state, posting, cause, rules.calendar)\n\n\ndef task_completed",
        '    if event.reason == "created":\n'
        "        yield from post(state, posting, cause, rules.calendar)\n\n\ndef task_completed",
        CONTRACTS,
    ),
    Fault(
        "follower-overtakes",
        "streams/intake/release_store.py",
        "        elif usable and (queue in begun or is_due):",
        "        elif usable:",
        RELEASE,
    ),
    Fault(
        "released-without-a-claim",
        "streams/intake/release_store.py",
        "    claimed: set[int] = set()\n",
        "    return set(ids)\n    claimed: set[int] = set()\n",
        RELEASE,
    ),
    Fault(
        "follower-orphaned",
        "streams/intake/parking.py",
        "        if held <= locked:\n",
        "        if held is not locked:\n",
        CONCURRENT_RELEASE,
    ),
    Fault(
        "key-not-locked-by-intake",
        "streams/intake/parking.py",
        ".order_by(parked.c.id).with_for_update(read=True)",
        ".order_by(parked.c.id)",
        CONCURRENT_RELEASE,
    ),
    Fault(
        "next-of-the-key-forgotten",
        "streams/intake/release_work.py",
        "        await release_store.promote(self.connection, self._subscription.group, queues, self.now_ms)\n",
        "",
        RELEASE,
    ),
    Fault(
        "attempt-spent-in-an-outage",
        "streams/intake/classify.py",
        "            return Verdict(Kind.OUTAGE, meaning)\n",
        "            return Verdict(Kind.FAILURE)\n",
        CLASSIFY,
    ),
    Fault(
        "kill-switch-at-a-tenth",
        "streams/intake/kill_switch.py",
        "failed >= limits.share * len(window.outcomes)",
        "failed >= 0.1 * len(window.outcomes)",
        KILL_SWITCH,
    ),
    Fault(
        "kill-switch-counts-what-was-rolled-back",
        "streams/intake/kill_switch.py",
        "window = self._window.copy() if self.tripped is None",
        "window = self._window if self.tripped is None",
        KILL_SWITCH,
    ),
    Fault(
        "innocent-parked-as-crashed",
        "streams/middleware/suspects.py",
        "            if attempts > most:\n",
        "            if attempts >= 1:\n",
        ("tests/unit/middleware/test_suspects.py",),
    ),
    Fault(
        "discard-without-a-tombstone",
        "streams/intake/operate.py",
        "    await _remember(connection, rows, now_ms)\n",
        "",
        OPERATE,
    ),
    Fault(
        "replay-not-counted",
        "streams/intake/release_work.py",
        "        await self._count(handled)\n",
        "",
        RELEASE,
    ),
    Fault(
        "marked-on-a-time-out",
        "streams/outbox/producer.py",
        "        verdict = judge(error)\n",
        "        verdict = judge(error)\n"
        "        if verdict is Verdict.UNANSWERED:\n"
        "            self._step.acknowledged.append(row.id)\n",
        REFUSALS,
    ),
    Fault(
        "lease-ignored",
        "streams/outbox/lanes.py",
        "        return self._held - self.leaving if self.valid else frozenset()\n",
        "        return self._held\n",
        ("tests/unit/outbox/test_lanes.py",),
    ),
    Fault(
        "lane-taken-from-the-living",
        "streams/outbox/lanes.py",
        "self.expires_at_ms <= now_ms\n",
        "self.expires_at_ms <= now_ms + 60_000\n",
        ("tests/unit/outbox/test_lanes.py",),
    ),
    Fault(
        "refused-row-blocks-others",
        "streams/outbox/window.py",
        "            if refusal.verdict is Verdict.TOPIC:\n",
        "            if refusal.verdict in {Verdict.TOPIC, Verdict.ROW}:\n",
        REFUSALS,
    ),
    Fault(
        "follower-read-past-a-held-row",
        "streams/outbox/store.py",
        "            or_(outbox.c.key.is_(None), outbox.c.key.not_in(held_keys)),\n",
        "",
        REFUSALS,
    ),
    Fault(
        "fallback-overtakes",
        "streams/outbox/direct.py",
        "if row.key is None or (row.topic, row.key) not in behind]",
        "]",
        ("tests/unit/outbox/test_direct.py",),
    ),
    Fault(
        "open-breaker-spends-attempts",
        "streams/outbox/window.py",
        "            elif refusal.verdict is not Verdict.ROW:\n",
        "            elif refusal.verdict is Verdict.PURGED:\n",
        REFUSALS,
    ),
    Fault(
        "open-breaker-not-asked",
        "streams/outbox/producer.py",
        "            if self._breaker is not None and permit is None:\n                return\n",
        "",
        REFUSALS,
    ),
    Fault(
        "intake-takes-from-a-full-outbox",
        "streams/intake/admission.py",
        "        if reason is not None:\n",
        "        if reason is None:\n",
        ("tests/unit/outbox/test_capacity.py",),
    ),
)
