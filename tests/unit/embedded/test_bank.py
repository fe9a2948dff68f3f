"""The simulated bank keeps its word, and breaks down only as it is told to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from streams.embedded.bank import REPORT_PAGE_ROWS, Bank
from streams.embedded.bank_faults import FaultDice, Faults
from streams.embedded.bank_store import BankStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PERIOD = "2026-11-22"


class Rig:
    """A bank, a client in the same process, and a clock."""

    def __init__(self, file: Path, **options: Any) -> None:
        self.now_ms = 1_700_000_000_000
        self.store = BankStore(file)
        bank = Bank(self.store, now_ms=lambda: self.now_ms, **options)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(bank.app()), base_url="http://bank")

    async def pay(
        self, reference: str = "p1", key: str | None = None, *, account: str = "ada", amount_minor: Any = 1250
    ) -> httpx.Response:
        body = {
            "reference": reference,
            "account": account,
            "period": PERIOD,
            "amount_minor": amount_minor,
            "currency": "USD",
        }
        return await self.client.post("/payments", json=body, headers={"Idempotency-Key": key or reference})

    async def faults(self, **faults: Any) -> None:
        assert (await self.client.put("/faults", json=faults)).status_code == 200

    async def report(self, **query: Any) -> list[dict[str, Any]]:
        response = await self.client.get("/report", params={"period": PERIOD, **query})
        assert response.status_code == 200
        entries: list[dict[str, Any]] = response.json()
        return entries

    async def close(self) -> None:
        await self.client.aclose()
        self.store.close()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path / "bank.db", key_life_seconds=60)
    yield rig
    await rig.close()


@pytest.fixture
async def forgetful(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path / "forgetful.db", key_life_seconds=60, unique_references=False)
    yield rig
    await rig.close()


async def test_a_payment_is_booked_and_can_be_asked_for(rig: Rig) -> None:
    response = await rig.pay()
    assert response.status_code == 201
    booked = response.json()
    assert (booked["status"], booked["reason_code"]) == ("booked", None)
    found = (await rig.client.get("/payments", params={"reference": "p1"})).json()
    entry = {
        "provider_ref": booked["provider_ref"],
        "reference": "p1",
        "account": "ada",
        "period": PERIOD,
        "amount_minor": 1250,
        "currency": "USD",
        "status": "booked",
        "reason_code": None,
        "booked_at": "2023-11-14T22:13:20.000+00:00",
    }
    assert found == {**entry, "bookings": 1}
    assert await rig.report() == [entry]
    assert await rig.report(period="2026-11-23") == []


async def test_the_same_key_gives_the_same_answer_and_books_once(rig: Rig) -> None:
    first = await rig.pay()
    again = await rig.pay()
    assert (again.status_code, again.json()) == (200, first.json())
    assert len(await rig.report()) == 1


async def test_a_known_key_with_another_body_is_a_conflict(rig: Rig) -> None:
    await rig.pay()
    response = await rig.pay(amount_minor=1251)
    assert (response.status_code, response.json()["reason_code"]) == (409, "key-reused")


async def test_after_the_keys_life_a_known_reference_still_books_once(rig: Rig) -> None:
    first = await rig.pay()
    rig.now_ms += 60_000
    again = await rig.pay()
    assert (again.status_code, again.json()) == (200, first.json())
    other = await rig.pay(key="another", amount_minor=1)
    assert (other.status_code, other.json()["reason_code"]) == (409, "reference-reused")
    assert len(await rig.report()) == 1


async def test_without_unique_references_a_forgotten_key_books_again_and_the_report_shows_it(forgetful: Rig) -> None:
    """What a caller must guard against; the second booking is there to be seen."""
    first = await forgetful.pay()
    forgetful.now_ms += 59_999
    assert (await forgetful.pay()).status_code == 200
    forgetful.now_ms += 1
    second = await forgetful.pay()
    assert second.status_code == 201
    assert second.json()["provider_ref"] != first.json()["provider_ref"]
    assert [entry["reference"] for entry in await forgetful.report()] == ["p1", "p1"]
    assert (await forgetful.client.get("/payments", params={"reference": "p1"})).json()["bookings"] == 2


async def test_a_reopened_book_knows_its_keys(tmp_path: Path) -> None:
    before = Rig(tmp_path / "bank.db")
    first = await before.pay()
    await before.close()
    after = Rig(tmp_path / "bank.db")
    again = await after.pay()
    await after.close()
    assert (again.status_code, again.json()) == (200, first.json())


async def test_two_requests_with_one_key_at_once_book_once(rig: Rig) -> None:
    await rig.faults(delay_seconds=0.02)
    responses = await asyncio.gather(rig.pay(), rig.pay())
    assert sorted(response.status_code for response in responses) == [201, 409]
    assert {response.json().get("reason_code") for response in responses} == {None, "in-progress"}
    assert len(await rig.report()) == 1


async def test_failing_before_books_nothing_and_failing_after_has_booked(rig: Rig) -> None:
    await rig.faults(fail_before=1)
    assert (await rig.pay("before")).status_code == 500
    await rig.faults(fail_after=1)
    assert (await rig.pay("after")).status_code == 500
    assert [entry["reference"] for entry in await rig.report()] == ["after"]
    await rig.faults()
    assert (await rig.pay("before")).status_code == 201
    assert (await rig.pay("after")).status_code == 200


async def test_500_then_200(rig: Rig) -> None:
    await rig.faults(fail_first=2)
    assert [(await rig.pay()).status_code for _ in range(4)] == [500, 500, 201, 200]


async def test_a_refused_account_gets_no_money(rig: Rig) -> None:
    await rig.faults(refuse_accounts=["ada"])
    response = await rig.pay()
    assert response.status_code == 201
    assert (response.json()["status"], response.json()["reason_code"]) == ("rejected", "account-closed")
    await rig.faults()
    assert (await rig.pay()).json() == response.json(), "the same key has the same outcome"
    found = (await rig.client.get("/payments", params={"reference": "p1"})).json()
    assert found["status"] == "rejected"
    assert await rig.report() == []


async def test_money_comes_back(rig: Rig) -> None:
    await rig.pay()
    response = await rig.client.post("/returns", json={"reference": "p1"})
    assert (response.json()["status"], response.json()["reason_code"]) == ("returned", "returned-by-beneficiary")
    assert [entry["status"] for entry in await rig.report()] == ["returned"]
    assert (await rig.pay()).json()["status"] == "booked", "the answer to the key stays what it was"
    assert (await rig.client.post("/returns", json={"reference": "p1"})).status_code == 409
    assert (await rig.client.post("/returns", json={"reference": "p2"})).status_code == 404


async def test_down_is_503_for_everything_about_payments(rig: Rig) -> None:
    await rig.faults(down=True)
    for response in (
        await rig.pay(),
        await rig.client.get("/payments?reference=p1"),
        await rig.client.get(f"/report?period={PERIOD}"),
    ):
        assert response.status_code == 503
    await rig.faults()
    assert (await rig.pay()).status_code == 201


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"amount_minor": 0}, "amount_minor"),
        ({"amount_minor": 12.5}, "amount_minor"),
        ({"amount_minor": True}, "amount_minor"),
        ({"currency": "usd"}, "currency"),
        ({"period": "22.11.2026"}, "period"),
        ({"reference": "a\x00b"}, "reference"),
        ({"account": "x" * 256}, "account"),
        ({"surprise": 1}, "surprise"),
    ],
)
async def test_a_body_that_makes_no_sense_is_422_and_names_the_field(
    rig: Rig, change: dict[str, Any], said: str
) -> None:
    body = {"reference": "p1", "account": "ada", "period": PERIOD, "amount_minor": 1, "currency": "USD", **change}
    response = await rig.client.post("/payments", json=body, headers={"Idempotency-Key": "k"})
    assert response.status_code == 422
    assert said in response.json()["error"]
    assert await rig.report() == []


async def test_other_mistakes_are_422_too(rig: Rig) -> None:
    responses = [
        await rig.client.post("/payments", json={}),
        await rig.client.post("/payments", content=b"no json", headers={"Idempotency-Key": "k"}),
        await rig.client.get("/payments"),
        await rig.client.get("/report"),
        await rig.client.get(f"/report?period={PERIOD}&limit={REPORT_PAGE_ROWS + 1}"),
        await rig.client.get(f"/report?period={PERIOD}&after=nonsense"),
        await rig.client.put("/faults", json={"fail_before": 2}),
        await rig.client.put("/faults", json={"explode": True}),
        await rig.client.post("/returns", json={}),
    ]
    assert [response.status_code for response in responses] == [422] * len(responses)
    assert all(response.json()["error"] for response in responses)


async def test_an_unknown_reference_is_404(rig: Rig) -> None:
    response = await rig.client.get("/payments?reference=nobody")
    assert (response.status_code, response.json()["reason_code"]) == (404, "unknown-reference")


async def test_the_report_can_be_read_in_parts(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.embedded.bank.REPORT_PAGE_ROWS", 2)
    for number in range(5):
        await rig.pay(f"p{number}")
    whole = await rig.report()
    assert [entry["reference"] for entry in whole] == ["p0", "p1", "p2", "p3", "p4"]
    part = await rig.report(limit=2, after=whole[1]["provider_ref"])
    assert part == whole[2:4]


async def test_only_this_machine_may_tell_it_what_to_do(tmp_path: Path) -> None:
    store = BankStore(tmp_path / "bank.db")
    transport = httpx.ASGITransport(Bank(store).app(), client=("192.0.2.7", 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://bank") as client:
        responses = [
            await client.get("/faults"),
            await client.put("/faults", json={"down": True}),
            await client.post("/returns", json={"reference": "p1"}),
            await client.get("/payments?reference=p1"),
        ]
    store.close()
    assert [response.status_code for response in responses] == [403, 403, 403, 404]


def test_faults_strike_by_seed_key_and_attempt_alone() -> None:
    """Whatever else is asked meanwhile, and in about the share that was asked for."""

    def strikes(seed: int, keys: list[str]) -> dict[str, list[bool]]:
        dice = FaultDice(Faults(seed=seed, fail_before=0.3))
        found: dict[str, list[bool]] = {}
        for key in keys:
            found.setdefault(key, []).append(dice.strike(key).fail_before)
        return found

    keys = [f"k{number}" for number in range(500)] * 2
    assert strikes(1, keys) == strikes(1, sorted(keys))
    assert strikes(1, keys) != strikes(2, keys)
    share = sum(sum(drawn) for drawn in strikes(1, keys).values()) / len(keys)
    assert 0.25 < share < 0.35
