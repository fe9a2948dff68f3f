"""What cannot be read is set aside whole, with the right reason, by everybody who reads its topic, and does no harm."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from contracts.accounting import AdjustBalance, ClosePeriod, TaskPriced, TransactionApplied
from contracts.tasks import CreateTask, ReassignOpenTasks, TaskAssigned, TaskCreated
from streams.contract_kit.sending import Envelope, headers_of, raw_record
from tests.contract.cast import A1, ACE, ADA, MIA, T1, T2, day, numbered, worker

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import EllipsisType

    from contracts.message import Message
    from streams.contract_kit.records import Sent
    from streams.contract_kit.scenario import Scenario

SOUND: dict[str, Message] = {
    "workers.events": worker(ADA),
    "tasks.commands": CreateTask(task_id=T1, title="Repaint"),
    "tasks.admin-commands": ReassignOpenTasks(requested_by=MIA),
    "tasks.events": TaskAssigned(task_id=T1, assignment_id=A1, worker_id=ADA, reason="created"),
    "accounting.commands": AdjustBalance(worker_id=ADA, amount_minor=5, currency="USD", note="", requested_by=ACE),
    "accounting.admin-commands": ClosePeriod(period=day(1)),
}
"""A readable message of each topic that is read."""


@dataclass(frozen=True)
class Flaw:
    """One way to spoil a record: its whole value, the first member of its body, or headers (None leaves one out)."""

    reason: str
    value: bytes | EllipsisType | None = ...
    member: Any = ...
    headers: Mapping[str, str | bytes | None] = field(default_factory=dict)
    state: str = "dead"

    def spoil(self, topic: str, key: str) -> Sent:
        """A record of a topic with this flaw and no other."""
        message = SOUND[topic]
        value = message.encode() if self.value is ... else self.value
        if self.member is not ...:
            body = json.loads(message.encode())
            body[next(iter(body))] = self.member
            value = json.dumps(body).encode()
        return raw_record(topic, value, headers_of(type(message), Envelope(headers=self.headers)), key)


FLAWS = {
    "random bytes": Flaw("undecodable", value=bytes(range(255, 128, -1))),
    "empty": Flaw("undecodable", value=b""),
    "tombstone": Flaw("undecodable", value=None),
    "truncated": Flaw("undecodable", value=b'{"task_id": "1111'),
    "UTF-16": Flaw("undecodable", value='{"task_id": 1}'.encode("utf-16")),
    "Confluent's magic byte": Flaw("undecodable", value=b"\x00\x00\x00\x00\x07{}"),
    "NaN": Flaw("undecodable", value=b'{"amount_minor": NaN}'),
    "nested deeply": Flaw("undecodable", value=b"[" * 200_000),
    "no object": Flaw("invalid", value=b"[1, 2, 3]"),
    "no members": Flaw("invalid", value=b"{}"),
    "a number for text": Flaw("invalid", member=17),
    "null for text": Flaw("invalid", member=None),
    "NUL in text": Flaw("invalid", member="1111\x00"),
    "a huge number": Flaw("invalid", member=10**300),
    "a megabyte of text": Flaw("invalid", member="x" * 900_000),
    "repeated names": Flaw("invalid", value=b'{"task_id": "1", "task_id": "2"}'),
    "no headers": Flaw(
        "invalid",
        headers=dict.fromkeys(
            ("ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "content-type"),
        ),
    ),
    "no ce_id": Flaw("invalid", headers={"ce_id": None}),
    "no ce_source": Flaw("invalid", headers={"ce_source": None}),
    "an empty ce_id": Flaw("invalid", headers={"ce_id": ""}),
    "a ce_id that is no UUID": Flaw("invalid", headers={"ce_id": "order-17"}),
    "a ce_id in upper case": Flaw("invalid", headers={"ce_id": "ADA00000-0000-4000-8000-00000000000A"}),
    "NUL in ce_id": Flaw("invalid", headers={"ce_id": "a\x00b"}),
    "a ce_source of a thousand characters": Flaw("invalid", headers={"ce_source": "s" * 1000}),
    "a ce_time that is none": Flaw("invalid", headers={"ce_time": "yesterday"}),
    "a ce_time without an offset": Flaw("invalid", headers={"ce_time": "2026-11-22T10:00:00"}),
    "a ce_time before all contracts": Flaw("invalid", headers={"ce_time": "0001-01-01T00:00:00Z"}),
    "a ce_time after all calendars": Flaw("invalid", headers={"ce_time": "9999-12-31T23:59:59-12:00"}),
    "another CloudEvents": Flaw("invalid", headers={"ce_specversion": "0.3"}),
    "another content type": Flaw("invalid", headers={"content-type": "application/avro"}),
    "a header that is not UTF-8": Flaw("undecodable", headers={"ce_id": b"\xff\xfe"}),
    "an unknown type": Flaw("unknown-type", headers={"ce_type": "tasks.create-task.v99"}, state="retrying"),
    "a type that is no name": Flaw("unknown-type", headers={"ce_type": "§$%"}, state="retrying"),
}


@pytest.mark.parametrize("name", FLAWS)
async def test_what_cannot_be_read_is_set_aside_on_every_topic(contract: Scenario, name: str) -> None:
    """Original bytes and headers are kept, nothing is emitted."""
    flaw = FLAWS[name]
    records = await contract.when_together(*(flaw.spoil(topic, "some key") for topic in SOUND))
    for record in records:
        contract.then_parked(record, reason=flaw.reason, state=flaw.state)
    contract.then_nothing_else()


async def test_what_cannot_be_read_does_not_hold_its_key(contract: Scenario) -> None:
    """A record that nobody can read says nothing about its key's state."""
    flaws = {number: flaw for number, flaw in enumerate(FLAWS.values()) if flaw.reason != "unknown-type"}
    keys = {number: numbered("11111111", number) for number in flaws}
    await contract.given(worker(ADA))
    records = await contract.when_together(*(flaw.spoil("tasks.commands", keys[one]) for one, flaw in flaws.items()))
    for record, flaw in zip(records, flaws.values(), strict=True):
        contract.then_parked(record, reason=flaw.reason)
    contract.then_nothing_else()
    await contract.given(*(CreateTask(task_id=task_id, title="Repaint") for task_id in keys.values()))


