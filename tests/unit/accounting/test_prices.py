"""What a task costs and earns."""

from __future__ import annotations

from streams.accounting.domain import price_of
from streams.outbox.envelope import derived_id
from streams.tasks.domain import assignee_for

SECRET = b"secret"
TASKS = [derived_id(number, "task") for number in range(50_000)]


def test_prices_keep_their_bounds_and_reach_them() -> None:
    """Fee 10.00 to 20.00 and reward 20.00 to 40.00, all four bounds inclusive, over many tasks."""
    prices = [price_of(SECRET, task_id, 0) for task_id in TASKS]
    fees, rewards = [price.fee_minor for price in prices], [price.reward_minor for price in prices]
    assert (min(fees), max(fees)) == (1000, 2000)
    assert (min(rewards), max(rewards)) == (2000, 4000)


def test_prices_are_uniform() -> None:
    """Each tenth of the range gets its share, within five standard deviations."""
    fees = [price_of(SECRET, task_id, 0).fee_minor for task_id in TASKS]
    tenths = [sum(1000 + 100 * n <= fee < 1100 + 100 * n for fee in fees) for n in range(10)]
    assert all(abs(count - len(TASKS) * 100 / 1001) < 350 for count in tenths)


def test_a_price_depends_on_task_and_secret_alone() -> None:
    """Priced again it is the same; with another secret it is another."""
    assert price_of(SECRET, TASKS[0], 0) == price_of(SECRET, TASKS[0], 0)
    assert price_of(SECRET, TASKS[0], 0) != price_of(b"other", TASKS[0], 0)


def test_assignees_are_drawn_evenly() -> None:
    """Over many assignments each active worker gets a fair share."""
    workers = [f"w{number}" for number in range(10)]
    drawn = [assignee_for(SECRET, task_id, workers) for task_id in TASKS]
    assert all(abs(drawn.count(worker) - 5000) < 400 for worker in workers)
