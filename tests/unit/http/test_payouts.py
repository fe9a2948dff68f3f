"""Payout runs over HTTP: who may start one, what is answered, and that asking twice is harmless."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from starlette.applications import Starlette

from streams.catalog import ContractCatalog
from streams.http.payouts import payout_routes
from streams.ledger.domain import BusinessCalendar
from streams.payouts.announcer import Announcer
from streams.payouts.runs import Runs

if TYPE_CHECKING:
    from streams.storage.database import Database

YESTERDAY = (datetime.now(UTC) - timedelta(days=1)).date()
TOKEN = {"Authorization": "Bearer s3cret"}


def client(database: Database, token: str | None = "s3cret") -> httpx.AsyncClient:
    calendar = BusinessCalendar(ZoneInfo("UTC"), "USD", 300)
    runs = Runs(database, calendar, Announcer(ContractCatalog(), ""), accounting_group="accounting")
    transport = httpx.ASGITransport(Starlette(routes=payout_routes(runs, token)))
    return httpx.AsyncClient(transport=transport, base_url="http://payday")


async def test_a_run_is_accepted_once_and_known_after(database: Database) -> None:
    """202, then 200 with the same; GET shows how it does."""
    async with client(database) as http:
        answers = [await http.post("/payout-runs", json={"period": str(YESTERDAY)}, headers=TOKEN) for _ in range(2)]
        assert [one.status_code for one in answers] == [202, 200]
        expected = {"period": str(YESTERDAY), "status": "registered", "url": f"/payout-runs/{YESTERDAY}"}
        assert [one.json() for one in answers] == [expected, expected]
        look = await http.get(answers[0].headers["location"])
        assert look.status_code == 200
        assert look.json() | {"status": "registered", "accounts_done": 0, "paid_count": 0} == look.json()


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "s3cret"}, {"Authorization": "Basic s3cret"}]
)
async def test_nobody_starts_a_run_without_the_token(database: Database, headers: dict[str, str]) -> None:
    """401, whatever the body says; and nothing is registered."""
    async with client(database) as http:
        for body in ({"period": str(YESTERDAY)}, {}):
            answer = await http.post("/payout-runs", json=body, headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert (await http.get(f"/payout-runs/{YESTERDAY}")).status_code == 404


async def test_without_a_token_set_nobody_starts_a_run(database: Database) -> None:
    """Not even with an empty one."""
    async with client(database, token=None) as http:
        for header in (TOKEN, {"Authorization": "Bearer "}, {}):
            answer = await http.post("/payout-runs", json={"period": str(YESTERDAY)}, headers=header)
            assert answer.status_code == 401


async def test_what_makes_no_sense_now_is_a_conflict(database: Database) -> None:
    """With the reason that a command would be given."""
    async with client(database) as http:
        tomorrow = YESTERDAY + timedelta(days=2)
        answer = await http.post("/payout-runs", json={"period": str(tomorrow)}, headers=TOKEN)
        assert (answer.status_code, answer.json()["reason_code"]) == (409, "period-not-over")
        await http.post("/payout-runs", json={"period": str(YESTERDAY)}, headers=TOKEN)
        earlier = YESTERDAY - timedelta(days=5)
        answer = await http.post("/payout-runs", json={"period": str(earlier)}, headers=TOKEN)
        assert (answer.status_code, answer.json()["reason_code"]) == (409, "superseded")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"period": "yesterday"}',
        b'{"period": 20261122}',
        b'{"period": "2026-11-31"}',
        b'{"period": "2026-11-20", "force": true}',
    ],
)
async def test_a_body_that_is_no_request_is_refused(database: Database, body: bytes) -> None:
    """422, and it says why without repeating it."""
    async with client(database) as http:
        answer = await http.post("/payout-runs", content=body, headers=TOKEN)
        assert answer.status_code == 422
        said: dict[str, Any] = answer.json()
        assert said["error"]


async def test_a_huge_body_is_not_read(database: Database) -> None:
    """413."""
    async with client(database) as http:
        answer = await http.post("/payout-runs", content=b" " * 100_000, headers=TOKEN)
        assert answer.status_code == 413


@pytest.mark.parametrize(("period", "status"), [("2020-01-01", 404), ("today", 422), ("%00", 422), ("%22", 422)])
async def test_a_run_that_is_not_there_is_not_shown(database: Database, period: str, status: int) -> None:
    """404 for a period without one, 422 for what is none."""
    async with client(database) as http:
        assert (await http.get(f"/payout-runs/{period}")).status_code == status
