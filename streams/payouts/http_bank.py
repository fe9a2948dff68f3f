"""A bank that is asked over HTTP (INTERFACES: Bank), behind a circuit breaker.

Invariants: the idempotency key is the payout's id; no call is repeated in here; no call lasts longer than
`CALL_TIMEOUT_SECONDS`; an answer that was not agreed on is never taken for a refusal, nor for "never heard of it".

What is told apart: where no connection came about, nothing was sent. That is safe to say only because httpx connects
before it sends; once a byte may have left, every error is `no-answer`.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, assert_never

import httpx
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from streams.payouts.bank import (
    BankEntry,
    BankMisunderstood,
    BankUnavailable,
    Booked,
    EntryStatus,
    Payment,
    PaymentOutcome,
    Refused,
    Unknown,
    UnknownCause,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from streams.resilience.circuit_breaker import CircuitBreaker, Permit

__all__ = ["HttpBank"]

CONNECT_TIMEOUT_SECONDS = 3.0
READ_TIMEOUT_SECONDS = 10.0
WRITE_TIMEOUT_SECONDS = 5.0
POOL_TIMEOUT_SECONDS = 5.0
CALL_TIMEOUT_SECONDS = 15.0
"""For the whole call: the others bound each step, and a bank that sends a byte now and then passes them all."""
MAX_CONNECTIONS = 64
REPORT_PAGE_ENTRIES = 1_000
ANSWER_SHOWN_BYTES = 200
ANSWER_MAX_BYTES = 4_000_000

OK, CREATED, NOT_FOUND = 200, 201, 404
ASKS_FOR_PATIENCE = frozenset({408, 425, 429})
BAD_REQUEST, SERVER_ERROR = 400, 500

Text = Annotated[str, Field(min_length=1, max_length=255)]
Content = TypeVar("Content")


class _PaymentAnswer(BaseModel):
    model_config = ConfigDict(frozen=True)

    provider_ref: Text
    status: Literal["booked", "rejected"]
    reason_code: Text | None = None


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes

    def read(self, kind: TypeAdapter[Content]) -> Content | None:
        """The body, if it is what was agreed on. What is there beside that is ignored."""
        try:
            return kind.validate_json(self.body)
        except ValidationError:
            return None

    @property
    def shown(self) -> str:
        """For a person: the status and how the body begins."""
        begins = self.body[:ANSWER_SHOWN_BYTES].decode(errors="replace")
        return f"{self.status} {''.join(c if c.isprintable() else ' ' for c in begins)}".rstrip()


class _Problem(BaseModel):
    model_config = ConfigDict(frozen=True)

    reason_code: str = ""
    error: str = ""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True)

    provider_ref: Text
    reference: Text
    account: Text
    amount_minor: int
    currency: Text
    status: EntryStatus
    reason_code: str | None = None
    booked_at: str = ""

    def entry(self) -> BankEntry:
        return BankEntry(
            self.provider_ref,
            self.reference,
            self.account,
            self.amount_minor,
            self.currency,
            self.status,
            self.reason_code,
            self.booked_at,
        )


_PAYMENT = TypeAdapter(_PaymentAnswer)
_PROBLEM = TypeAdapter(_Problem)
_ENTRY = TypeAdapter(_Entry)
_ENTRIES = TypeAdapter(list[_Entry])


class HttpBank:
    """A client of one bank: a `Bank`. Close it when done.

    Args:
        url: of the bank.
        breaker: guards every call; of this bank alone.
        call_timeout_seconds: bounds each call as a whole.
        transport: instead of the network.

    Raises:
        ValueError: the URL is neither http nor https.
    """

    def __init__(
        self,
        url: str,
        breaker: CircuitBreaker,
        *,
        call_timeout_seconds: float = CALL_TIMEOUT_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if httpx.URL(url).scheme not in {"http", "https"} or not httpx.URL(url).host:
            raise ValueError("the bank's URL should be http://host or https://host")
        logging.getLogger("httpx").setLevel(logging.WARNING)  # at info it writes every URL, which may hold a secret
        self._breaker = breaker
        self._call_timeout_seconds = call_timeout_seconds
        self._client = httpx.AsyncClient(
            base_url=url,
            timeout=httpx.Timeout(
                connect=CONNECT_TIMEOUT_SECONDS,
                read=READ_TIMEOUT_SECONDS,
                write=WRITE_TIMEOUT_SECONDS,
                pool=POOL_TIMEOUT_SECONDS,
            ),
            limits=httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS),
            transport=transport,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def pay(self, payment: Payment) -> PaymentOutcome:
        """As `Bank.pay`."""
        body = {
            "reference": payment.payout_id,
            "account": payment.account,
            "period": payment.period,
            "amount_minor": payment.amount_minor,
            "currency": payment.currency,
        }
        answer = await self._call(
            "POST", "/payments", params={}, json=body, headers={"Idempotency-Key": payment.payout_id}
        )
        if isinstance(answer, Unknown):
            return answer
        if answer.status in {OK, CREATED}:
            return _payment_outcome(answer)
        problem = answer.read(_PROBLEM) or _Problem()
        match answer.status:
            case 409 if problem.reason_code == "in-progress":
                return Unknown(UnknownCause.BUSY, problem.error)
            case 409:
                return Unknown(UnknownCause.CONFLICT, problem.error or answer.shown)
            case 422 if problem.reason_code:
                return Refused(problem.reason_code, problem.error)
        raise _misunderstood(answer)

    async def find(self, reference: str) -> BankEntry | Unknown | None:
        """As `Bank.find`."""
        answer = await self._call("GET", "/payments", params={"reference": reference})
        if isinstance(answer, Unknown):
            return answer
        if answer.status == OK:
            found = answer.read(_ENTRY)
            if found is None or found.reference != reference:
                return Unknown(UnknownCause.UNREADABLE, answer.shown)
            return found.entry()
        problem = answer.read(_PROBLEM)
        if answer.status == NOT_FOUND and problem is not None and problem.reason_code == "unknown-reference":
            return None  # a bare 404 may come from a wrong address: paying again for that would be paying twice
        raise _misunderstood(answer)

    async def report(self, period: str) -> AsyncIterator[BankEntry]:
        """As `Bank.report`; read in parts of `REPORT_PAGE_ENTRIES`."""
        after: dict[str, str] = {}
        while True:
            answer = await self._call(
                "GET", "/report", params={"period": period, "limit": str(REPORT_PAGE_ENTRIES), **after}
            )
            if isinstance(answer, Unknown):
                raise BankUnavailable(f"the bank's report cannot be read: {answer.cause.value} {answer.detail}")
            if answer.status != OK:
                raise _misunderstood(answer)
            entries = answer.read(_ENTRIES)
            if entries is None or len(entries) > REPORT_PAGE_ENTRIES:
                raise _misunderstood(answer)
            for one in entries:
                yield one.entry()
            if len(entries) < REPORT_PAGE_ENTRIES:
                return
            if after.get("after") == entries[-1].provider_ref:
                raise BankMisunderstood("the bank gives the same part of its report again and again")
            after = {"after": entries[-1].provider_ref}

    async def _call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str],
        json: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> _Answer | Unknown:
        """One call. What does not settle anything is `Unknown`; the rest is for the caller to read.

        Raises:
            BankUnavailable: the breaker is open.
        """
        permit = self._breaker.allow()
        if permit is None:
            status = self._breaker.status()
            raise BankUnavailable(
                f"the bank has not been answering: the circuit breaker is {status.state.value}",
                status.retry_in_seconds,
            )
        try:
            async with asyncio.timeout(self._call_timeout_seconds):
                answer = await self._exchange(method, path, json=json, params=params, headers=headers)
            return _judged(answer, permit)
        except TimeoutError:
            permit.failed()
            return Unknown(UnknownCause.NO_ANSWER, f"no answer within {self._call_timeout_seconds:g} s")
        except httpx.PoolTimeout as error:  # our own connections are all in use: says nothing about the bank
            return Unknown(UnknownCause.NOT_SENT, _described(error))
        except httpx.HTTPError as error:
            permit.failed()
            never_connected = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            return Unknown(UnknownCause.NOT_SENT if never_connected else UnknownCause.NO_ANSWER, _described(error))
        finally:
            permit.abandoned()  # without effect after an answer; frees a probe's place when this is cancelled

    async def _exchange(self, method: str, path: str, **request: Any) -> _Answer:
        async with self._client.stream(method, path, **request) as response:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > ANSWER_MAX_BYTES:
                    break
            # What is cut off cannot be read, and is judged like anything else that cannot.
            return _Answer(response.status_code, bytes(body[:ANSWER_MAX_BYTES]))


def _judged(answer: _Answer, permit: Permit) -> _Answer | Unknown:
    """Tell the breaker whether somebody sensible is there, and sort out what settles nothing."""
    if answer.status >= SERVER_ERROR:
        permit.failed()
        return Unknown(UnknownCause.BANK_FAILED, answer.shown)
    if answer.status in ASKS_FOR_PATIENCE:
        permit.refused()
        return Unknown(UnknownCause.BUSY, answer.shown)
    if answer.status < BAD_REQUEST:
        permit.succeeded()
    else:
        permit.refused()
    return answer


def _payment_outcome(answer: _Answer) -> PaymentOutcome:
    said = answer.read(_PAYMENT)
    if said is None:
        return Unknown(UnknownCause.UNREADABLE, answer.shown)
    match said.status:
        case "booked":
            return Booked(said.provider_ref)
        case "rejected":
            return Refused(said.reason_code or "rejected")
        case _:
            assert_never(said.status)


def _misunderstood(answer: _Answer) -> BankMisunderstood:
    return BankMisunderstood(f"the bank does not speak as agreed: {answer.shown}; look at PAYDAY_BANK_URL")


def _described(error: httpx.HTTPError) -> str:
    return f"{type(error).__name__} {error}".rstrip()
