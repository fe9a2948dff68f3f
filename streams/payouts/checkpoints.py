"""The moments of a payout between which a process may die, by name.

A worker calls a hook at each of them. The default does nothing; tests give one that kills or freezes the process there.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

__all__ = ["Checkpoint", "Hook", "go_on"]


class Checkpoint(StrEnum):
    """In the order in which a payout passes them."""

    SHARD_CLAIMED = "shard-claimed"
    """The claim is committed."""
    ACCOUNTS_LOCKED = "accounts-locked"
    """Between the two statements of a chunk: accounts are locked, what they are owed is not read yet."""
    CHUNK_HALF_WRITTEN = "chunk-half-written"
    """The balances are lowered, transfers and events are not written yet."""
    CHUNK_WRITTEN = "chunk-written"
    """Everything of a chunk is written and not committed."""
    CHUNK_COMMITTED = "chunk-committed"
    """The commit of a chunk was acknowledged."""
    SENDING_COMMITTED = "sending-committed"
    """Payouts are `sending`, the bank was not called yet."""
    BANK_ANSWERED = "bank-answered"
    """The bank has answered, nothing is written down yet."""
    OUTCOMES_WRITTEN = "outcomes-written"
    """Settlements and reversals are written and not committed."""
    OUTCOMES_COMMITTED = "outcomes-committed"
    """Their commit was acknowledged."""


Hook = Callable[[Checkpoint], None]


def go_on(_passed: Checkpoint) -> None:
    """The hook of production."""
