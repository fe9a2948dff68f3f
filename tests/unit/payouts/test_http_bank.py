"""What the HTTP bank makes of answers, of odd ones and of none; against the simulated bank over real HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest

from streams.embedded.bank import Bank as SimulatedBank
from streams.embedded.bank_faults import Faults
from streams.embedded.bank_store import BankStore
from streams.http.server import HttpServer
from streams.payouts import http_bank
from streams.payouts.bank import (
    Bank,
    BankMisunderstood,
    BankUnavailable,
    Booked,
    EntryStatus,
    Payment,
    Refused,
    Unknown,
    UnknownCause,
)
from streams.payouts.http_bank import HttpBank
from streams.resilience.circuit_breaker import BreakerLimits, CircuitBreaker, State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

PERIOD = "2026-11-22"
BOOKED = {"provider_ref": "b1", "status": "booked"}


class Clock:
    """Moves when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Rig:
    """A simulated bank on loopback, its client, and the breaker between them."""

    def __init__(self, file: Path) -> None:
        self.store = BankStore(file)
        self.now_ms = 1_700_000_000_000
        self.simulated = SimulatedBank(self.store, key_life_seconds=60, now_ms=lambda: self.now_ms)
        self.server = HttpServer(self.simulated.app(), "127.0.0.1", 0)
        self.server.start()
        self.clock = Clock()
        self.transitions: asyncio.Queue[State] = asyncio.Queue()
        self.breaker = CircuitBreaker(
            self.clock,
            BreakerLimits(consecutive_failures=3),
            on_transition=lambda transition: self.transitions.put_nowait(transition.after),
        )
        self.bank = HttpBank(self.server.url, self.breaker)

    async def faults(self, **faults: Any) -> None:
        body = Faults(**faults).model_dump(mode="json")
        async with httpx.AsyncClient() as client:
            assert (await client.put(f"{self.server.url}/faults", json=body)).status_code == 200

    async def close(self) -> None:
        await self.bank.close()
        await self.server.stop()
        self.store.close()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path / "bank.db")
    yield rig
    await rig.close()


def payment(amount_minor: int = 1250, payout_id: str | None = None, account: str = "ada") -> Payment:
    return Payment(payout_id or str(uuid4()), account, PERIOD, amount_minor, "USD")


def answering(handler: Callable[[httpx.Request], httpx.Response], **options: Any) -> tuple[HttpBank, CircuitBreaker]:
    """A bank that answers as a function says."""
    breaker = CircuitBreaker(Clock(), BreakerLimits(consecutive_failures=1))
    return HttpBank("http://bank", breaker, transport=httpx.MockTransport(handler), **options), breaker


def saying(status: int, body: object) -> tuple[HttpBank, CircuitBreaker]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return answering(lambda _request: httpx.Response(status, content=content))


def state(breaker: CircuitBreaker) -> State:
    return breaker.state


async def test_it_pays_once_and_the_same_key_gives_the_same_outcome(rig: Rig) -> None:
    bank: Bank = rig.bank
    one = payment()
    first = await bank.pay(one)
    assert isinstance(first, Booked)
    assert await bank.pay(one) == first
    found = await bank.find(one.payout_id)
    assert found is not None
    assert not isinstance(found, Unknown)
    assert (found.provider_ref, found.amount_minor, found.status) == (first.provider_ref, 1250, EntryStatus.BOOKED)
    assert [entry async for entry in bank.report(PERIOD)] == [found]


async def test_the_idempotency_key_is_the_payouts_id(rig: Rig) -> None:
    """The bank knows it after its book was asked by key, with another reference refused."""
    one = payment(payout_id="payout-1")
    await rig.bank.pay(one)
    booking = rig.store.by_key("payout-1", rig.now_ms)
    assert booking is not None
    assert booking.order.reference == "payout-1"


async def test_a_refused_account_is_a_refusal(rig: Rig) -> None:
    await rig.faults(refuse_accounts=frozenset({"ada"}))
    assert await rig.bank.pay(payment()) == Refused("account-closed")
    assert state(rig.breaker) is State.CLOSED


async def test_an_unknown_reference_is_nothing(rig: Rig) -> None:
    assert await rig.bank.find("nobody") is None


async def test_money_that_came_back_is_seen(rig: Rig) -> None:
    one = payment()
    await rig.bank.pay(one)
    async with httpx.AsyncClient() as client:
        await client.post(f"{rig.server.url}/returns", json={"reference": one.payout_id})
    (entry,) = [entry async for entry in rig.bank.report(PERIOD)]
    assert (entry.status, entry.reason_code) == (EntryStatus.RETURNED, "returned-by-beneficiary")


