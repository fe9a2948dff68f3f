"""The catalogue says what INTERFACES.md says, and finds entries quickly and helpfully."""

import dataclasses
import datetime as dt

import pytest

from contracts import catalog
from contracts.accounting import ClosePeriod, PeriodClosed, TaskPriced, TransactionApplied
from contracts.catalog import ADMIN_KEY, CATALOG, UnknownType, entry_for, entry_of, topics
from contracts.message import Message
from contracts.payouts import RunCompleted, StartRun
from contracts.tasks import CompleteTask, CreateTask, TaskCommandRejected, TaskCompleted
from contracts.workers import WorkerDeactivated

TASK = "0192f0c1-aaaa-7bbb-8ccc-00000000000a"
WORKER = "0192f0c1-aaaa-7bbb-8ccc-00000000000b"
OTHER = "0192f0c1-aaaa-7bbb-8ccc-00000000000c"
DAY = dt.date(2026, 11, 22)

TABLE = {
    "workers.worker-registered.v1": ("workers.events", "event", None, {"worker_id", "name", "email", "role"}),
    "workers.worker-deactivated.v1": ("workers.events", "event", None, {"worker_id"}),
    "tasks.create-task.v1": ("tasks.commands", "command", None, {"task_id", "title"}),
    "tasks.complete-task.v1": ("tasks.commands", "command", None, {"task_id", "worker_id"}),
    "tasks.reassign-open-tasks.v1": ("tasks.admin-commands", "command", None, {"requested_by"}),
    "tasks.task-created.v1": ("tasks.events", "event", "payday/tasks", {"task_id", "title"}),
    "tasks.task-assigned.v1": (
        "tasks.events",
        "event",
        "payday/tasks",
        {"task_id", "assignment_id", "worker_id", "reason"},
    ),
    "tasks.task-completed.v1": (
        "tasks.events",
        "event",
        "payday/tasks",
        {"task_id", "worker_id", "completed_at"},
    ),
    "tasks.command-rejected.v1": (
        "tasks.events",
        "event",
        "payday/tasks",
        {"command_id", "command_type", "reason_code", "message"},
    ),
    "accounting.adjust-balance.v1": (
        "accounting.commands",
        "command",
        None,
        {"worker_id", "amount_minor", "currency", "note", "requested_by"},
    ),
    "accounting.close-period.v1": ("accounting.admin-commands", "command", None, {"period"}),
    "accounting.task-priced.v1": (
        "accounting.events",
        "event",
        "payday/accounting",
        {"task_id", "fee_minor", "reward_minor", "currency"},
    ),
    "accounting.transaction-applied.v1": (
        "accounting.events",
        "event",
        "payday/accounting",
        {
            "transfer_id",
            "worker_id",
            "sequence",
            "kind",
            "amount_minor",
            "currency",
            "balance_after_minor",
            "period",
            "business_date",
            "task_id",
            "payout_id",
        },
    ),
    "accounting.period-closed.v1": ("accounting.events", "event", "payday/accounting", {"period"}),
    "accounting.command-rejected.v1": (
        "accounting.events",
        "event",
        "payday/accounting",
        {"command_id", "command_type", "reason_code", "message"},
    ),
    "payouts.start-run.v1": ("payouts.commands", "command", None, {"period"}),
    "payouts.reissue.v1": ("payouts.commands", "command", None, {"payout_id", "requested_by"}),
    **{
        f"payouts.payout-{step}.v1": (
            "payouts.events",
            "event",
            "payday/payouts",
            {"payout_id", "worker_id", "period", "amount_minor", "currency", "provider_ref", "reason_code"},
        )
        for step in ("requested", "confirmed", "failed", "reversed")
    },
    "payouts.run-completed.v1": (
        "payouts.events",
        "event",
        "payday/payouts",
        {"period", "paid_count", "failed_count", "total_minor", "currency"},
    ),
    "payouts.command-rejected.v1": (
        "payouts.events",
        "event",
        "payday/payouts",
        {"command_id", "command_type", "reason_code", "message"},
    ),
}

KEY_FIELDS = {
    "workers.worker-registered.v1": "worker_id",
    "workers.worker-deactivated.v1": "worker_id",
    "tasks.create-task.v1": "task_id",
    "tasks.complete-task.v1": "task_id",
    "tasks.task-created.v1": "task_id",
    "tasks.task-assigned.v1": "task_id",
    "tasks.task-completed.v1": "task_id",
    "accounting.adjust-balance.v1": "worker_id",
    "accounting.task-priced.v1": "task_id",
    "accounting.transaction-applied.v1": "worker_id",
    "payouts.reissue.v1": "payout_id",
    "payouts.payout-requested.v1": "worker_id",
    "payouts.payout-confirmed.v1": "worker_id",
    "payouts.payout-failed.v1": "worker_id",
    "payouts.payout-reversed.v1": "worker_id",
}


def test_the_catalogue_is_the_table_of_the_interfaces() -> None:
    """Each type has the topic, kind, source and fields that INTERFACES.md gives it; none is missing."""
    actual = {
        entry.type_name: (entry.topic, entry.kind, entry.source, set(entry.contract.model_fields)) for entry in CATALOG
    }
    assert actual == TABLE
    assert catalog.catalog() is CATALOG


