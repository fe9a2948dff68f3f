"""Tells a cause that all records have in common from records that are bad by themselves.

A wiring error, a missing table or a provider that answers nonsense fails every record. Parking them all would empty the
topic into the dead-letter store, one exhausted attempt after the other; the switch stops before that.

Invariant: what is judged is kept only once its transaction has committed, so that redoing one counts nothing twice.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Failure", "KillSwitch", "KillSwitchLimits"]

T = TypeVar("T")
Failure = tuple[str, object]
"""The error's type, and which key it hit: records without a key count each for themselves."""


@dataclass(frozen=True, slots=True)
class KillSwitchLimits:
    """When many failures are one.

    Attributes:
        enabled: False lets every record fail for itself.
        keys: so many different keys must have failed.
        share: of the window, by the same error.
        window_records: how many of the last records are looked at.
        first_wait_seconds, longest_wait_seconds: until a probe; doubles while probes fail.
    """

    enabled: bool = True
    keys: int = 20
    share: float = 0.5
    window_records: int = 200
    first_wait_seconds: float = 1.0
    longest_wait_seconds: float = 30.0


class _Window:
    """The last outcomes: None is a success."""

    __slots__ = ("by_type", "hits", "in_a_row", "outcomes", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.outcomes: deque[Failure | None] = deque()
        self.by_type: Counter[str] = Counter()
        self.hits: Counter[Failure] = Counter()
        self.in_a_row: set[object] = set()

    def copy(self) -> _Window:
        other = _Window(self.size)
        other.outcomes = self.outcomes.copy()
        other.by_type = self.by_type.copy()
        other.hits = self.hits.copy()
        other.in_a_row = self.in_a_row.copy()
        return other

    def add(self, outcome: Failure | None) -> None:
        if len(self.outcomes) == self.size:
            self._forget(self.outcomes.popleft())
        self.outcomes.append(outcome)
        if outcome is None:
            self.in_a_row.clear()
        else:
            self.by_type[outcome[0]] += 1
            self.hits[outcome] += 1
            self.in_a_row.add(outcome[1])

    def keys_of(self, error_type: str) -> int:
        return sum(1 for kind, _ in self.hits if kind == error_type)

    def _forget(self, outcome: Failure | None) -> None:
        if outcome is not None:
            _take(self.by_type, outcome[0])
            _take(self.hits, outcome)


def _take(counts: Counter[T], key: T) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


class KillSwitch:
    """Of one subscription in one process.

    Attributes:
        tripped: why, in words; None while everything is as usual.
    """

    def __init__(self, limits: KillSwitchLimits) -> None:
        self.limits = limits
        self.tripped: str | None = None
        self._window = _Window(limits.window_records)
        self._probes = 0

    def judge(self, outcomes: Sequence[Failure | None]) -> str | None:
        """Whether these, in their order, show a common cause: why, in words, or None. Nothing is kept.

        While tripped they are a probe: it must bring a success, and more of them than failures.
        """
        if not self.limits.enabled:
            return None
        failures = len(outcomes) - outcomes.count(None)
        if self.tripped is not None and failures and failures * 2 >= len(outcomes):
            return self.tripped
        if not failures:
            return None
        window = self._window.copy() if self.tripped is None else _Window(self.limits.window_records)
        for outcome in outcomes:
            window.add(outcome)
            if outcome is not None and (why := self._common_cause(window, outcome[0])) is not None:
                return why
        return None

    def keep(self, outcomes: Sequence[Failure | None]) -> None:
        """Remember what has been committed. A success closes a tripped switch."""
        if not self.limits.enabled or not outcomes:
            return
        if self.tripped is not None and None in outcomes:
            self.tripped = None
            self._probes = 0
            self._window = _Window(self.limits.window_records)
        for outcome in outcomes[-self.limits.window_records :]:
            self._window.add(outcome)

    def trip(self, why: str) -> None:
        """From now on deliveries are probes."""
        self.tripped = why

    def probe_records(self, delivered: int) -> int:
        """How many of a delivery to try while tripped: one and all of it in turn.

        The one spares the others; but it may be bad by itself, and then the whole shows whether the cause is over.
        """
        self._probes += 1
        return 1 if self._probes % 2 else delivered

    def _common_cause(self, window: _Window, error_type: str) -> str | None:
        limits = self.limits
        if len(window.in_a_row) >= limits.keys:
            return f"{len(window.in_a_row)} different keys failed one after another, the last one with {error_type}"
        failed = window.by_type[error_type]
        if failed >= limits.keys and failed >= limits.share * len(window.outcomes):
            keys = window.keys_of(error_type)
            if keys >= limits.keys:
                return f"{failed} of the last {len(window.outcomes)} records, {keys} keys, failed with {error_type}"
        return None
