"""What can be said about PostgreSQL without a server."""

from __future__ import annotations

import sys

import pytest

from streams.cli.errors import explain
from streams.storage.database import Database
from streams.storage.errors import DriverMissing

URL = "postgresql+asyncpg://payday:secret@db.example.org/payday"


def test_a_missing_driver_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL is an extra: whoever names it without having it installed is told the command."""
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(DriverMissing, match=r"pip install 'payday\[postgresql\]'") as caught:
        Database(URL)
    assert explain(caught.value).exit_code == 1


async def test_a_password_is_never_named() -> None:
    """Every error starts with the database's address."""
    database = Database(URL)
    assert database.described == "postgresql+asyncpg://payday:***@db.example.org/payday"
    assert database.path is None
    await database.close()
