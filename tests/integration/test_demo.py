"""`payday demo` as a newcomer runs it."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Any

from tests.integration.processes import Home

if TYPE_CHECKING:
    from pathlib import Path

KEYS = {
    "sent",
    "consumed",
    "handled",
    "duplicate",
    "parked",
    "dead",
    "published",
    "outbox_unsent",
    "transactions",
    "payouts_confirmed",
    "payouts_failed",
    "payout_total_minor",
    "bank_total_minor",
    "audit_ok",
}


def check(summary: dict[str, Any]) -> None:
    assert set(summary) == KEYS
    assert summary["audit_ok"] is True
    assert summary["outbox_unsent"] == 0
    assert summary["payout_total_minor"] == summary["bank_total_minor"]
    assert summary["consumed"] == summary["handled"] + summary["duplicate"] + summary["parked"]


def test_a_day_is_played_drained_and_audited(tmp_path: Path) -> None:
    """Everything that was sent or published is read by every group, and standard output is one JSON value."""
    with Home(tmp_path) as home:
        demo = home.start("demo", "--seconds", "6", "--headless", "--json")
        assert demo.wait(90) == 0, demo.said
        summary = json.loads(demo.output)
    check(summary)
    assert summary["sent"] > 1000
    assert summary["parked"] == summary["dead"] > 0
    assert summary["duplicate"] > 0
    assert summary["transactions"] > 500
    assert summary["payouts_confirmed"] > 0
    assert summary["payouts_failed"] > 0, "the bank refuses some accounts"
    assert summary["bank_total_minor"] > 0


def test_ctrl_c_ends_the_day_by_draining(tmp_path: Path) -> None:
    """A signal in the middle of the traffic stops it; what is under way is finished and audited."""
    with Home(tmp_path) as home:
        demo = home.start("demo", "--seconds", "120", "--headless", "--json")
        deadline = time.monotonic() + 60
        while "the company is at work" not in demo.errors:
            assert time.monotonic() < deadline, demo.said
            time.sleep(0.1)
        time.sleep(2)
        demo._process.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0, demo.said
        check(json.loads(demo.output))
