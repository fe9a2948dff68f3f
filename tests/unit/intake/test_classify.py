"""What an exception means: the app may say so, and an outage needs a witness."""

from __future__ import annotations

import pytest

from streams.intake.classify import Dependency, Kind, check_classifiers, judge
from streams.storage.database import Database
from streams.storage.errors import DatabaseBusy, DatabaseUnavailable
from tests.kit import note, rows, subscription, take


class Answers:
    async def probe_write(self) -> None:
        return


class Silent:
    async def probe_write(self) -> None:
        raise DatabaseUnavailable("away")


class RatesAway(Exception):
    pass


class RatesSlow(RatesAway):
    pass


async def gone() -> None:
    raise ConnectionError


async def there() -> None:
    return


@pytest.mark.parametrize(
    ("error", "probe", "kind"),
    [
        (DatabaseBusy("locked"), Silent(), Kind.CONTENTION),
        (DatabaseUnavailable("away"), Answers(), Kind.OUTAGE),
        (ValueError("bad"), Answers(), Kind.FAILURE),
        (ValueError("bad"), Silent(), Kind.OUTAGE),
    ],
)
async def test_the_kit_knows_its_own(error: Exception, probe: Answers | Silent, kind: Kind) -> None:
    assert (await judge(error, probe)).kind is kind


async def test_an_outage_is_one_only_if_its_probe_says_so_too() -> None:
    """Otherwise one record whose handler claims an outage would stop the group for ever."""
    away, back = Dependency("rates", gone), Dependency("rates", there)
    verdict = await judge(RatesSlow(), Answers(), {RatesAway: away})
    assert (verdict.kind, verdict.dependency) == (Kind.OUTAGE, away)
    assert (await judge(RatesSlow(), Answers(), {RatesAway: back})).kind is Kind.FAILURE


async def test_the_most_special_classifier_counts() -> None:
    classifiers = {Exception: Kind.FAILURE, RatesAway: Kind.CONTENTION, RatesSlow: Kind.POISON}
    assert (await judge(RatesSlow(), Answers(), classifiers)).kind is Kind.POISON
    assert (await judge(RatesAway(), Answers(), classifiers)).kind is Kind.CONTENTION


def test_an_outage_without_a_witness_is_refused() -> None:
    with pytest.raises(ValueError, match="name the Dependency"):
        check_classifiers({RatesAway: Kind.OUTAGE})


async def test_poison_is_dead_at_once_and_holds_nobody(database: Database) -> None:
    """An app may know that trying again is senseless."""
    subscribed = subscription(database, classifiers={LookupError: Kind.POISON})

    async def handle(work: object) -> None:
        work.fail(work.live[0], KeyError("no such thing"))  # type: ignore[attr-defined]

    await take(subscribed, [note(0)], handle)
    assert await rows(database, "SELECT reason, state, holds_key FROM parked") == [("invalid", "dead", 0)]
