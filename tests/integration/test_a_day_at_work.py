"""The example of a whole day, run as its README says, undisturbed and with the app killed in the middle of the work."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.integration.day import (
    DAY,
    SETTINGS,
    assert_conserved,
    assert_events_in_order,
    assert_posted_once,
    audit,
    effects,
    foreseen_records,
    kill_when_busy,
    progress,
    records_per_group,
    send_the_day,
    whole_day,
)
from tests.integration.processes import ROOT, Home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KILLS = 3


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path, **SETTINGS) as home:
        yield home


def test_the_files_are_what_the_generator_makes() -> None:
    """The committed messages and totals come from `generate.py` and from nowhere else."""
    command = [sys.executable, str(DAY / "generate.py"), "--check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr


def test_the_day_comes_to_the_foreseen_totals_and_sending_it_again_changes_nothing(home: Home) -> None:
    """What the README promises: exact totals, then only duplicates."""
    home.start_broker()
    app = home.start_app()
    send_the_day(home)
    audit(home)
    assert_conserved(home)
    assert_posted_once(home)
    assert assert_events_in_order(home) == 0
    late = home.query("SELECT DISTINCT period, business_date FROM ledger_transfer WHERE note LIKE 'Forgotten%'")
    assert late == [("2026-11-21", "2026-11-20")], "what came after the close counts for the next day"

    before, counted = effects(home), progress(home)
    send_the_day(home)
    audit(home)
    assert effects(home) == before
    assert_conserved(home)
    for group, records in records_per_group().items():
        more = {name: count - counted[group][name] for name, count in progress(home)[group].items() if count}
        assert more == {"consumed": records, "handled": 0, "duplicate": records}, group
    assert app.stop() == 0, app.said


def test_killing_the_app_in_the_middle_of_the_work_changes_no_total(home: Home) -> None:
    """Three times SIGKILL while records are being handled and events published: nothing is lost, nothing doubled."""
    home.start_broker()
    app = home.start_app()
    sending = home.start("send", "--file", "-", "--timeout", "80", "--deliver-within", "80", given=whole_day())
    for kill in range(1, KILLS + 1):
        kill_when_busy(home, app, sending, kill * foreseen_records() // (KILLS + 1))
        app = home.start_app()
    assert sending.wait(80) == 0, sending.said
    home.run("wait", "--settled")
    audit(home)
    assert_conserved(home)
    assert_posted_once(home)
    assert_events_in_order(home)
