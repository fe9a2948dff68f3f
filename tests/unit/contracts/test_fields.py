"""Each field type accepts what lies on its bound and refuses what lies beyond it, in JSON and in Python."""

import datetime as dt
import json
from typing import Any

import pytest

from contracts.fields import (
    AmountMinor,
    BalanceMinor,
    Currency,
    Email,
    Explanation,
    Id,
    Instant,
    Name,
    Note,
    Period,
    PositiveMinor,
    ReasonCode,
    Sequence,
    Title,
    TypeName,
)
from contracts.message import InvalidMessage, Message

UUID = "0192f0c1-aaaa-7bbb-8ccc-0123456789ab"
UTC = dt.UTC


class Sample(Message):
    """One field of every type."""

    id: Id = UUID
    title: Title = "t"
    name: Name = "n"
    email: Email = "a@b"
    note: Note = ""
    explanation: Explanation = "e"
    type_of: TypeName = "a.b.v1"
    currency: Currency = "USD"
    amount: AmountMinor = 1
    positive: PositiveMinor = 1
    balance: BalanceMinor = 0
    sequence: Sequence = 1
    period: Period = dt.date(2026, 11, 22)
    instant: Instant = dt.datetime(2026, 11, 22, tzinfo=UTC)
    reason: ReasonCode = "unknown-task"


CONTROLS = [chr(c) for c in (0x00, 0x01, 0x0B, 0x1B, 0x1F, 0x7F, 0x80, 0x9F)]

GOOD: dict[str, list[Any]] = {
    "id": [UUID, "00000000-0000-0000-0000-000000000000"],
    "title": ["x", "x" * 200, "\U0001f600" * 200, "a: b", "“é”"],
    "name": ["x", "x" * 200],
    "email": ["a@b", "a" * 252 + "@b"],
    "note": ["", "x", "x" * 500, "two\nlines\tand a tab"],
    "explanation": ["x", "x" * 500],
    "type_of": ["tasks.create-task.v1", "a.b.c.v12", "a." + "b" * 95 + ".v1"],
    "currency": ["USD", "ZZZ"],
    "amount": [1, -1, 10**12, -(10**12)],
    "positive": [1, 10**12],
    "balance": [0, 2**63 - 1, -(2**63)],
    "sequence": [1, 2**63 - 1],
    "reason": ["unknown-task", "not-allowed"],
}

WRONG_TEXT: list[Any] = [None, 1, True, [], {}, 1.5]
WRONG_INTEGER: list[Any] = [None, "1", True, 1.0, 1.5, [], {}]

BAD: dict[str, list[Any]] = {
    "id": [*WRONG_TEXT, "", UUID.upper(), UUID.replace("-", ""), "{" + UUID + "}", UUID + "\n", UUID + "0"],
    "title": [*WRONG_TEXT, "", "x" * 201, "a\nb", "a\u2028b", "a\tb", *CONTROLS],
    "name": [*WRONG_TEXT, "", "x" * 201, "a\nb", *CONTROLS],
    "email": [*WRONG_TEXT, "", "a", "@", "a@", "@b", "a@b@c", "a b@c", "a@b\n", "a" * 253 + "@b", "\x00@b"],
    "note": [*WRONG_TEXT, "x" * 501, *CONTROLS],
    "explanation": [*WRONG_TEXT, "", "x" * 501, "a\nb", *CONTROLS],
    "type_of": [*WRONG_TEXT, "", "a.v1", "a.b", "A.b.v1", "a.b.v0", "a.b.v1\n", "a." + "b" * 96 + ".v1"],
    "currency": [*WRONG_TEXT, "", "usd", "US", "USDD", "US\n", "USD\n", "ÜSD"],
    "amount": [*WRONG_INTEGER, 0, 10**12 + 1, -(10**12) - 1, 2**63, 10**100],
    "positive": [*WRONG_INTEGER, 0, -1, 10**12 + 1, 10**100],
    "balance": [*WRONG_INTEGER, 2**63, -(2**63) - 1, 10**100],
    "sequence": [*WRONG_INTEGER, 0, -1, 2**63, 10**100],
    "reason": [*WRONG_TEXT, "", "unknown", "UNKNOWN-TASK"],
}


def cases(table: dict[str, list[Any]]) -> list[Any]:
    """One test case per value, named so that a failure can be read."""
    return [
        pytest.param(field, value, id=f"{field}-{number}")
        for field, values in table.items()
        for number, value in enumerate(values)
    ]


def decoded(field: str, value: Any) -> Any:
    """Read one field from JSON."""
    return getattr(Sample.decode(json.dumps({field: value}).encode()), field)


@pytest.mark.parametrize(("field", "value"), cases(GOOD))
def test_a_value_on_the_bound_is_accepted(field: str, value: Any) -> None:
    """What lies on the bound comes through unchanged, from JSON and from Python."""
    assert decoded(field, value) == value
    assert getattr(Sample.model_validate({field: value}), field) == value


@pytest.mark.parametrize(("field", "value"), cases(BAD))
def test_a_value_beyond_the_bound_is_refused(field: str, value: Any) -> None:
    """What lies beyond the bound, or is of another type, is refused with the name of its field."""
    with pytest.raises(InvalidMessage) as caught:
        decoded(field, value)
    assert {problem.field for problem in caught.value.problems} == {field}
    with pytest.raises(InvalidMessage) as caught:
        Sample.model_validate({field: value})
    assert {problem.field for problem in caught.value.problems} == {field}


