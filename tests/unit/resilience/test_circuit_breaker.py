"""When the circuit breaker opens, whom it lets through, and when it closes."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from streams.resilience.circuit_breaker import BreakerLimits, Cause, CircuitBreaker, Permit, State, Transition

LIMITS = BreakerLimits(
    window_seconds=10,
    buckets=5,
    minimum_calls=6,
    failure_rate=0.5,
    consecutive_failures=4,
    first_open_seconds=2,
    max_open_seconds=8,
    probe_timeout_seconds=3,
)


class Clock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class NoJitter(random.Random):
    """Every wait is its upper bound."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


class Rig:
    """A breaker with its clock, and the transitions that it told of."""

    def __init__(self, limits: BreakerLimits = LIMITS) -> None:
        self.clock = Clock()
        self.transitions: list[Transition] = []
        self.breaker = CircuitBreaker(self.clock, limits, random=NoJitter(), on_transition=self.transitions.append)

    def allowed(self) -> Permit:
        permit = self.breaker.allow()
        assert permit is not None
        return permit

    def state(self) -> State:
        return self.breaker.state

    def fail(self, times: int = 1) -> None:
        for _ in range(times):
            self.allowed().failed()

    def open(self) -> None:
        self.fail(4)
        assert self.state() is State.OPEN

    def half_open(self) -> Permit:
        self.open()
        self.clock.now += 2
        return self.allowed()


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    rig = Rig()
    rig.fail(2)
    rig.allowed().succeeded()
    rig.allowed().refused()
    rig.fail(1)
    assert rig.state() is State.CLOSED
    rig = Rig()
    rig.fail(4)
    assert rig.breaker.allow() is None
    assert rig.transitions == [Transition(State.CLOSED, State.OPEN, Cause.CONSECUTIVE_FAILURES)]


def test_it_opens_at_the_failure_rate_but_not_before_the_minimum_of_calls() -> None:
    rig = Rig()
    for _ in range(2):
        rig.fail()
        rig.allowed().succeeded()
    rig.fail()
    assert rig.state() is State.CLOSED, "five calls say nothing"
    rig.fail()
    assert rig.transitions == [Transition(State.CLOSED, State.OPEN, Cause.FAILURE_RATE)]


def test_failures_older_than_the_window_do_not_count() -> None:
    rig = Rig()
    rig.fail(3)
    rig.allowed().succeeded()
    rig.clock.now += LIMITS.window_seconds
    assert rig.breaker.status().calls == 0
    rig.allowed().succeeded()
    rig.allowed().succeeded()
    rig.fail(3)
    assert (rig.breaker.status().calls, rig.breaker.status().failures) == (5, 3)
    assert rig.state() is State.CLOSED


def test_one_probe_at_a_time_after_the_open_interval() -> None:
    rig = Rig()
    rig.open()
    rig.clock.now += 1.9
    assert rig.breaker.allow() is None
    assert rig.breaker.status().retry_in_seconds == pytest.approx(0.1)
    rig.clock.now += 0.1
    probe = rig.allowed()
    assert [rig.breaker.allow() for _ in range(3)] == [None, None, None]
    probe.succeeded()
    assert rig.state() is State.CLOSED
    assert [one.cause for one in rig.transitions[1:]] == [Cause.INTERVAL_OVER, Cause.PROBE_SUCCEEDED]


def test_a_refused_probe_closes_it() -> None:
    """A refusal shows that somebody is there."""
    rig = Rig()
    rig.half_open().refused()
    assert rig.state() is State.CLOSED
    assert rig.transitions[-1].cause is Cause.PROBE_REFUSED


def test_a_failed_probe_opens_it_for_longer_up_to_the_bound() -> None:
    rig = Rig()
    rig.half_open().failed()
    for seconds in (4, 8, 8):
        assert rig.breaker.status().retry_in_seconds == seconds
        rig.clock.now += seconds
        rig.allowed().failed()


def test_a_probe_that_is_never_answered_frees_its_place() -> None:
    rig = Rig()
    lost = rig.half_open()
    rig.clock.now += LIMITS.probe_timeout_seconds - 0.1
    assert rig.breaker.allow() is None
    rig.clock.now += 0.1
    second = rig.allowed()
    lost.failed()
    assert rig.state() is State.HALF_OPEN, "the late answer does not count"
    second.succeeded()
    assert rig.state() is State.CLOSED


def test_an_abandoned_probe_frees_its_place_at_once_and_judges_nothing() -> None:
    rig = Rig()
    rig.half_open().abandoned()
    assert rig.state() is State.HALF_OPEN
    rig.allowed().succeeded()
    assert rig.state() is State.CLOSED


def test_late_answers_from_before_it_opened_do_not_count() -> None:
    rig = Rig()
    early = [rig.allowed() for _ in range(8)]
    rig.open()
    early[0].succeeded()
    assert rig.state() is State.OPEN
    rig.clock.now += 2
    probe = rig.allowed()
    early[1].succeeded()
    early[2].failed()
    assert rig.state() is State.HALF_OPEN
    probe.succeeded()
    for late in early[3:]:
        late.failed()
    assert rig.state() is State.CLOSED
    assert rig.breaker.status().calls == 0


