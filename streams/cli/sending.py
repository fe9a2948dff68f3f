"""Lines of JSON as records: read, validated against the contracts, one at a time.

Invariant: what `lines_of` gives as a `Sendable` satisfies its contract and has a CloudEvents id; everything else is a
`BadLine` that says which line and why.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from contracts.catalog import UnknownType, entry_for
from contracts.message import InvalidMessage
from streams.outbox.envelope import CONTENT_TYPE, SPEC_VERSION, format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

__all__ = ["SOURCE", "BadLine", "Line", "Sendable", "WaitForSettled", "lines_of", "sendable"]

SOURCE = "payday/cli"
LINE_MAX_BYTES = 1_000_000
FIELDS = frozenset({"type", "data", "id", "time"})
TIME = re.compile(r"2[0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})")


@dataclass(frozen=True, slots=True)
class Sendable:
    """A record, ready for the producer. The topic carries no prefix yet."""

    topic: str
    key: str
    value: bytes
    headers: tuple[tuple[str, str], ...]
    message_id: str


@dataclass(frozen=True, slots=True)
class WaitForSettled:
    """The line that makes sending go on only when everything has settled."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be sent, and why."""

    reason: str


Line = Sendable | WaitForSettled | BadLine


def lines_of(source: BinaryIO, default_type: str | None = None) -> Iterator[tuple[int, Line]]:
    """Each line that is not blank, with its number from 1; at most one line is in memory.

    Args:
        source: of JSON lines.
        default_type: of lines that name none.
    """
    number = 0
    while raw := source.readline(LINE_MAX_BYTES + 1):
        number += 1
        if len(raw) > LINE_MAX_BYTES:
            rest = raw
            while rest and not rest.endswith(b"\n"):
                rest = source.readline(LINE_MAX_BYTES)
            yield number, BadLine(f"is longer than {LINE_MAX_BYTES} bytes")
        elif raw.strip():
            yield number, _line(raw, default_type)


def sendable(type_name: str, data: bytes, message_id: object = None, time_text: object = None) -> Sendable:
    """One record of a type.

    Args:
        type_name: as in the catalogue.
        data: the body as JSON.
        message_id: a UUID; None: a new one.
        time_text: RFC 3339; None: now.

    Raises:
        UnknownType: no contract is called so.
        InvalidMessage: the body breaks its contract.
        ValueError: id or time are none.
    """
    entry = entry_for(type_name)
    message = entry.contract.model_validate_json(data)
    if entry.key is None:
        raise ValueError(f"{type_name} answers a command and takes that command's key: it cannot be sent by itself")
    identifier = str(uuid4()) if message_id is None else _canonical_id(message_id)
    headers = (
        ("ce_specversion", SPEC_VERSION),
        ("ce_id", identifier),
        ("ce_type", type_name),
        ("ce_source", SOURCE),
        ("ce_time", format_time(time.time_ns() // 1_000_000) if time_text is None else _canonical_time(time_text)),
        ("content-type", CONTENT_TYPE),
    )
    return Sendable(entry.topic, entry.key(message), message.encode(), headers, identifier)


def _line(raw: bytes, default_type: str | None) -> Line:
    try:
        return _understood(_parsed(raw), default_type)
    except (UnknownType, InvalidMessage, ValueError) as error:
        return BadLine(str(error))


def _understood(line: object, default_type: str | None) -> Line:
    if not isinstance(line, dict):
        raise ValueError('should be an object: {"type": ..., "data": {...}}')  # noqa: TRY004  bad data, not a bug
    if "wait" in line:
        if line != {"wait": "settled"}:
            raise ValueError('there is only {"wait": "settled"}')
        return WaitForSettled()
    unknown = sorted(line.keys() - FIELDS)
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no field of a line; there are type, data, id and time")
    type_name = line.get("type", default_type)
    if not isinstance(type_name, str):
        raise ValueError("type is missing" if "type" not in line else "type should be text")  # noqa: TRY004  bad data
    if not isinstance(line.get("data"), dict):
        raise ValueError("data is missing" if "data" not in line else "data should be an object")  # noqa: TRY004  ditto
    body = json.dumps(line["data"], ensure_ascii=False).encode("utf-8", "surrogatepass")
    return sendable(type_name, body, line.get("id"), line.get("time"))


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw, object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise ValueError("is not JSON: nested too deeply") from None


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in members:
        if name in found:
            raise ValueError(f"{name[:60]!r} is given more than once")
        found[name] = value
    return found


def _no_constant(constant: str) -> None:
    raise ValueError(f"is not JSON: {constant} is no JSON value")


def _canonical_id(message_id: object) -> str:
    try:
        return str(UUID(message_id if isinstance(message_id, str) else ""))
    except ValueError:
        raise ValueError(f"id {str(message_id)[:60]!r} should be a UUID") from None


def _canonical_time(text: object) -> str:
    if isinstance(text, str) and TIME.fullmatch(text):
        try:
            return format_time(parse_time(text))
        except (ValueError, OverflowError):
            pass
    raise ValueError(f"time {str(text)[:60]!r} should be like 2026-11-22T18:00:00Z")
