"""The order of the steps of intake is part of the guarantees."""

from __future__ import annotations

from functools import partial
from typing import cast

from streams.middleware.dead_letter import DeadLetter
from streams.middleware.intake import Intake, consumer_config
from streams.middleware.offsets import Offsets
from streams.middleware.retry import Retry
from streams.middleware.suspects import Suspects
from streams.middleware.telemetry import Telemetry
from streams.middleware.unit_of_work import UnitOfWorkStep
from streams.storage.database import Database
from tests.kit import NoteCatalog


def test_the_steps_stand_in_their_order(database: Database) -> None:
    """Offsets settle everything last, and nothing stands between the retry and the transaction it redoes."""
    intake = Intake(database, NoteCatalog(), wake_relay=lambda: None)
    steps = [cast("partial[object]", step).func for step in intake.middlewares]
    assert steps == [Offsets, Telemetry, Suspects, DeadLetter, Retry, UnitOfWorkStep]


def test_offsets_are_only_ever_stored_by_hand(database: Database) -> None:
    """librdkafka commits in the background what was stored, and stores nothing by itself."""
    config = consumer_config(Intake(database, NoteCatalog(), wake_relay=lambda: None).limits)
    assert config["enable.auto.offset.store"] is False
    assert config["enable.auto.commit"] is True


def test_a_group_reads_a_topic_once(database: Database) -> None:
    """Two subscriptions of one group to one topic would split its partitions between two handlers."""
    intake = Intake(database, NoteCatalog(), wake_relay=lambda: None)
    intake.subscribe("a", "b", group="g", accepts=[])
    intake.subscribe("b", group="other", accepts=[])
    try:
        intake.subscribe("b", "c", group="g", accepts=[])
    except ValueError as error:
        assert "twice" in str(error)  # noqa: PT017  the text is what a developer reads
    else:
        raise AssertionError("the second subscription was accepted")
