"""The second look at JSON text, for what pydantic's parser lets pass.

Invariant: what has no flaw here means the same to every reader, because names are unique within each object
and the constants that JSON does not have (`NaN`, `Infinity`) do not occur.
"""

import json
from typing import Never

from contracts.invalid import (
    FIELD_MAX_CHARACTERS,
    REASON_MAX_CHARACTERS,
    InvalidMessage,
    Problem,
    UndecodableMessage,
    shortened,
)


class _RepeatedNameError(ValueError):
    """An object has the same name twice: one reader takes the first value, another the last."""


def flaw_in(type_name: str, value: bytes) -> InvalidMessage | None:
    """What is wrong with text that pydantic could parse: the error to raise, or None."""
    try:
        _DECODER.decode(value.decode())
    except _RepeatedNameError as error:
        name = shortened(str(error), FIELD_MAX_CHARACTERS)
        return InvalidMessage(type_name, (Problem(name, "is given more than once"),))
    except (ValueError, RecursionError) as error:
        reason = shortened(f"is not JSON: {error}", REASON_MAX_CHARACTERS)
        return UndecodableMessage(type_name, (Problem("", reason),))
    return None


def _refuse_repeated_names(members: list[tuple[str, object]]) -> None:
    seen: set[str] = set()
    for name, _ in members:
        if name in seen:
            raise _RepeatedNameError(name)
        seen.add(name)


def _refuse_constant(constant: str) -> Never:
    raise ValueError(f"{constant} is no JSON value")


_DECODER = json.JSONDecoder(object_pairs_hook=_refuse_repeated_names, parse_constant=_refuse_constant)
