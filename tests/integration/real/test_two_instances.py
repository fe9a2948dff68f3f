"""Two instances of the app on one Kafka and one PostgreSQL: they share the work, and one may come, die and go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.day import foreseen_records
from tests.integration.processes import wait_until
from tests.integration.real.instances import assert_day_is_exact, consumed, handled, send_in_background, unsent

if TYPE_CHECKING:
    from tests.integration.processes import Home, RunningProcess
    from tests.integration.real.instances import Deployment

BUSY_SECONDS = 100.0
DAY_SECONDS = 200.0
KILLS_AT = (2 / 5, 3 / 5)
"""How much of the day is over, about."""


def wait_until_busy(home: Home, sending: RunningProcess, share: float) -> None:
    """Until so much of the day is over, this instance has handled some of it, and events wait to be sent."""
    records = int(share * foreseen_records())
    wait_until(
        lambda: consumed(home) >= records and unsent(home) > 0 and handled(home) > 0,
        BUSY_SECONDS,
        lambda: f"{consumed(home)} of {records} taken, {handled(home)} handled here\n{sending.said}",
    )


@pytest.mark.timeout(2 * DAY_SECONDS)
def test_a_second_instance_that_joins_dies_twice_and_leaves_changes_no_total(deployment: Deployment) -> None:
    """It takes over partitions in the middle of the work, is killed twice with SIGKILL, and goes when it is told to.

    The first one goes on throughout; both have done some of the work.
    """
    first, second = deployment.first, deployment.second
    host = first.start_app()
    sending = send_in_background(first)
    wait_until_busy(first, sending, 1 / 5)
    guest = second.start_app()
    for share in KILLS_AT:
        wait_until_busy(second, sending, share)
        guest.kill()
        guest = second.start_app()
    wait_until_busy(second, sending, 4 / 5)
    assert guest.stop() == 0, guest.said
    with_guest = handled(first)
    assert sending.wait(DAY_SECONDS) == 0, sending.said
    assert_day_is_exact(first, deployment.kafka)
    assert handled(first) > with_guest > 0
    assert host.stop() == 0, host.said
