"""Record headers as bytes for a table, exactly reversible.

A header's value is any bytes or nothing. Text stands as text, so that a person can read the column; what is not UTF-8
stands as base64 under a name that text cannot take.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from pydantic_core import from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Headers", "pack", "pack_text", "unpack"]

Headers = list[tuple[str, bytes | None]]
"""In the order in which they came; a name may repeat (Kafka allows both)."""


def pack(headers: Iterable[tuple[str, str | bytes | None]]) -> bytes:
    """Headers as JSON bytes."""
    return to_json([(name, _packed(value)) for name, value in headers])


def pack_text(headers: list[tuple[str, str]]) -> bytes:
    """The same for headers that are all text, as ours are."""
    return to_json(headers)


def unpack(packed: bytes) -> Headers:
    """The headers that `pack` was given."""
    return [(name, _unpacked(value)) for name, value in from_json(packed)]


def _packed(value: str | bytes | None) -> object:
    if value is None or isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _unpacked(value: str | dict[str, str] | None) -> bytes | None:
    if isinstance(value, str):
        return value.encode()
    if value is None:
        return None
    return base64.b64decode(value["base64"])