@pytest.mark.parametrize(
    ("fault", "cause", "booked"),
    [
        ({"fail_before": 1}, UnknownCause.BANK_FAILED, False),
        ({"fail_after": 1}, UnknownCause.BANK_FAILED, True),
        ({"drop_reply": 1}, UnknownCause.NO_ANSWER, True),
        ({"down": True}, UnknownCause.BANK_FAILED, False),
    ],
)
async def test_what_may_have_been_booked_is_unknown_and_paid_once_in_the_end(
    rig: Rig, fault: dict[str, Any], cause: UnknownCause, booked: bool
) -> None:
    """The client cannot tell the cases apart, so it must treat them alike."""
    await rig.faults(**fault)
    one = payment()
    outcome = await rig.bank.pay(one)
    assert isinstance(outcome, Unknown)
    assert outcome.cause is cause
    assert len(rig.store.by_reference(one.payout_id)) == booked
    await rig.faults()
    assert isinstance(await rig.bank.pay(one), Booked)
    assert len(rig.store.by_reference(one.payout_id)) == 1


async def test_a_bank_that_is_too_slow_is_unknown_and_has_booked(tmp_path: Path, rig: Rig) -> None:
    await rig.faults(reply_delay_seconds=0.3)
    one = payment()
    hasty = HttpBank(rig.server.url, rig.breaker, call_timeout_seconds=0.05)
    outcome = await hasty.pay(one)
    again = await rig.bank.pay(one)
    await hasty.close()
    assert outcome == Unknown(UnknownCause.NO_ANSWER, "no answer within 0.05 s")
    assert again == Unknown(UnknownCause.BUSY, "a payment with this key is being worked on: ask again later")
    assert len(rig.store.by_reference(one.payout_id)) == 1


async def test_a_payment_that_the_bank_knows_otherwise_is_for_a_person(rig: Rig) -> None:
    one = payment(1)
    await rig.bank.pay(one)
    outcome = await rig.bank.pay(payment(2, one.payout_id))
    assert isinstance(outcome, Unknown)
    assert outcome.cause is UnknownCause.CONFLICT


async def test_where_no_connection_comes_about_nothing_was_sent() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        bank = HttpBank(f"http://127.0.0.1:{unused.getsockname()[1]}", CircuitBreaker(Clock()))
        outcome = await bank.pay(payment())
        await bank.close()
    assert isinstance(outcome, Unknown)
    assert outcome.cause is UnknownCause.NOT_SENT


async def test_an_open_breaker_means_no_call(rig: Rig) -> None:
    await rig.faults(down=True)
    for _ in range(3):
        await rig.bank.pay(payment())
    await rig.faults()
    one = payment()
    with pytest.raises(BankUnavailable, match="open") as refused:
        await rig.bank.pay(one)
    assert refused.value.retry_in_seconds > 0
    assert rig.store.by_reference(one.payout_id) == []
    with pytest.raises(BankUnavailable):
        await rig.bank.find(one.payout_id)
    rig.clock.now += 2
    assert isinstance(await rig.bank.pay(one), Booked), "the probe"
    assert state(rig.breaker) is State.CLOSED


async def test_a_cancelled_probe_leaves_its_place_to_another(rig: Rig) -> None:
    await rig.faults(down=True)
    for _ in range(3):
        await rig.bank.pay(payment())
    rig.clock.now += 2
    await rig.faults(delay_seconds=30)
    probe = asyncio.create_task(rig.bank.pay(payment()))
    assert [await rig.transitions.get() for _ in range(2)] == [State.OPEN, State.HALF_OPEN]
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    await rig.faults()
    assert isinstance(await rig.bank.pay(payment()), Booked)


@pytest.mark.parametrize(
    ("status", "body", "cause", "opens"),
    [
        (500, {}, UnknownCause.BANK_FAILED, True),
        (502, b"<html>gateway</html>", UnknownCause.BANK_FAILED, True),
        (503, {}, UnknownCause.BANK_FAILED, True),
        (408, {}, UnknownCause.BUSY, False),
        (429, {}, UnknownCause.BUSY, False),
        (409, {"reason_code": "in-progress"}, UnknownCause.BUSY, False),
        (409, {"reason_code": "key-reused"}, UnknownCause.CONFLICT, False),
        (409, b"", UnknownCause.CONFLICT, False),
        (200, b"<html>welcome</html>", UnknownCause.UNREADABLE, False),
        (201, {"status": "booked"}, UnknownCause.UNREADABLE, False),
        (201, {"provider_ref": "b1", "status": "perhaps"}, UnknownCause.UNREADABLE, False),
        (201, b"", UnknownCause.UNREADABLE, False),
    ],
)
async def test_whatever_settles_nothing_is_unknown(status: int, body: object, cause: UnknownCause, opens: bool) -> None:
    bank, breaker = saying(status, body)
    outcome = await bank.pay(payment())
    assert isinstance(outcome, Unknown)
    assert outcome.cause is cause
    assert state(breaker) is (State.OPEN if opens else State.CLOSED)