async def test_a_record_of_an_unknown_type_holds_its_key(contract: Scenario) -> None:
    """A deploy may bring the type, so what comes after it must not overtake it; other keys go on."""
    await contract.given(worker(ADA))
    await contract.when_together(FLAWS["an unknown type"].spoil("tasks.commands", T1))
    contract.then_parked(reason="unknown-type", state="retrying")
    held, other = await contract.when_together(
        CreateTask(task_id=T1, title="Repaint"), CreateTask(task_id=T2, title="Repaint")
    )
    contract.then_parked(held, reason="behind", state="retrying")
    contract.then(TaskCreated, task_id=T2, because_of=other)
    contract.then(TaskAssigned, task_id=T2)
    contract.then(TaskPriced, task_id=T2)
    contract.then(TransactionApplied, task_id=T2)
    contract.then_nothing_else()


async def test_a_record_without_a_key_holds_nothing(contract: Scenario) -> None:
    """There is no key whose order could suffer."""
    await contract.given(worker(ADA))
    for _ in range(2):
        await contract.when_raw("tasks.commands", b"{}", headers_of(CreateTask) | {"ce_type": "tasks.split.v1"})
        contract.then_parked(reason="unknown-type")


@pytest.mark.parametrize("topic", ["tasks.admin-commands", "accounting.admin-commands"])
async def test_admin_commands_do_not_wait_for_each_other(contract: Scenario, topic: str) -> None:
    """They all have one key, so one that cannot be handled must not stop the others."""
    await contract.given(worker(MIA, "manager"), worker(ADA))
    await contract.when_together(FLAWS["an unknown type"].spoil(topic, "all"))
    contract.then_parked(reason="unknown-type")
    await contract.given(SOUND[topic])


async def test_unknown_members_are_ignored(contract: Scenario) -> None:
    """A newer sender may say more than this reader knows."""
    body = json.dumps({"task_id": T1, "title": "Repaint", "colour": {"name": "blue"}}).encode()
    await contract.given(worker(ADA))
    await contract.when_raw("tasks.commands", body, headers_of(CreateTask), key=T1)
    contract.then(TaskCreated, task_id=T1)
    contract.then(TaskAssigned, task_id=T1, worker_id=ADA)


async def test_unknown_headers_are_ignored(contract: Scenario) -> None:
    """Also those that are not text: they are nobody's business here."""
    await contract.given(worker(ADA))
    await contract.when(
        CreateTask(task_id=T1, title="Repaint"), headers={"x-binary": b"\xff\xfe", "reply_to": "elsewhere"}
    )
    contract.then(TaskCreated, task_id=T1)
    contract.then(TaskAssigned, task_id=T1, worker_id=ADA)


async def test_a_message_without_ce_time_has_the_time_of_its_record(contract: Scenario) -> None:
    """`ce_time` is optional in CloudEvents."""
    await contract.given(worker(ADA))
    await contract.when(CreateTask(task_id=T1, title="Repaint"), headers={"ce_time": None})
    contract.then(TaskCreated, task_id=T1)
    contract.then(TaskAssigned, task_id=T1)


async def test_unreadable_records_between_sound_ones(contract: Scenario) -> None:
    """In one batch: each of the unreadable is parked, and what is sound comes through."""
    flaw = FLAWS["random bytes"]
    await contract.given(worker(ADA))
    tasks = [numbered("11111111", number) for number in range(50)]
    records = [
        record
        for task_id in tasks
        for record in (flaw.spoil("tasks.commands", task_id), CreateTask(task_id=task_id, title="Repaint"))
    ]
    sent = await contract.when_together(*records)
    for record in sent[::2]:
        contract.then_parked(record, reason="undecodable")
    contract.then_each(TaskCreated, times=50)
    contract.then_each(TaskAssigned, times=50)
    contract.then_each(TaskPriced, times=50)
    contract.then_each(TransactionApplied, kind="fee", times=50)
    contract.then_nothing_else()
