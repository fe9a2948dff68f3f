"""Failure messages: expected and actual side by side, and everything else that happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streams.contract_kit.records import Emitted, ParkedRecord

__all__ = ["ContractBroken", "Difference", "compared", "describe", "describe_parked", "listed"]

CELL_MAX_CHARACTERS = 60
VALUE_MAX_CHARACTERS = 300
INDENT = "    "


class ContractBroken(AssertionError):
    """The service did not do what its contract says; the text shows what it did instead."""


class Difference(NamedTuple):
    """One thing that was looked at. `matters` marks those that made the test fail."""

    what: str
    expected: str
    actual: str
    matters: bool = True


def compared(rows: Iterable[Difference], actual_title: str = "actual") -> str:
    """A table of expected and actual; a `!` stands before each row that differs."""
    cells = [(" ", "", "expected", actual_title)]
    cells += [("!" if row.matters else " ", row.what, _cell(row.expected), _cell(row.actual)) for row in rows]
    what, expected = (max(len(row[column]) for row in cells) for column in (1, 2))
    return "\n".join(
        f"{INDENT}{mark} {name:<{what}}  {wanted:<{expected}}  {got}".rstrip() for mark, name, wanted, got in cells
    )


def describe(record: Emitted, names: dict[str, str]) -> str:
    """An emitted record on one line.

    Args:
        record: what to describe.
        names: `ce_id` -> what to call the message with that id.
    """
    cause = names.get(record.cause_id, f"unknown {record.cause_id!r}") if record.cause_id else "nothing"
    return (
        f"{record.type or 'no type'} on {record.topic} key={_text(record.key, CELL_MAX_CHARACTERS)} "
        f"caused by {cause}: {_text(record.value, VALUE_MAX_CHARACTERS)}"
    )


def describe_parked(record: ParkedRecord) -> str:
    """A parked record on one line."""
    place = f"{record.topic}[{record.partition}]@{record.offset}"
    return f"{place} by {record.group}: {record.reason} ({record.state}), {record.error[:VALUE_MAX_CHARACTERS]}"


def listed(title: str, lines: Sequence[str]) -> str:
    """A titled list, which says so when it is empty."""
    if not lines:
        return f"{title}: nothing"
    return "\n".join([f"{title}:", *(f"{INDENT}{number}. {line}" for number, line in enumerate(lines, 1))])


def _cell(text: str) -> str:
    return text if len(text) <= CELL_MAX_CHARACTERS else text[: CELL_MAX_CHARACTERS - 1] + "…"


def _text(value: bytes | None, limit: int) -> str:
    if value is None:
        return "none"
    text = value[: 4 * limit].decode(errors="backslashreplace")
    return text if len(text) <= limit else text[: limit - 1] + "…"
