"""A circuit breaker: stops calling what does not answer, and finds out by one call at a time when it does again.

Pure: no I/O, no tasks, a clock that is handed in. One thread at a time may use a breaker.

Invariants: while it is not closed at most one call is under way by its leave; an answer counts only for the state in
which its call was allowed; what it remembers does not grow with the number of calls.

Conventions. Closed, open, half-open, and counting over a window of time in buckets with a minimum of calls and a
failure rate, as resilience4j (time-based sliding window, `minimumNumberOfCalls`, `failureRateThreshold` 50 %) and
Polly (`SamplingDuration` 30 s, `MinimumThroughput`, `FailureRatio`) have it; a count of failures in a row beside it,
as in Envoy's outlier detection (`consecutive_5xx` 5), because a slow caller never reaches the minimum; an open interval
that grows with each opening up to a bound, likewise Envoy's (`base_ejection_time`, `max_ejection_time`), and that is
forgotten only after one whole window in the closed state, so that what answers a probe and fails again is not asked
ever so often. Unlike resilience4j, one probe decides (as in Polly), and only a failure opens it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from streams.resilience.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

__all__ = ["BreakerLimits", "BreakerStatus", "Cause", "CircuitBreaker", "Permit", "State", "Transition"]


class State(StrEnum):
    """What a breaker lets through: everything, nothing, one probe."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Cause(StrEnum):
    """Why a breaker changed its state."""

    FAILURE_RATE = "failure-rate"
    CONSECUTIVE_FAILURES = "consecutive-failures"
    INTERVAL_OVER = "interval-over"
    PROBE_SUCCEEDED = "probe-succeeded"
    PROBE_REFUSED = "probe-refused"
    PROBE_FAILED = "probe-failed"


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state, and why."""

    before: State
    after: State
    cause: Cause


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """When a breaker opens, and for how long.

    Attributes:
        window_seconds: how far back calls count.
        buckets: into how many parts the window is cut; the oldest part is forgotten as a whole.
        minimum_calls: the failure rate says nothing before so many calls were answered within the window.
        failure_rate: opens when this share of them failed, above 0 and at most 1.
        consecutive_failures: opens after so many without a success between them; None: never. With many calls in
            flight that fail now and then by themselves, give None or a large number.
        first_open_seconds, max_open_seconds: the open interval before jitter, and its bound.
        probe_timeout_seconds: a probe without an answer gives its place to another one after this time.
    """

    window_seconds: float = 30.0
    buckets: int = 10
    minimum_calls: int = 20
    failure_rate: float = 0.5
    consecutive_failures: int | None = 5
    first_open_seconds: float = 1.0
    max_open_seconds: float = 60.0
    probe_timeout_seconds: float = 60.0

    def __post_init__(self) -> None:
        sound = (
            self.window_seconds > 0
            and self.buckets >= 1
            and self.minimum_calls >= 1
            and 0 < self.failure_rate <= 1
            and (self.consecutive_failures is None or self.consecutive_failures >= 1)
            and 0 < self.first_open_seconds <= self.max_open_seconds
            and self.probe_timeout_seconds > 0
        )
        if not sound:
            raise ValueError(f"these limits make no sense: {self}")


@dataclass(frozen=True, slots=True)
class BreakerStatus:
    """How a breaker stands.

    Attributes:
        state: now.
        for_seconds: how long it has been in it.
        calls, failures: answered within the window; 0 unless closed.
        retry_in_seconds: how long until a call could be allowed, as far as that is known; 0 where one may be now.
    """

    state: State
    for_seconds: float
    calls: int
    failures: int
    retry_in_seconds: float


class Permit:
    """Leave for one call. Its first answer counts, and only if the breaker is still where it was."""

    __slots__ = ("_breaker", "_number")

    def __init__(self, breaker: CircuitBreaker, number: int) -> None:
        self._breaker: CircuitBreaker | None = breaker
        self._number = number

    def succeeded(self) -> None:
        """The call did what it should."""
        self._answer(Cause.PROBE_SUCCEEDED)

    def refused(self) -> None:
        """The other side is there and said no: for the breaker as good as a success."""
        self._answer(Cause.PROBE_REFUSED)

    def failed(self) -> None:
        """No answer, or one that says that the other side is in trouble."""
        self._answer(Cause.PROBE_FAILED)

    def abandoned(self) -> None:
        """The call was not made, or was cancelled: says nothing about the other side, and another may have its place.

        Without effect after an answer, so that it may stand in a `finally`.
        """
        self._answer(None)

    def _answer(self, answer: Cause | None) -> None:
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker._answered(self._number, answer)  # noqa: SLF001  the two are one


class CircuitBreaker:
    """Allows calls, hears how they went, and judges.

    Args:
        clock: seconds that never go back, such as `time.monotonic`.
        limits: when it opens and for how long.
        random: spreads the open intervals, so that many clients do not probe at the same moment.
        on_transition: told of each change of state after it has happened. Must be quick and must not raise.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        limits: BreakerLimits | None = None,
        *,
        random: Random | None = None,
        on_transition: Callable[[Transition], None] | None = None,
    ) -> None:
        self.limits = limits or BreakerLimits()
        self._clock = clock
        self._on_transition = on_transition
        self._intervals = Backoff(self.limits.first_open_seconds, self.limits.max_open_seconds)
        if random is not None:
            self._intervals.source = random
        self._window = _Window(self.limits.window_seconds, self.limits.buckets)
        self._state = State.CLOSED
        self._since = clock()
        self._consecutive_failures = 0
        self._open_seconds = 0.0
        self._number = 0
        """Of the permits whose answers count: the same for all while closed, a new one for each probe."""
        self._probe_began: float | None = None

    @property
    def state(self) -> State:
        """As of the last call or answer: an open breaker stays open until somebody asks after its interval."""
        return self._state

    def status(self) -> BreakerStatus:
        """How it stands now, for people and metrics."""
        now = self._clock()
        calls, failures = self._window.totals(now) if self._state is State.CLOSED else (0, 0)
        return BreakerStatus(self._state, now - self._since, calls, failures, self._retry_in_seconds(now))

    def allow(self) -> Permit | None:
        """Leave for one call, which must be answered through the permit; None: do not call now."""
        if self._state is State.CLOSED:
            return Permit(self, self._number)
        now = self._clock()
        if self._retry_in_seconds(now) > 0:
            return None
        self._number += 1
        self._probe_began = now
        if self._state is State.OPEN:
            self._change(State.HALF_OPEN, Cause.INTERVAL_OVER, now)
        return Permit(self, self._number)

    def _retry_in_seconds(self, now: float) -> float:
        match self._state:
            case State.CLOSED:
                return 0.0
            case State.OPEN:
                return max(0.0, self._since + self._open_seconds - now)
            case State.HALF_OPEN if self._probe_began is None:
                return 0.0
            case State.HALF_OPEN:
                return max(0.0, self._probe_began + self.limits.probe_timeout_seconds - now)

    def _answered(self, number: int, answer: Cause | None) -> None:
        if number != self._number or self._state is State.OPEN:
            return
        now = self._clock()
        if self._state is State.CLOSED:
            if answer is not None:
                self._count(now, failed=answer is Cause.PROBE_FAILED)
        elif answer is None:
            self._probe_began = None
        elif answer is Cause.PROBE_FAILED:
            self._open(answer, now)
        else:
            self._number += 1
            self._probe_began = None
            self._change(State.CLOSED, answer, now)

    def _count(self, now: float, *, failed: bool) -> None:
        self._window.add(now, failed=failed)
        if not failed:
            self._consecutive_failures = 0
            return
        self._consecutive_failures += 1
        limits = self.limits
        calls, failures = self._window.totals(now)
        if limits.consecutive_failures is not None and self._consecutive_failures >= limits.consecutive_failures:
            self._open(Cause.CONSECUTIVE_FAILURES, now)
        elif calls >= limits.minimum_calls and failures >= calls * limits.failure_rate:
            self._open(Cause.FAILURE_RATE, now)

    def _open(self, cause: Cause, now: float) -> None:
        if self._state is State.CLOSED and now - self._since >= self.limits.window_seconds:
            self._intervals.reset()
        self._open_seconds = self._intervals.next_seconds()
        self._number += 1
        self._probe_began = None
        self._change(State.OPEN, cause, now)

    def _change(self, after: State, cause: Cause, now: float) -> None:
        before, self._state, self._since = self._state, after, now
        self._window.clear()
        self._consecutive_failures = 0
        if self._on_transition is not None:
            self._on_transition(Transition(before, after, cause))


class _Window:
    """Calls and failures of the last so many seconds, in a ring of buckets."""

    __slots__ = ("_bucket_seconds", "_buckets")

    def __init__(self, seconds: float, buckets: int) -> None:
        self._bucket_seconds = seconds / buckets
        self._buckets = [[-1, 0, 0] for _ in range(buckets)]  # which stretch of time, calls, failures

    def add(self, now: float, *, failed: bool) -> None:
        stretch = int(now // self._bucket_seconds)
        bucket = self._buckets[stretch % len(self._buckets)]
        if bucket[0] != stretch:
            bucket[:] = stretch, 0, 0
        bucket[1] += 1
        bucket[2] += failed

    def totals(self, now: float) -> tuple[int, int]:
        oldest = int(now // self._bucket_seconds) - len(self._buckets) + 1
        recent = [bucket for bucket in self._buckets if bucket[0] >= oldest]
        return sum(bucket[1] for bucket in recent), sum(bucket[2] for bucket in recent)

    def clear(self) -> None:
        for bucket in self._buckets:
            bucket[0] = -1
            bucket[1] = bucket[2] = 0
