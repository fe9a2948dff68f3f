"""Every contract comes back from the wire as it went, for whatever values its schema allows."""

import datetime as dt
import functools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.catalog import CATALOG, Entry
from contracts.message import InvalidMessage, Message

FORMATS: dict[str, st.SearchStrategy[Any]] = {
    "uuid": st.uuids().map(str),
    "date": st.dates(dt.date(2000, 1, 1), dt.date(2999, 12, 31)),
    "date-time": st.datetimes(
        dt.datetime(2000, 1, 1),  # noqa: DTZ001 - the time zone is given below
        dt.datetime(2999, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001 - as above
        timezones=st.just(dt.UTC),
    ),
}
IDS = [entry.type_name for entry in CATALOG]


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Python values for one property of a contract's schema."""
    if "anyOf" in schema:
        return st.one_of(*(values(option) for option in schema["anyOf"]))
    if schema["type"] == "null":
        return st.none()
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema["type"] == "integer":
        return st.integers(schema["minimum"], schema["maximum"]).filter(
            lambda number: number != schema.get("not", {}).get("const")
        )
    if "format" in schema:
        return FORMATS[schema["format"]]
    longest = schema.get("maxLength", 10**6)
    shaped = st.from_regex(schema["pattern"], fullmatch=True)
    return shaped.map(lambda text: text.removesuffix("\n")).filter(
        lambda text: schema.get("minLength", 0) <= len(text) <= longest
    )


@functools.cache
def messages(contract: type[Message]) -> st.SearchStrategy[Message]:
    """Messages of one contract, made as a producer makes them; optional fields come and go."""
    schema = contract.model_json_schema(mode="serialization")
    required = {name: values(schema["properties"][name]) for name in schema["required"]}
    optional = {name: values(part) for name, part in schema["properties"].items() if name not in schema["required"]}
    return st.fixed_dictionaries(required, optional=optional).map(lambda fields: contract(**fields))


@pytest.mark.parametrize("entry", CATALOG, ids=IDS)
@given(data=st.data())
def test_a_message_comes_back_as_it_went(entry: Entry, data: st.DataObject) -> None:
    """Decoding what was encoded gives an equal message, and encoding that gives the same bytes."""
    message = data.draw(messages(entry.contract))
    value = message.encode()
    again = entry.contract.decode(value)
    assert again == message
    assert again.encode() == value
    assert entry.contract.model_validate_json(value) == message


@pytest.mark.parametrize("entry", CATALOG, ids=IDS)
@given(data=st.data())
def test_a_body_is_plain_compact_json(entry: Entry, data: st.DataObject) -> None:
    """Any JSON reader sees the same fields; nothing is null, nothing is padded."""
    message = data.draw(messages(entry.contract))
    body = json.loads(message.encode())
    expected = {name: value for name, value in message.model_dump(mode="json").items() if value is not None}
    assert body == expected
    assert message.encode() == json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


@given(value=st.binary() | st.text().map(str.encode))
def test_arbitrary_bytes_are_never_another_error(value: bytes) -> None:
    """Whatever the bytes, a contract answers with a message or with `InvalidMessage`."""
    for entry in CATALOG:
        with pytest.raises(InvalidMessage):
            entry.contract.decode(value)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("entry", CATALOG, ids=IDS)
@given(data=st.data())
def test_a_mutated_field_is_read_or_refused(entry: Entry, data: st.DataObject) -> None:
    """Any JSON value in any field gives a message of the contract or `InvalidMessage` in one short line."""
    body = json.loads(data.draw(messages(entry.contract)).encode())
    name = data.draw(st.sampled_from(sorted(entry.contract.model_fields)))
    body[name] = data.draw(JSON_VALUES)
    try:
        message = entry.contract.decode(json.dumps(body).encode())
    except InvalidMessage as error:
        text = str(error)
        assert text.startswith(f"{entry.type_name}: ")
        assert text.isprintable()
        assert len(text) <= 1000
    else:
        assert type(message) is entry.contract
        assert entry.contract.decode(message.encode()) == message
