"""The campaign in small; `make chaos` plays it at full size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.chaos.payouts_campaign import Plan, run_campaign

if TYPE_CHECKING:
    from pathlib import Path


def test_everybody_is_paid_once_through_kills_and_freezes(postgres_url: str, tmp_path: Path) -> None:
    """Ledger, payouts, outbox and bank agree to the cent, run after run."""
    report = run_campaign(Plan(seed=7, kills=8, accounts=300), postgres_url, tmp_path, quiet=True)
    assert report.differences == []
    assert report.ended_otherwise == 0
    assert report.kills >= 8
    assert report.accounts_paid > 200
    assert report.states.get("confirmed", 0) > 200
    assert report.states.get("reversed", 0) > 0
    assert set(report.states) == {"confirmed", "reversed"}
