"""The records that one handler call gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args

from pydantic_core import core_schema

from streams.intake.record import Record

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler

__all__ = ["Batch"]

T = TypeVar("T")


class Batch(list[Record], Generic[T]):
    """A list of records whose messages are of the given types.

    For Python it validates by `isinstance` alone: the messages were validated when they were decoded. Its JSON schema
    is that of one record's message, because that is what stands on the wire: `faststream docs gen` shows it.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        (message_types,) = get_args(source)
        return core_schema.json_or_python_schema(
            json_schema=handler.generate_schema(message_types),
            python_schema=core_schema.is_instance_schema(cls),
        )
