"""The demo, which is the first thing that anybody runs."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from tests.docs.session import BIN

if TYPE_CHECKING:
    from pathlib import Path


def test_the_demo_ends_with_books_that_balance(tmp_path: Path) -> None:
    """Everything that was sent is accounted for, also what was repeated and what nobody can read."""
    demo = subprocess.run(
        [BIN / "payday", "demo", "--seconds", "2", "--headless", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert demo.returncode == 0, demo.stderr
    found = json.loads(demo.stdout)
    assert found["audit_ok"] is True
    assert found["consumed"] == found["handled"] + found["duplicate"] + found["parked"] > 0
    assert found["outbox_unsent"] == 0
    assert list(tmp_path.iterdir()) == []
