"""Hypothesis strategies of messages and of records that are spoilt, made from the contracts' own field metadata.

They shrink: towards few records, short texts, small numbers, and the first ways to spoil.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from contracts.catalog import entry_of
from contracts.fields import INSTANT_MAX, INSTANT_MIN, PERIOD_MAX, PERIOD_MIN
from contracts.tasks import CompleteTask
from contracts.workers import WorkerDeactivated
from streams.contract_kit.sending import Envelope, headers_of, raw_record
from tests.contract.accounting import adjust, assigned, completed, created
from tests.contract.cast import ACE, ADA, BOB, MIA, T1, T2, create, worker
from tests.contract.mutations import MUTATIONS, Spoilt

if TYPE_CHECKING:
    from contracts.message import Message
    from streams.contract_kit.records import Sent

KNOWN_IDS = (ADA, BOB, MIA, ACE, T1, T2)
"""Few of them, so that messages concern each other."""
TEXT_MAX_CHARACTERS = 500
PLAIN = {
    **dict.fromkeys(("worker_id", "task_id", "requested_by"), KNOWN_IDS),
    "title": ("Repaint", "[POP-1] - Größe"),
    "name": ("Ada",),
    "email": ("ada@example.com",),
    "currency": ("USD", "EUR"),
    "note": ("", "two\nlines"),
}
FROM_OUTSIDE: tuple[type[Message], ...] = tuple(
    type(one)
    for one in (
        worker(ADA),
        WorkerDeactivated(worker_id=ADA),
        create(T1),
        CompleteTask(task_id=T1, worker_id=ADA),
        adjust(),
    )
)
"""What senders outside write, and what the audit has something to say about."""
FROM_INSIDE: tuple[type[Message], ...] = tuple(type(one) for one in (created(), assigned(), completed()))
"""Events of one slice that another reads; made up by a test they would be lies, so they are only sent spoilt."""
EARLIEST, LATEST = datetime(2020, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Delivery:
    """A record that is to be sent.

    Attributes:
        record: as it goes out.
        flaw: how it was spoilt; empty for a sound one.
        readable: whether it is a message all the same.
    """

    record: Sent
    flaw: str = ""
    readable: bool = True


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """What a field may be in JSON, from its JSON schema."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of(*map(values, schema["anyOf"]))
    return SCALARS[schema.get("format", schema["type"])](schema)


def _integers(schema: dict[str, Any]) -> st.SearchStrategy[int]:
    forbidden = schema.get("not", {}).get("const")
    return st.integers(schema["minimum"], schema["maximum"]).filter(lambda number: number != forbidden)


def _texts(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    low, high = schema.get("minLength", 0), schema.get("maxLength", TEXT_MAX_CHARACTERS)
    return st.from_regex(schema["pattern"], fullmatch=True).filter(lambda text: low <= len(text) <= high)


def _instants(earliest: datetime, latest: datetime) -> st.SearchStrategy[datetime]:
    naive = earliest.replace(tzinfo=None), latest.replace(tzinfo=None)
    return st.datetimes(*naive).map(lambda one: one.replace(tzinfo=UTC))


SCALARS: dict[str, Callable[[dict[str, Any]], st.SearchStrategy[Any]]] = {
    "null": lambda _schema: st.none(),
    "integer": _integers,
    "string": _texts,
    "uuid": lambda _schema: st.sampled_from(KNOWN_IDS) | st.uuids().map(str),
    "date": lambda _schema: st.dates(PERIOD_MIN, PERIOD_MAX).map(str),
    "date-time": lambda _schema: _instants(INSTANT_MIN, INSTANT_MAX).map(
        lambda one: one.isoformat().replace("+00:00", "Z")
    ),
}
"""Format, or type where there is none -> the strategy of a field of that kind."""


def bodies(contract: type[Message], *, plain: bool = False) -> st.SearchStrategy[dict[str, Any]]:
    """Every body that a contract allows; where `plain`, one of a few texts, which shrinks a good deal faster."""
    schema = contract.model_json_schema(mode="validation")
    definitions = schema.get("$defs", {})

    def resolved(field: dict[str, Any]) -> dict[str, Any]:
        return definitions[field["$ref"].rpartition("/")[2]] if "$ref" in field else field

    fields = {name: resolved(field) for name, field in schema["properties"].items()}
    return st.fixed_dictionaries(
        {name: st.sampled_from(PLAIN[name]) if plain and name in PLAIN else values(fields[name]) for name in fields}
    )


def records(contract: type[Message], number: int) -> st.SearchStrategy[Sent]:
    """Well-formed records of a type; the number makes their id."""
    times = _instants(EARLIEST, LATEST)
    return st.builds(_record, st.just(contract), bodies(contract, plain=True), times, st.just(number))


def _record(contract: type[Message], body: dict[str, Any], at: datetime, number: int) -> Sent:
    entry = entry_of(contract)
    message = contract.decode(json.dumps(body).encode())
    envelope = Envelope(id=f"00000000-0000-4000-8000-{number:012d}", at=at)
    assert entry.key is not None, "only answers to commands take their key from elsewhere"
    return raw_record(entry.topic, message.encode(), headers_of(contract, envelope), entry.key(message))


@st.composite
def deliveries(draw: Callable[..., Any], number: int) -> Delivery:
    """A sound record from outside, or a spoilt one of anybody."""
    if draw(st.booleans()):
        contract = draw(st.sampled_from(FROM_INSIDE + FROM_OUTSIDE))
        flaw = draw(st.sampled_from(sorted(MUTATIONS)))
        sound = draw(records(contract, number))
        readable = not MUTATIONS[flaw].breaks
        if readable and contract in FROM_INSIDE:
            return Delivery(Spoilt(sound, contract).truncated(1), "truncated", readable=False)
        return Delivery(MUTATIONS[flaw].spoil(Spoilt(sound, contract), draw), flaw, readable=readable)
    return Delivery(draw(records(draw(st.sampled_from(FROM_OUTSIDE)), number)))


@st.composite
def courses(draw: Callable[..., Any], most: int = 8) -> list[list[Delivery]]:
    """What is sent one after the other, and what at once; some of it a second time."""
    sent: list[Delivery] = []
    steps: list[list[Delivery]] = []
    for _ in range(draw(st.integers(1, 3))):
        step: list[Delivery] = []
        for _ in range(draw(st.integers(1, most))):
            if sent and draw(st.integers(0, 3)) == 3:
                step.append(draw(st.sampled_from(sent)))
            else:
                step.append(draw(deliveries(len(sent))))
            sent.append(step[-1])
        steps.append(step)
    return steps