@pytest.mark.parametrize("status", [204, 302, 400, 401, 403, 404, 405, 418])
async def test_what_has_nothing_to_do_with_the_payment_is_no_refusal(status: int) -> None:
    """A wrong address or password must not send everybody's money back to their balances."""
    bank, breaker = saying(status, {"reason_code": "whatever"})
    with pytest.raises(BankMisunderstood, match=str(status)):
        await bank.pay(payment())
    assert state(breaker) is State.CLOSED


async def test_a_payment_that_makes_no_sense_to_the_bank_is_refused() -> None:
    bank, _ = saying(422, {"reason_code": "invalid", "error": "account: too long"})
    assert await bank.pay(payment()) == Refused("invalid", "account: too long")
    bank, _ = saying(422, b"what?")
    with pytest.raises(BankMisunderstood):
        await bank.pay(payment())


@pytest.mark.parametrize("error", [httpx.ReadTimeout, httpx.WriteError, httpx.RemoteProtocolError, httpx.ReadError])
async def test_every_error_after_connecting_is_no_answer(error: type[httpx.RequestError]) -> None:
    def fail(_request: httpx.Request) -> httpx.Response:
        raise error("broken")

    bank, breaker = answering(fail)
    outcome = await bank.pay(payment())
    assert isinstance(outcome, Unknown)
    assert outcome.cause is UnknownCause.NO_ANSWER
    assert state(breaker) is State.OPEN


async def test_a_full_pool_is_not_the_banks_fault() -> None:
    def fail(_request: httpx.Request) -> httpx.Response:
        raise httpx.PoolTimeout("full")

    bank, breaker = answering(fail)
    outcome = await bank.pay(payment())
    assert isinstance(outcome, Unknown)
    assert outcome.cause is UnknownCause.NOT_SENT
    assert state(breaker) is State.CLOSED


@pytest.mark.parametrize("body", [b"", b"<html>not here</html>", {"detail": "Not Found"}])
async def test_a_404_that_does_not_say_unknown_reference_is_not_taken_for_it(body: object) -> None:
    """Behind a wrong address everything is unknown; paying again for that would be paying twice."""
    bank, _ = saying(404, body)
    with pytest.raises(BankMisunderstood):
        await bank.find("p1")


async def test_somebody_elses_payment_is_not_taken_for_ours() -> None:
    entry = {
        "provider_ref": "b1",
        "reference": "p2",
        "account": "ada",
        "amount_minor": 1,
        "currency": "USD",
        "status": "booked",
    }
    bank, _ = saying(200, entry)
    outcome = await bank.find("p1")
    assert isinstance(outcome, Unknown)
    assert outcome.cause is UnknownCause.UNREADABLE


async def test_the_report_is_read_in_parts(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_bank, "REPORT_PAGE_ENTRIES", 2)
    paid = [payment(number) for number in range(1, 6)]
    for one in paid:
        await rig.bank.pay(one)
    found = [entry async for entry in rig.bank.report(PERIOD)]
    assert [(entry.reference, entry.amount_minor) for entry in found] == [
        (one.payout_id, one.amount_minor) for one in paid
    ]


async def test_a_report_that_breaks_off_is_an_error_and_not_a_short_report(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_bank, "REPORT_PAGE_ENTRIES", 2)
    for number in range(1, 6):
        await rig.bank.pay(payment(number))
    entries = rig.bank.report(PERIOD)
    await anext(entries)
    await anext(entries)
    await rig.faults(down=True)
    with pytest.raises(BankUnavailable, match="bank-failed"):
        await anext(entries)


async def test_a_report_without_an_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_bank, "REPORT_PAGE_ENTRIES", 1)
    entry = {
        "provider_ref": "b1",
        "reference": "p1",
        "account": "ada",
        "amount_minor": 1,
        "currency": "USD",
        "status": "booked",
    }
    bank, _ = saying(200, [entry])
    with pytest.raises(BankMisunderstood, match="again and again"):
        _ = [one async for one in bank.report(PERIOD)]


async def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_bank, "ANSWER_MAX_BYTES", 100)
    bank, _ = saying(200, {**BOOKED, "more": "x" * 100})
    outcome = await bank.pay(payment())
    assert isinstance(outcome, Unknown)
    assert outcome.cause is UnknownCause.UNREADABLE


def test_an_address_that_is_no_url_is_refused() -> None:
    with pytest.raises(ValueError, match="URL"):
        HttpBank("bank.example", CircuitBreaker(Clock()))
