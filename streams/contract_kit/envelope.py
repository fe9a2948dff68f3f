"""What every emitted message must keep, whatever a test asks about it: the catalogue's word and CloudEvents 1.0."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from contracts.catalog import UnknownType, entry_for
from contracts.message import InvalidMessage
from streams.contract_kit.records import Received
from streams.contract_kit.report import ContractBroken, Difference, compared
from streams.outbox.envelope import format_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from contracts.catalog import Entry
    from contracts.message import Message
    from streams.contract_kit.records import Emitted

__all__ = ["received"]

FIXED = {"ce_specversion": "1.0", "content-type": "application/json"}


def received(record: Emitted, known: Mapping[str, Emitted], position: int) -> Received[Message]:
    """An emitted record as the message that it is.

    Args:
        record: as the service emitted it.
        known: `ce_id` -> every message that was sent or emitted before: the possible causes.
        position: the how many-th emitted record of the test this is.

    Raises:
        ContractBroken: it breaks a rule that holds for every message.
    """
    try:
        entry = entry_for(record.type)
    except UnknownType as error:
        raise ContractBroken(f"the service emitted a message of a type that is in no contract: {error}") from None
    try:
        data = entry.contract.decode(record.value)
    except InvalidMessage as error:
        raise ContractBroken(f"the service emitted a body that breaks its contract: {error}") from None
    wrong = [row for row in _rules(record, entry, data, known) if row.expected != row.actual]
    if wrong:
        raise ContractBroken(f"the service emitted {entry.type_name} in a wrong envelope\n{compared(wrong)}")
    return Received(record.topic, record.key, record.value, record.headers, data=data, position=position)


def _rules(record: Emitted, entry: Entry, data: Message, known: Mapping[str, Emitted]) -> Iterator[Difference]:
    """Everything that is fixed by the catalogue and by the cause."""
    attributes = record.attributes
    yield Difference("topic", entry.topic, record.topic)
    names = sorted(name for name, _value in record.headers)
    for name, value in FIXED.items():
        yield Difference(name, value, attributes.get(name, "missing"))
    yield Difference("ce_source", entry.source or "nobody here emits this type", attributes.get("ce_source", "missing"))
    yield _id_rule(record, known)
    cause = known.get(record.cause_id)
    if cause is None:
        yield Difference("ce_causationid", "the id of a message that was sent or emitted", record.cause_id or "missing")
        return
    key = entry.key(data).encode() if entry.key is not None else cause.key
    yield Difference("key", repr(key), repr(record.key))
    yield _time_rule(record, cause)
    yield Difference("ce_correlationid", cause.correlation_id, attributes.get("ce_correlationid", "missing"))
    traced = {"traceparent"} & cause.attributes.keys()
    yield Difference("traceparent", cause.attributes.get("traceparent", ""), attributes.get("traceparent", ""))
    carried = {"ce_id", "ce_type", "ce_source", "ce_time", "ce_correlationid", "ce_causationid", *FIXED, *traced}
    yield Difference("header names", ", ".join(sorted(carried)), ", ".join(names))


def _id_rule(record: Emitted, known: Mapping[str, Emitted]) -> Difference:
    try:
        canonical = str(UUID(record.id)) == record.id
    except ValueError:
        canonical = False
    if not canonical:
        return Difference("ce_id", "a UUID in lower case with hyphens", record.id or "missing")
    if record.id in known:
        return Difference("ce_id", "an id that no other message has", f"{record.id} of a {known[record.id].type}")
    return Difference("ce_id", record.id, record.id)


def _time_rule(record: Emitted, cause: Emitted) -> Difference:
    """An event carries the time of its cause; a cause without one has none to pass on."""
    actual = record.attributes.get("ce_time", "missing")
    if "ce_time" not in cause.attributes:
        return Difference("ce_time", actual if actual != "missing" else "a time", actual)
    expected = format_time(cause.time_ms)
    try:
        same = record.time_ms == cause.time_ms
    except ValueError:
        same = False
    return Difference("ce_time", actual if same else expected, actual)
