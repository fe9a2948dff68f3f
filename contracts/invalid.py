"""Errors about a message's content, and their translation from pydantic's.

    ValueError
    └── InvalidMessage            JSON, or arguments, that are not what the contract says
        └── UndecodableMessage    bytes that are not JSON at all

Invariant: the text is one printable line of at most `TEXT_MAX_CHARACTERS`. It names fields and rules and
never shows a value, since a value may be huge, unprintable or private.
"""

from typing import Final, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from contracts.fields import SHAPES

TEXT_MAX_CHARACTERS: Final = 1000
LISTED_PROBLEMS_MAX: Final = 5
FIELD_MAX_CHARACTERS: Final = 60
REASON_MAX_CHARACTERS: Final = 400

_REASONS: Final = {
    "missing": "is missing",
    "extra_forbidden": "is not a field of this message",
    "model_type": "should be an object",
    "string_unicode": "should be valid Unicode",
    "timezone_aware": "should be in UTC",
    "timezone_offset": "should be in UTC",
}


class Problem(NamedTuple):
    """One rule that a message breaks. `field` is empty when it concerns the message as a whole."""

    field: str
    reason: str

    def __str__(self) -> str:
        """The problem as part of a line."""
        return f"{self.field}: {self.reason}" if self.field else self.reason


class InvalidMessage(ValueError):
    """A message that breaks its contract.

    `type_name` is the contract's type name, or its class name while it is in no catalogue.
    """

    def __init__(self, type_name: str, problems: tuple[Problem, ...]) -> None:
        """Both arguments are kept as attributes; the text is only built when somebody reads it."""
        super().__init__(type_name, problems)
        self.type_name = type_name
        self.problems = problems

    def __str__(self) -> str:
        """One line: the type name, then at most `LISTED_PROBLEMS_MAX` problems."""
        listed = "; ".join(map(str, self.problems[:LISTED_PROBLEMS_MAX]))
        rest = len(self.problems) - LISTED_PROBLEMS_MAX
        more = f"; and {rest} more" if rest > 0 else ""
        return shortened(f"{self.type_name}: {listed}", TEXT_MAX_CHARACTERS - len(more)) + more


class UndecodableMessage(InvalidMessage):
    """Bytes that are not UTF-8 JSON: empty, truncated, another encoding, `NaN`, nested too deeply."""


def translated(type_name: str, error: ValidationError) -> InvalidMessage:
    """Our error for pydantic's, without the input that pydantic's holds on to."""
    details = error.errors(include_url=False, include_input=False)
    problems = tuple(Problem(_field(detail), _reason(detail)) for detail in details)
    if details[0]["type"] == "json_invalid":
        return UndecodableMessage(type_name, problems)
    return InvalidMessage(type_name, problems)


def shortened(text: str, limit: int) -> str:
    """At most `limit` printable characters of a text; whatever is not printable becomes `?`."""
    kept = "".join(c if c.isprintable() else "?" for c in text[:limit])
    return kept if len(text) <= limit else kept[:-1] + "…"


def _field(detail: ErrorDetails) -> str:
    return shortened(".".join(str(part)[: FIELD_MAX_CHARACTERS + 1] for part in detail["loc"]), FIELD_MAX_CHARACTERS)


def _reason(detail: ErrorDetails) -> str:
    kind, message = detail["type"], detail["msg"]
    if kind in _REASONS:
        return _REASONS[kind]
    if kind == "json_invalid":
        message = "is not JSON: " + message.removeprefix("Invalid JSON: ")
    elif kind == "string_pattern_mismatch":
        message = SHAPES.get(detail["ctx"]["pattern"], "has the wrong form")
    for subject in ("Input ", "String "):
        message = message.removeprefix(subject)
    return shortened(message, REASON_MAX_CHARACTERS)
