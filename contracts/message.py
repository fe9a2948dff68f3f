"""The base of every contract: strict when written, tolerant of unknown fields when read.

    ValueError
    └── InvalidMessage            JSON, or arguments, that are not what the contract says
        └── UndecodableMessage    bytes that are not JSON at all

Invariant: however a message comes to be (constructor, `model_validate`, `model_validate_json`, `decode`), it
satisfies its contract or `InvalidMessage` is raised, and no other exception. pydantic's unvalidated doors,
`model_construct` and `model_copy(update=...)`, are not for contracts.
"""

from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from contracts.invalid import InvalidMessage, Problem, UndecodableMessage, translated
from contracts.strict_json import flaw_in

__all__ = ["InvalidMessage", "Message", "Problem", "UndecodableMessage"]

if TYPE_CHECKING:
    # Type checkers must go on seeing pydantic's constructor signatures.
    from pydantic._internal._model_construction import ModelMetaclass as _Constructor
else:

    class _Constructor(type(BaseModel)):
        """Translates the errors of a constructor call.

        An `__init__` of our own would be called for every record that is decoded; this is not.
        """

        def __call__(cls, *args: Any, **fields: Any) -> Any:
            try:
                return super().__call__(*args, **fields)
            except ValidationError as error:
                failure = translated(cls.type_name, error)
            raise failure


class Message(BaseModel, metaclass=_Constructor):
    """A message on Kafka. The value of its record is the JSON body alone; metadata travels in headers.

    `type_name` is what the catalogue calls the contract, the class name until it is catalogued.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)

    type_name: ClassVar[str] = "Message"

    def __init_subclass__(cls, **options: Any) -> None:
        """Give each class a name of its own, so that none inherits another contract's."""
        super().__init_subclass__(**options)
        cls.type_name = cls.__name__

    @classmethod
    def decode(cls, value: bytes | None) -> Self:
        """Read a record's value as a consumer does: fields that this version does not know are ignored.

        Raises `UndecodableMessage` for bytes that are not JSON (or no bytes: a tombstone), `InvalidMessage`
        for JSON that breaks the contract, repeated names included.
        """
        if value is None:
            raise UndecodableMessage(cls.type_name, (Problem("", "has no bytes"),))
        try:
            message: Self = cls.__pydantic_validator__.validate_json(value, extra="ignore")
        except ValidationError as error:
            failure = _refusal(cls.type_name, error, value)
        else:
            # Outside strings there is one colon per member. As many colons as fields leaves no room for a
            # repeated name or an unknown field: the usual message is spared the second look.
            if value.count(b":") == len(message.__pydantic_fields_set__):
                return message
            flaw = flaw_in(cls.type_name, value)
            if flaw is None:
                return message
            failure = flaw
        raise failure

    def encode(self) -> bytes:
        """The record's value: compact UTF-8 JSON, optional fields that are `None` left out."""
        return self.__pydantic_serializer__.to_json(self, exclude_none=True)

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """As pydantic's, but raises `InvalidMessage`."""
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            failure = translated(cls.type_name, error)
        raise failure

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """Read JSON as a producer does: unknown fields are refused. Raises `InvalidMessage`."""
        value = json_data.encode(errors="surrogatepass") if isinstance(json_data, str) else bytes(json_data)
        try:
            message = super().model_validate_json(value, **options)
        except ValidationError as error:
            failure = _refusal(cls.type_name, error, value)
        else:
            flaw = flaw_in(cls.type_name, value)
            if flaw is None:
                return message
            failure = flaw
        raise failure


def _refusal(type_name: str, error: ValidationError, value: bytes) -> InvalidMessage:
    """Prefer what is wrong with the text as such: fields are only meaningful in sound JSON."""
    failure = translated(type_name, error)
    if isinstance(failure, UndecodableMessage):
        return failure
    return flaw_in(type_name, value) or failure