@pytest.mark.parametrize("text", ["2000-01-01", "2024-02-29", "2026-11-22", "2999-12-31"])
def test_a_period_is_read_from_an_iso_date(text: str) -> None:
    """A date in JSON is exactly `YYYY-MM-DD` and is written the same."""
    expected = dt.date.fromisoformat(text)
    assert decoded("period", text) == expected
    assert type(decoded("period", text)) is dt.date
    assert Sample(period=expected).period == expected
    assert f'"period":"{text}"'.encode() in Sample(period=expected).encode()


@pytest.mark.parametrize(
    "value",
    [
        "1999-12-31",
        "3000-01-01",
        "2026-02-29",
        "2026-13-01",
        "2026-1-2",
        "20261122",
        "1700006400",
        "2026-11-22T00:00:00",
        "2026-11-22T00:00:00Z",
        "2026-11-22 ",
        "2026-11-22\n",
        "",
        1700006400,
        20261122,
        1.5,
        True,
        None,
        [],
    ],
)
def test_a_period_is_nothing_else(value: Any) -> None:
    """Timestamps, numbers and dates that do not exist are refused; pydantic alone would take some of them."""
    with pytest.raises(InvalidMessage, match="period: "):
        decoded("period", value)
    with pytest.raises(InvalidMessage, match="period: "):
        Sample.model_validate({"period": value})


@pytest.mark.parametrize(
    "value",
    [dt.date(1999, 12, 31), dt.date(3000, 1, 1), dt.datetime(2026, 11, 22, tzinfo=UTC)],
)
def test_a_period_in_python_is_a_date_within_the_years(value: dt.date) -> None:
    """A datetime is no date, and the years are bounded in Python too."""
    with pytest.raises(InvalidMessage, match="period: "):
        Sample(period=value)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2000-01-01T00:00:00Z", "2000-01-01T00:00:00Z"),
        ("2026-11-22T10:30:00Z", "2026-11-22T10:30:00Z"),
        ("2026-11-22T10:30:00+00:00", "2026-11-22T10:30:00Z"),
        ("2026-11-22T10:30:00.5Z", "2026-11-22T10:30:00.500000Z"),
        ("2026-11-22T10:30:00.123456Z", "2026-11-22T10:30:00.123456Z"),
        ("2026-11-22T10:30:00.123456789Z", "2026-11-22T10:30:00.123456Z"),
        ("2999-12-31T23:59:59.999999Z", "2999-12-31T23:59:59.999999Z"),
    ],
)
def test_an_instant_is_aware_and_written_with_z(text: str, written: str) -> None:
    """An instant in JSON is RFC 3339 in UTC, is aware once read, and is written with `Z`."""
    instant = decoded("instant", text)
    assert instant.utcoffset() == dt.timedelta(0)
    assert f'"instant":"{written}"'.encode() in Sample(instant=instant).encode()
    assert decoded("instant", written) == instant


@pytest.mark.parametrize(
    "value",
    [
        "1999-12-31T23:59:59Z",
        "3000-01-01T00:00:00Z",
        "2026-11-22T10:30:00",
        "2026-11-22T10:30:00+02:00",
        "2026-11-22T10:30:00-00:00",
        "2026-11-22T10:30:60Z",
        "2026-11-22T24:30:00Z",
        "2026-02-30T10:30:00Z",
        "2026-11-22 10:30:00Z",
        "2026-11-22T10:30Z",
        "2026-11-22T10:30:00.1234567890Z",
        "2026-11-22T10:30:00Z\n",
        "2026-11-22",
        "1700000000",
        "",
        1700000000,
        1.5,
        True,
        None,
    ],
)
def test_an_instant_is_nothing_else(value: Any) -> None:
    """Local times, other offsets, leap seconds, timestamps and numbers are refused."""
    with pytest.raises(InvalidMessage, match="instant: "):
        decoded("instant", value)
    with pytest.raises(InvalidMessage, match="instant: "):
        Sample.model_validate({"instant": value})


@pytest.mark.parametrize(
    "value",
    [
        dt.datetime(2026, 11, 22),  # noqa: DTZ001 - naive on purpose
        dt.datetime(2026, 11, 22, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        dt.datetime(1999, 12, 31, tzinfo=UTC),
        dt.datetime(3000, 1, 1, tzinfo=UTC),
    ],
)
def test_an_instant_in_python_is_in_utc(value: dt.datetime) -> None:
    """A naive datetime, another offset and a year out of bounds are refused."""
    with pytest.raises(InvalidMessage, match="instant: "):
        Sample(instant=value)


def test_a_lone_surrogate_in_python_text_is_refused() -> None:
    """Text that UTF-8 cannot write is refused when the message is made, not when it is sent."""
    with pytest.raises(InvalidMessage, match="title: should be valid Unicode"):
        Sample(title="\ud800")


def test_the_schema_states_the_bounds() -> None:
    """Generated documentation shows every string's bound or pattern and every integer's range."""
    for mode in ("validation", "serialization"):
        properties = Sample.model_json_schema(mode=mode)["properties"]
        assert properties["id"]["format"] == "uuid"
        assert properties["period"]["format"] == "date"
        assert properties["instant"]["format"] == "date-time"
        assert properties["amount"]["not"] == {"const": 0}
        for name, schema in properties.items():
            if schema["type"] == "integer":
                assert {"minimum", "maximum"} <= schema.keys(), name
            else:
                assert {"maxLength", "pattern", "enum"} & schema.keys(), name
