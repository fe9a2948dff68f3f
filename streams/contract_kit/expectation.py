"""Finding the emitted message that a test asks for, or saying what came instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from contracts.message import Message
from streams.contract_kit.report import ContractBroken, Difference, compared

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streams.contract_kit.history import History
    from streams.contract_kit.records import Emitted, Received

__all__ = ["Expectation"]

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Expectation(Generic[M]):
    """A message that should have been emitted.

    Attributes:
        contract: its type.
        fields: what its data should be, by field.
        whole: whether `fields` is all of its data rather than a part.
        key: its record key; None where the catalogue's word is enough.
        causes: what it should be caused by.
        direct: whether one of `causes` must be its cause itself, rather than stand further back.
    """

    contract: type[M]
    fields: Mapping[str, Any]
    whole: bool
    key: str | None
    causes: Sequence[Emitted]
    direct: bool

    @classmethod
    def of(
        cls,
        expected: M | type[M],
        fields: Mapping[str, Any],
        key: str | None,
        causes: Sequence[Emitted],
        *,
        direct: bool,
    ) -> Expectation[M]:
        """From a whole message, or from a type with some of its fields.

        Raises:
            TypeError: the type has no such field, so that the test could never be green.
        """
        if isinstance(expected, Message):
            if fields:
                raise TypeError("a whole message has all its fields already")
            data = {name: getattr(expected, name) for name in type(expected).model_fields}
            return cls(type(expected), data, whole=True, key=key, causes=causes, direct=direct)
        if strange := fields.keys() - expected.model_fields.keys():
            raise TypeError(f"{expected.type_name} has no {', '.join(sorted(strange))}")
        return cls(expected, fields, whole=False, key=key, causes=causes, direct=direct)

    def claim(self, history: History) -> Received[M]:
        """The first unclaimed message that is as expected.

        Raises:
            ContractBroken: there is none.
        """
        candidates: list[Received[Any]] = [
            message for message in history.unclaimed if isinstance(message.data, self.contract)
        ]
        compared_rows = [(self._compare(message, history), message) for message in candidates]
        for rows, message in compared_rows:
            if not any(row.matters for row in rows):
                history.claimed.append(message)
                return message
        if not candidates:
            wanted = "".join(f"\n    {name}: {value!r}" for name, value in self.fields.items())
            raise ContractBroken(f"no {self.contract.type_name} was emitted{wanted}\n{history.account()}")
        nearest = min(compared_rows, key=lambda pair: sum(row.matters for row in pair[0]))[0]
        title = "actual" if len(candidates) == 1 else f"actual (nearest of {len(candidates)})"
        raise ContractBroken(
            f"no {self.contract.type_name} is as expected\n{compared(nearest, title)}\n{history.account()}"
        )

    def _compare(self, message: Received[Any], history: History) -> list[Difference]:
        rows = []
        for name in type(message.data).model_fields:
            actual = getattr(message.data, name)
            if name in self.fields:
                expected = self.fields[name]
                rows.append(Difference(name, repr(expected), repr(actual), expected != actual))
            else:
                rows.append(Difference(name, "(anything)", repr(actual), matters=False))
        actual_key = None if message.key is None else message.key.decode(errors="backslashreplace")
        if self.key is None:
            rows.append(Difference("key", "(the catalogue's)", repr(actual_key), matters=False))
        else:
            rows.append(Difference("key", repr(self.key), repr(actual_key), self.key != actual_key))
        rows.append(self._compare_cause(message, history))
        if (overtaken := self._overtaken(message, history)) is not None:
            rows.append(Difference("order", f"after {overtaken.type}, of the same key", "before it"))
        return rows

    def _compare_cause(self, message: Received[Any], history: History) -> Difference:
        names = " or ".join(history.name(cause.id) for cause in self.causes)
        if self.direct:
            matters = message.cause_id not in {cause.id for cause in self.causes}
        else:
            matters = not history.is_caused_by(message, self.causes)
            names = f"{names} or what follows from it"
        return Difference("caused by", names, history.name(message.cause_id), matters)

    @staticmethod
    def _overtaken(message: Received[Any], history: History) -> Received[Message] | None:
        """A message of the same topic and key that the test expects earlier and that came later."""
        for other in history.claimed:
            same_key = (other.topic, other.key) == (message.topic, message.key)
            if same_key and other.position > message.position and history.causes_have_order(other, message):
                return other
        return None
