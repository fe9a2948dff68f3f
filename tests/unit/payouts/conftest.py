"""A deployment for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.payouts.world import World

if TYPE_CHECKING:
    from streams.storage.database import Database


@pytest.fixture
def world(database: Database) -> World:
    return World(database)
