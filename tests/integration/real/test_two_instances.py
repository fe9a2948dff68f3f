"""Two instances of the app on one Kafka and one PostgreSQL: they share the work, and either may come, go or die."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.day import foreseen_records
from tests.integration.processes import wait_until
from tests.integration.real.instances import assert_day_is_exact, consumed, handled, send_in_background, unsent

if TYPE_CHECKING:
    from tests.integration.processes import Home, RunningProcess
    from tests.integration.real.instances import Deployment

BUSY_SECONDS = 60.0


def wait_until_busy(home: Home, sending: RunningProcess, records: int) -> None:
    """Until so many records have been taken, this instance has handled some of them, and events wait to be sent."""
    wait_until(
        lambda: consumed(home) >= records and unsent(home) > 0 and handled(home) > 0,
        BUSY_SECONDS,
        lambda: f"{consumed(home)} consumed, {handled(home)} handled here\n{sending.said}",
    )


def test_one_of_two_instances_killed_twice_changes_no_total(deployment: Deployment) -> None:
    """SIGKILL in the middle of its work, twice: the other one goes on, and it finds its place again."""
    first, second = deployment.first, deployment.second
    survivor, victim = first.start("run"), second.start("run")
    for app in (survivor, victim):
        assert app.wait_for_first_line(60) == "ready", app.said
    sending = send_in_background(first)
    for share in (1 / 3, 2 / 3):
        wait_until_busy(second, sending, int(share * foreseen_records()))
        victim.kill()
        victim = second.start_app()
    assert sending.wait(100) == 0, sending.said
    assert_day_is_exact(first, deployment.kafka)
    assert survivor.stop() == 0, survivor.said
    assert victim.stop() == 0, victim.said


def test_a_second_instance_joins_and_leaves_while_records_are_handled(deployment: Deployment) -> None:
    """It takes over some of the partitions and gives them back, in the middle of the work; nothing waits for it."""
    first, second = deployment.first, deployment.second
    first.start_app()
    sending = send_in_background(first)
    wait_until_busy(first, sending, foreseen_records() // 5)
    guest = second.start_app()
    wait_until_busy(second, sending, 3 * foreseen_records() // 5)
    assert guest.stop() == 0, guest.said
    alone_from = handled(first)
    assert sending.wait(100) == 0, sending.said
    assert_day_is_exact(first, deployment.kafka)
    assert handled(first) > alone_from > 0