def test_only_what_does_not_always_apply_is_optional() -> None:
    """Every field is required but those that INTERFACES.md marks with `?`."""
    optional = {
        (entry.type_name, name)
        for entry in CATALOG
        for name, field in entry.contract.model_fields.items()
        if not field.is_required()
    }
    assert optional == {
        ("accounting.transaction-applied.v1", "task_id"),
        ("accounting.transaction-applied.v1", "payout_id"),
        *(
            (f"payouts.payout-{step}.v1", name)
            for step in ("requested", "confirmed", "failed", "reversed")
            for name in ("provider_ref", "reason_code")
        ),
    }


def test_topics_are_listed_once() -> None:
    """Every topic stands in the list once, in the order of the table."""
    assert topics() == (
        "workers.events",
        "tasks.commands",
        "tasks.admin-commands",
        "tasks.events",
        "accounting.commands",
        "accounting.admin-commands",
        "accounting.events",
        "payouts.commands",
        "payouts.events",
    )


@pytest.mark.parametrize(("type_name", "field"), KEY_FIELDS.items())
def test_a_record_key_is_the_field_that_orders_the_topic(type_name: str, field: str) -> None:
    """The key is the id of the task or of the worker, never another id of the same message."""
    entry = entry_for(type_name)
    ids = {name: f"id of {name}" for name in entry.contract.model_fields}
    assert entry.key is not None
    assert entry.key(entry.contract.model_construct(None, **ids)) == f"id of {field}"


def test_the_keys_of_real_messages() -> None:
    """Keys are text: ids as they are, a period as its ISO date, `all` for administrators' commands."""
    messages: list[tuple[Message, str]] = [
        (CreateTask(task_id=TASK, title="Title"), TASK),
        (CompleteTask(task_id=TASK, worker_id=WORKER), TASK),
        (WorkerDeactivated(worker_id=WORKER), WORKER),
        (TaskPriced(task_id=TASK, fee_minor=1, reward_minor=2, currency="USD"), TASK),
        (PeriodClosed(period=DAY), "2026-11-22"),
        (StartRun(period=DAY), "2026-11-22"),
        (RunCompleted(period=DAY, paid_count=0, failed_count=0, total_minor=0, currency="USD"), "2026-11-22"),
        (ClosePeriod(period=DAY), "all"),
    ]
    for message, expected in messages:
        key = entry_of(message).key
        assert key is not None
        assert key(message) == expected
    reassign = entry_for("tasks.reassign-open-tasks.v1")
    assert reassign.key is not None
    assert reassign.key(reassign.contract.model_validate({"requested_by": OTHER})) == ADMIN_KEY == "all"


@pytest.mark.parametrize(
    "type_name", ["tasks.command-rejected.v1", "accounting.command-rejected.v1", "payouts.command-rejected.v1"]
)
def test_a_rejection_takes_the_key_of_its_command(type_name: str) -> None:
    """A rejection has no key of its own."""
    assert entry_for(type_name).key is None


def test_an_entry_is_found_by_message_class_and_name() -> None:
    """All three ways lead to the same entry, whose contract knows its name on the wire."""
    message = CreateTask(task_id=TASK, title="Title")
    entry = entry_for("tasks.create-task.v1")
    assert entry_of(message) is entry_of(CreateTask) is entry
    assert CreateTask.type_name == "tasks.create-task.v1"
    assert TaskCommandRejected.type_name == "tasks.command-rejected.v1"
    assert TransactionApplied.type_name == "accounting.transaction-applied.v1"


def test_an_unknown_type_name_suggests_a_near_one() -> None:
    """A slip of the pen is answered with the name that was probably meant."""
    expected = r"^unknown type 'tasks\.creat-task\.v1'; did you mean tasks\.create-task\.v1"
    with pytest.raises(UnknownType, match=expected):
        entry_for("tasks.creat-task.v1")


def test_an_unknown_type_name_without_a_near_one_suggests_nothing() -> None:
    """A name unlike any other gets no misleading suggestion."""
    with pytest.raises(UnknownType) as caught:
        entry_for("0")
    assert str(caught.value) == "unknown type '0'"


def test_a_hostile_type_name_is_not_echoed() -> None:
    """A huge unprintable name is answered fast, in one short line."""
    with pytest.raises(UnknownType) as caught:
        entry_for("tasks.\n\x00" * 1_000_000)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_a_contract_outside_the_catalogue_is_unknown() -> None:
    """A class that nobody listed, a base class included, has no entry."""

    class Elsewhere(Message):
        """Not listed."""

    for contract in (Elsewhere, Message):
        with pytest.raises(UnknownType, match=contract.__name__):
            entry_of(contract)


def test_a_duplicate_is_refused_at_import() -> None:
    """Neither a type name nor a contract may stand in the table twice."""
    entry = entry_of(TaskCompleted)
    for twin in (
        dataclasses.replace(entry, contract=CreateTask),
        dataclasses.replace(entry, type_name="tasks.other.v1"),
    ):
        with pytest.raises(ValueError, match="twice"):
            catalog._without_duplicates((entry, twin))


def test_every_contract_explains_itself() -> None:
    """Each contract has a docstring of its own that says more than one line: the documentation shows it."""
    for entry in CATALOG:
        own = vars(entry.contract)["__doc__"]
        assert own is not None, entry.type_name
        assert len(own.splitlines()) > 1 or "Emitted" in own, entry.type_name
