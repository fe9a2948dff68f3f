"""How a test reaches a service: the one thing that differs between memory and wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Table

    from streams.contract_kit.records import Counts, Emitted, ParkedRecord

__all__ = ["NotSettled", "Transport"]


class NotSettled(Exception):
    """The service has not finished what it was given; the text says what it is waiting for."""


class Transport(Protocol):
    """A running service, seen from outside. Topics and groups are without prefix."""

    async def send(self, records: Sequence[Emitted], /) -> None:
        """Write records to their topics, in order within a topic and key."""
        ...

    async def settle(self) -> None:
        """Wait until everything that was sent, and everything that followed from it, is finished.

        What is not emitted by then will not be, so that "nothing else" is a fact rather than a guess.

        Raises:
            NotSettled: it does not come to an end.
        """
        ...

    async def emitted(self) -> Sequence[Emitted]:
        """What the service has emitted since this was last asked, in order within a topic and key."""
        ...

    async def parked(self) -> Sequence[ParkedRecord]:
        """The unresolved parked records, oldest first."""
        ...

    async def counts(self) -> Mapping[str, Counts]:
        """What became of the records, by group."""
        ...

    def readers(self, topic: str, /) -> Sequence[str]:
        """The groups that read a topic."""
        ...

    async def write_rows(self, table: Table, rows: Sequence[Mapping[str, Any]], /) -> None:
        """Put rows that earlier messages would have left behind."""
        ...

    async def close(self) -> None:
        """Stop the service."""
        ...