def test_a_permit_is_answered_once() -> None:
    rig = Rig()
    permit = rig.allowed()
    for _ in range(9):
        permit.failed()
    assert rig.breaker.status().failures == 1


def test_growth_is_forgotten_only_after_a_whole_quiet_window() -> None:
    """What answers the probe and fails again is not asked ever so often."""
    rig = Rig()
    rig.half_open().succeeded()
    rig.fail(4)
    assert rig.breaker.status().retry_in_seconds == 4
    rig.clock.now += 4
    rig.allowed().succeeded()
    rig.clock.now += LIMITS.window_seconds
    rig.fail(4)
    assert rig.breaker.status().retry_in_seconds == 2


def test_it_says_for_how_long_it_has_been_as_it_is() -> None:
    rig = Rig()
    rig.open()
    rig.clock.now += 1.5
    assert (rig.breaker.status().state, rig.breaker.status().for_seconds) == (State.OPEN, 1.5)


@pytest.mark.parametrize(
    "wrong", [{"failure_rate": 0}, {"buckets": 0}, {"first_open_seconds": 9, "max_open_seconds": 8}]
)
def test_senseless_limits_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="make no sense"):
        BreakerLimits(**wrong)  # type: ignore[arg-type]


class BreakerBehaviour(RuleBasedStateMachine):
    """Any calls, answers and waits, compared with a model that keeps every answer of the closed state in a list."""

    permits = Bundle("permits")

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig()
        self.state = State.CLOSED
        self.since = self.closed_since = self.rig.clock.now
        self.era = 0  # grows with every change of state and every new probe
        self.answers: list[tuple[int, bool]] = []
        self.open_seconds = 0.0
        self.next_open_seconds = LIMITS.first_open_seconds
        self.probe_began: float | None = None

    def bucket(self) -> int:
        return int(self.rig.clock.now // (LIMITS.window_seconds / LIMITS.buckets))

    def enter(self, state: State) -> None:
        self.state, self.since, self.answers, self.probe_began = state, self.rig.clock.now, [], None
        self.era += 1
        if state is State.CLOSED:
            self.closed_since = self.since

    def opens(self) -> None:
        if self.state is State.CLOSED and self.rig.clock.now - self.closed_since >= LIMITS.window_seconds:
            self.next_open_seconds = LIMITS.first_open_seconds
        self.open_seconds = self.next_open_seconds
        self.next_open_seconds = min(self.open_seconds * 2, LIMITS.max_open_seconds)
        self.enter(State.OPEN)

    def probing(self) -> bool:
        """Whether a probe has the place."""
        timeout = LIMITS.probe_timeout_seconds
        return self.probe_began is not None and self.rig.clock.now < self.probe_began + timeout

    @rule(seconds=st.sampled_from([0.25, 1.0, 2.0, 4.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.rig.clock.now += seconds

    @rule(target=permits)
    def call(self) -> object:
        permit = self.rig.breaker.allow()
        now = self.rig.clock.now
        if self.state is State.OPEN and now >= self.since + self.open_seconds:
            self.enter(State.HALF_OPEN)
        expected = self.state is State.CLOSED or (self.state is State.HALF_OPEN and not self.probing())
        assert (permit is not None) == expected
        if permit is None:
            return multiple()
        if self.state is State.HALF_OPEN:
            self.era += 1
            self.probe_began = now
        return permit, self.era

    @rule(permit=consumes(permits), answer=st.sampled_from(["succeeded", "refused", "failed", "failed", "abandoned"]))
    def answer(self, permit: tuple[Permit, int], answer: str) -> None:
        one, era = permit
        getattr(one, answer)()
        getattr(one, "failed")()  # noqa: B009  a second answer never counts
        if era != self.era:
            return
        failed = answer == "failed"
        if self.state is State.HALF_OPEN:
            if answer == "abandoned":
                self.probe_began = None
            elif failed:
                self.opens()
            else:
                self.enter(State.CLOSED)
        elif answer != "abandoned":
            self.answers.append((self.bucket(), failed))
            recent = [bad for bucket, bad in self.answers if bucket > self.bucket() - LIMITS.buckets]
            last = [bad for _, bad in self.answers][-4:]
            if failed and (
                last == [True] * 4
                or (len(recent) >= LIMITS.minimum_calls and sum(recent) / len(recent) >= LIMITS.failure_rate)
            ):
                self.opens()

    @invariant()
    def agrees_with_the_model(self) -> None:
        status = self.rig.breaker.status()
        assert status.state is self.rig.breaker.state is self.state
        assert status.for_seconds == self.rig.clock.now - self.since
        if self.state is State.CLOSED:
            recent = [bad for bucket, bad in self.answers if bucket > self.bucket() - LIMITS.buckets]
            assert (status.calls, status.failures) == (len(recent), sum(recent))
        transitions = self.rig.transitions
        assert not transitions or transitions[-1].after is self.state
        assert all(one.after is other.before for one, other in pairwise(transitions))


TestBreakerBehaviour = BreakerBehaviour.TestCase
TestBreakerBehaviour.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
