"""The parked records, for people: a list with filters, groups by cause, one in full.

`blocked` is a position and not a stored state: a record waits behind an earlier unresolved one of its key.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, func, select

from streams.intake.parking import DEAD, RETRYING
from streams.intake.tables import operator_action, parked
from streams.outbox.envelope import format_time
from streams.outbox.headers import unpack

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["STATES", "ParkedFilter", "by_cause", "list_parked", "show_parked"]

BLOCKED, RESOLVED, DISCARDED = "blocked", "resolved", "discarded"
STATES = (RETRYING, BLOCKED, DEAD, RESOLVED, DISCARDED)
"""As shown."""

_shown_state = case(
    (parked.c.resolved_at_ms.is_not(None), case((parked.c.state == DISCARDED, DISCARDED), else_=RESOLVED)),
    ((parked.c.state == RETRYING) & parked.c.next_attempt_at_ms.is_(None), BLOCKED),
    else_=parked.c.state,
).label("shown_state")


@dataclass(frozen=True, slots=True)
class ParkedFilter:
    """Which parked records to list; None: any. Without a state, the unresolved ones."""

    group: str | None = None
    topic: str | None = None
    key: str | None = None
    reason: str | None = None
    state: str | None = None
    type: str | None = None
    limit: int = 1000


async def list_parked(connection: AsyncConnection, wanted: ParkedFilter) -> list[dict[str, Any]]:
    """In the order in which they were parked."""
    statement = _filtered(select(parked, _shown_state), wanted).order_by(parked.c.id).limit(wanted.limit)
    return [_brief(dict(row)) for row in (await connection.execute(statement)).mappings()]


async def by_cause(connection: AsyncConnection, wanted: ParkedFilter) -> list[dict[str, Any]]:
    """Counts by group, topic, reason and kind of error, the most frequent first, each with the id of its oldest."""
    cause = (parked.c.group_name.label("group"), parked.c.topic, parked.c.reason, parked.c.error_type)
    statement = (
        _filtered(
            select(
                *cause,
                func.count().label("count"),
                func.count(func.distinct(parked.c.key_hash)).label("keys"),
                func.min(parked.c.id).label("oldest_id"),
                func.min(parked.c.parked_at_ms).label("since"),
                func.min(parked.c.error).label("error"),
            ),
            wanted,
        )
        .group_by(parked.c.group_name, parked.c.topic, parked.c.reason, parked.c.error_type)
        .order_by(func.count().desc(), func.min(parked.c.id))
        .limit(wanted.limit)
    )
    rows = (await connection.execute(statement)).mappings()
    return [{**row, "since": format_time(row["since"])} for row in rows]


async def show_parked(connection: AsyncConnection, record_id: int) -> dict[str, Any] | None:
    """One record whole: also headers, body and stack. Bytes that are not text stand as {"base64": ...}."""
    statement = select(parked, _shown_state).where(parked.c.id == record_id)
    row = (await connection.execute(statement)).mappings().one_or_none()
    if row is None:
        return None
    return {
        **_brief(dict(row)),
        "source": row["source"],
        "message_id": row["message_id"],
        "timestamp": format_time(row["timestamp_ms"]),
        "holds_key": row["holds_key"],
        "next_attempt_at": _time(row["next_attempt_at_ms"]),
        "resolved_at": _time(row["resolved_at_ms"]),
        "error_type": row["error_type"],
        "stack": row["stack"],
        "headers": [[name, _text(value)] for name, value in unpack(row["headers"])],
        "value": _text(row["value"]),
        "edits": row["edits"],
        "edited_headers": (
            None
            if row["edited_headers"] is None
            else [[name, _text(value)] for name, value in unpack(row["edited_headers"])]
        ),
        "edited_value": _text(row["edited_value"]),
        "actions": await _actions(connection, record_id),
    }


async def _actions(connection: AsyncConnection, record_id: int) -> list[dict[str, Any]]:
    """What operators did with it, the oldest first."""
    found = await connection.execute(
        select(operator_action).where(operator_action.c.subject == f"parked {record_id}").order_by(operator_action.c.id)
    )
    return [
        {"at": format_time(row["at_ms"]), **{name: row[name] for name in ("who", "action", "reason", "detail")}}
        for row in found.mappings()
    ]


def _filtered(statement: Select[Any], wanted: ParkedFilter) -> Select[Any]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.state is None:
        conditions.append(parked.c.resolved_at_ms.is_(None))
    else:
        conditions.append(_shown_state.element == wanted.state)
    for column, value in (
        (parked.c.group_name, wanted.group),
        (parked.c.topic, wanted.topic),
        (parked.c.reason, wanted.reason),
        (parked.c.type, wanted.type),
    ):
        if value is not None:
            conditions.append(column == value)
    if wanted.key is not None:
        conditions.append(parked.c.key == wanted.key.encode("utf-8", "surrogateescape"))
    return statement.where(*conditions)


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "group": row["group_name"],
        "topic": row["topic"],
        "partition": row["partition"],
        "offset": row["offset"],
        "key": _text(row["key"]),
        "type": row["type"],
        "reason": row["reason"],
        "state": row["shown_state"],
        "attempts": row["attempts"],
        "error": row["error"],
        "parked_at": format_time(row["parked_at_ms"]),
    }


def _text(value: bytes | None) -> str | dict[str, str] | None:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _time(time_ms: int | None) -> str | None:
    return None if time_ms is None else format_time(time_ms)
