"""Field types that the contracts are made of.

Invariant: every string is bounded and free of NUL, every integer fits its column, every instant is aware
and in UTC. All checks are compiled into pydantic's Rust core, because they run for every record. The limits
have names, so that tables and forms can use the same numbers.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import Field, GetCoreSchemaHandler, GetPydanticSchema, Strict, WithJsonSchema
from pydantic_core import CoreSchema, core_schema

ID_LENGTH: Final = 36
TITLE_MAX_CHARACTERS: Final = 200
NAME_MAX_CHARACTERS: Final = 200
EMAIL_MAX_CHARACTERS: Final = 254
NOTE_MAX_CHARACTERS: Final = 500
EXPLANATION_MAX_CHARACTERS: Final = 500
TYPE_NAME_MAX_CHARACTERS: Final = 100
PROVIDER_REF_MAX_CHARACTERS: Final = 255
PAYOUT_REASON_MAX_CHARACTERS: Final = 255
AMOUNT_MAX_MINOR: Final = 10**12
INT64_MAX: Final = 2**63 - 1
INT64_MIN: Final = -(2**63)
PERIOD_MIN: Final = date(2000, 1, 1)
PERIOD_MAX: Final = date(2999, 12, 31)
INSTANT_MIN: Final = datetime(2000, 1, 1, tzinfo=UTC)
INSTANT_MAX: Final = datetime(2999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)

_ID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_LINE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
_PARAGRAPHS = r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]*$"
_EMAIL = r"^[^\s@\x00-\x1f\x7f-\x9f]+@[^\s@\x00-\x1f\x7f-\x9f]+$"
_CURRENCY = r"^[A-Z]{3}$"
_TYPE_NAME = r"^[a-z][a-z0-9-]*(\.[a-z][a-z0-9-]*)+\.v[1-9][0-9]*$"
_PERIOD = r"^2[0-9]{3}-[0-9]{2}-[0-9]{2}$"
_INSTANT = r"^2[0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|\+00:00)$"

SHAPES: Final[dict[str, str]] = {
    _ID: "should be a UUID in lower case with hyphens",
    _LINE: "should be one line without control characters",
    _PARAGRAPHS: "should have no control characters other than tab and line feed",
    _EMAIL: "should be an e-mail address",
    _CURRENCY: "should be a currency code of 3 upper-case letters",
    _TYPE_NAME: "should be a type name such as tasks.create-task.v1",
    _PERIOD: "should be a date such as 2026-11-22, from the year 2000 to 2999",
    _INSTANT: "should be a UTC time such as 2026-11-22T10:30:00Z, from the year 2000 to 2999",
}
"""What a pattern means, in words: pydantic's own message would show the regular expression."""


@dataclass(frozen=True, slots=True)
class _NotZero:
    """Cuts zero out of a bounded integer; a union of two ranges keeps the check in Rust."""

    def __get_pydantic_core_schema__(self, source: type[int], handler: GetCoreSchemaHandler) -> CoreSchema:
        low, high = -AMOUNT_MAX_MINOR, AMOUNT_MAX_MINOR
        return core_schema.union_schema(
            [
                core_schema.int_schema(strict=True, ge=1, le=high),
                core_schema.int_schema(strict=True, ge=low, le=-1),
            ],
            mode="left_to_right",
            custom_error_type="amount",
            custom_error_message=f"Input should be a whole number other than 0, from {low} to {high}",
        )


def _text_in_json(pattern: str, parsed: CoreSchema, python: CoreSchema) -> GetPydanticSchema:
    """In JSON only text of this pattern, in Python only the type itself.

    Without it pydantic takes "1700006400" for a date, even in strict mode.
    """
    text = core_schema.str_schema(strict=True, pattern=pattern)
    schema = core_schema.json_or_python_schema(
        json_schema=core_schema.chain_schema([text, parsed]), python_schema=python
    )
    return GetPydanticSchema(lambda _source, _handler: schema)


def _string(format_name: str, pattern: str) -> WithJsonSchema:
    shape: dict[str, Any] = {"type": "string", "format": format_name, "pattern": pattern}
    return WithJsonSchema(shape)


