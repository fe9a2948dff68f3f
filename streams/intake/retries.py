"""How a group treats records that it could not handle: how often, how soon, what waits, how many may be kept."""

from __future__ import annotations

from dataclasses import dataclass

from streams.intake.record import Reason
from streams.resilience.backoff import Backoff

__all__ = ["Retries"]

_DOUBLINGS_MAX = 60


@dataclass(frozen=True, slots=True)
class Retries:
    """What a subscription may set about its parked records.

    Attributes:
        attempts: after so many failed ones a record is `dead`; the first one, in its batch, counts.
        first_delay_seconds, longest_delay_seconds: until the next attempt; doubles with each one, with jitter.
        holding: the reasons for which later records of the same key wait. `behind` belongs to them always.
        chunk_records: released in one transaction: due records and the followers of their keys.
        key_max_records: kept of one key; then its partition is paused until some were released or discarded.
        store_max_records, store_max_bytes: kept of the group, the bytes being those of keys, values and headers; then
            the group is paused until there is room again.
    """

    attempts: int = 12
    first_delay_seconds: float = 0.1
    longest_delay_seconds: float = 60.0
    holding: frozenset[Reason] = frozenset(reason for reason in Reason if reason.holds_key)
    chunk_records: int = 500
    key_max_records: int = 10_000
    store_max_records: int = 1_000_000
    store_max_bytes: int = 1_000_000_000

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.chunk_records < 1 or self.key_max_records < 1:
            raise ValueError("attempts, chunk_records and key_max_records are at least 1")
        if Reason.BEHIND not in self.holding:
            raise ValueError("a record that waits behind another one holds its key: add Reason.BEHIND")

    def delay_ms(self, attempts: int) -> int:
        """How long to wait after so many failed attempts."""
        bound = self.first_delay_seconds * 2.0 ** min(max(attempts - 1, 0), _DOUBLINGS_MAX)
        bound = min(bound, self.longest_delay_seconds)
        return round(Backoff(bound, self.longest_delay_seconds).next_seconds() * 1000)

    def is_spent(self, reason: Reason, attempts: int) -> bool:
        """Whether a record with this reason is dead after so many failed attempts."""
        return reason.is_dead_at_once or (reason is not Reason.BEHIND and attempts >= self.attempts)