Id = Annotated[str, Strict(), Field(pattern=_ID, json_schema_extra={"format": "uuid"})]
"""A UUID as canonical text: lower case, hyphens. Kept as `str`, as it is compared and stored as text."""

Title = Annotated[str, Strict(), Field(min_length=1, max_length=TITLE_MAX_CHARACTERS, pattern=_LINE)]
Name = Annotated[str, Strict(), Field(min_length=1, max_length=NAME_MAX_CHARACTERS, pattern=_LINE)]
Email = Annotated[str, Strict(), Field(max_length=EMAIL_MAX_CHARACTERS, pattern=_EMAIL)]
"""Something, one `@`, something: whether it can be delivered to, only delivery shows."""

Note = Annotated[str, Strict(), Field(max_length=NOTE_MAX_CHARACTERS, pattern=_PARAGRAPHS)]
"""Free text of a person, possibly empty, possibly of several lines."""

Explanation = Annotated[str, Strict(), Field(min_length=1, max_length=EXPLANATION_MAX_CHARACTERS, pattern=_LINE)]
"""One line that tells a person why."""

ProviderRef = Annotated[str, Strict(), Field(min_length=1, max_length=PROVIDER_REF_MAX_CHARACTERS, pattern=_LINE)]
"""What a bank calls one of its payments."""

PayoutReason = Annotated[str, Strict(), Field(min_length=1, max_length=PAYOUT_REASON_MAX_CHARACTERS, pattern=_LINE)]
"""A bank's code for why it refuses or returns money; each bank has its own list."""

TypeName = Annotated[str, Strict(), Field(max_length=TYPE_NAME_MAX_CHARACTERS, pattern=_TYPE_NAME)]
Currency = Annotated[str, Strict(), Field(pattern=_CURRENCY)]

AmountMinor = Annotated[
    int,
    _NotZero(),
    WithJsonSchema({"type": "integer", "minimum": -AMOUNT_MAX_MINOR, "maximum": AMOUNT_MAX_MINOR, "not": {"const": 0}}),
]
"""A signed amount in minor units (cents) that moves: never zero."""

PositiveMinor = Annotated[int, Strict(), Field(ge=1, le=AMOUNT_MAX_MINOR)]
BalanceMinor = Annotated[int, Strict(), Field(ge=INT64_MIN, le=INT64_MAX)]
TotalMinor = Annotated[int, Strict(), Field(ge=0, le=INT64_MAX)]
"""A sum of amounts in minor units; nothing adds up to 0."""

Count = Annotated[int, Strict(), Field(ge=0, le=INT64_MAX)]
Sequence = Annotated[int, Strict(), Field(ge=1, le=INT64_MAX)]

Period = Annotated[
    date,
    _text_in_json(
        _PERIOD,
        core_schema.date_schema(),
        core_schema.date_schema(strict=True, ge=PERIOD_MIN, le=PERIOD_MAX),
    ),
    _string("date", _PERIOD),
]
"""A business date. The years are bounded so that adding days to any valid one cannot overflow."""

Instant = Annotated[
    datetime,
    _text_in_json(
        _INSTANT,
        core_schema.datetime_schema(microseconds_precision="truncate"),
        core_schema.datetime_schema(strict=True, tz_constraint=0, ge=INSTANT_MIN, le=INSTANT_MAX),
    ),
    _string("date-time", _INSTANT),
]
"""A moment: aware, at offset zero, RFC 3339 with `Z`. More than six decimals are cut off when it is read."""

Role = Literal["worker", "manager", "accountant", "admin"]
AssignmentReason = Literal["created", "reassigned"]
TransactionKind = Literal["fee", "reward", "adjustment", "payout", "payout-reversal"]
ReasonCode = Literal[
    "unknown-task",
    "task-exists",
    "not-the-assignee",
    "already-completed",
    "no-active-worker",
    "unknown-worker",
    "wrong-currency",
    "future-date",
    "period-not-over",
    "period-already-closed",
    "superseded",
    "unknown-payout",
    "not-reversed",
    "already-reissued",
    "insufficient-balance",
    "not-allowed",
]
"""Why a command was rejected; what each one means is in docs/ and in INTERFACES' list."""
