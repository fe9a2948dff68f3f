"""A simulated bank that keeps its word on idempotency keys, and breaks down as it is told to.

Payments: `POST /payments` with `Idempotency-Key`; `GET /payments?reference=`; `GET /report?period=[&after=&limit=]`.
Control, from this machine only: `GET` and `PUT /faults`; `POST /returns` {reference, reason_code?}: the money comes
back.

Invariants: 201 and 200 are sent only after the booking is in the file; as long as a key is remembered it books once.
After that it depends: where references are unique, a known reference never books again (the earlier payment is the
answer); where they are not, it books a second time, as real banks do, and the report shows two bookings with one
reference.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import time
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from streams.embedded.bank_faults import FaultDice, Faults
from streams.embedded.bank_store import BankStore, Booking, BookingStatus, Order

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

__all__ = ["KEY_LIFE_SECONDS", "LIMITS", "Bank"]

KEY_LIFE_SECONDS = 86_400.0
BODY_MAX_BYTES = 1_000_000
REPORT_PAGE_ROWS = 5_000
CONTROL_HOSTS = ("testclient", "localhost")
"""Beside loopback addresses: what in-process test clients call themselves."""
LIMITS = "the simulated bank moves no money: for trying out and for tests."
BOOKED, KNOWN, CONFLICT, FORBIDDEN, NOT_FOUND, INVALID, FAILED, DOWN = 201, 200, 409, 403, 404, 422, 500, 503

Text = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00]+$")]
Body = TypeVar("Body", bound=BaseModel)


class PaymentBody(BaseModel):
    """The body of `POST /payments`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference: Text
    account: Text
    period: date
    amount_minor: Annotated[int, Field(gt=0, le=1_000_000_000_000, strict=True)]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class ReturnBody(BaseModel):
    """The body of `POST /returns`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference: Text
    reason_code: Text = "returned-by-beneficiary"


class ReportQuery(BaseModel):
    """The query of `GET /report`: a whole period, or a part of it behind a `provider_ref`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    period: date
    after: Annotated[str, Field(pattern=r"^bank-[0-9]{1,18}$")] = "bank-0"
    limit: Annotated[int, Field(ge=1, le=REPORT_PAGE_ROWS)] | None = None


class _Problem(Exception):
    """An answer that is not what was asked for."""

    def __init__(self, status: int, reason_code: str, text: str) -> None:
        super().__init__(text)
        self.response = JSONResponse({"reason_code": reason_code, "error": text}, status)


class Bank:
    """The bank's rules over its book.

    Args:
        store: the book.
        key_life_seconds: how long an idempotency key is remembered after it has booked.
        unique_references: whether a reference that is in the book never books again, key or no key.
        faults: what goes wrong from the beginning; `PUT /faults` changes it.
        now_ms: the time.
    """

    def __init__(
        self,
        store: BankStore,
        *,
        key_life_seconds: float = KEY_LIFE_SECONDS,
        unique_references: bool = True,
        faults: Faults | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._store = store
        self._key_life_ms = int(key_life_seconds * 1000)
        self._unique_references = unique_references
        self._dice = FaultDice(faults or Faults())
        self._now_ms = now_ms
        self._in_progress: set[str] = set()

    def app(self) -> Starlette:
        """What answers over HTTP."""
        return Starlette(
            routes=[
                Route("/payments", self._post_payment, methods=["POST"]),
                Route("/payments", self._get_payment, methods=["GET"]),
                Route("/report", self._get_report, methods=["GET"]),
                Route("/faults", self._get_faults, methods=["GET"]),
                Route("/faults", self._put_faults, methods=["PUT"]),
                Route("/returns", self._post_return, methods=["POST"]),
            ],
            exception_handlers={_Problem: _answer_problem},
        )

    async def _post_payment(self, request: Request) -> Response:
        self._refuse_if_down()
        key = request.headers.get("idempotency-key", "")
        if not 0 < len(key) <= 255:  # noqa: PLR2004  as every text here
            raise _Problem(INVALID, "invalid", "the header Idempotency-Key must be there, with 1 to 255 characters")
        body = await _read(request, PaymentBody)
        order = Order(body.reference, body.account, body.period.isoformat(), body.amount_minor, body.currency)
        if key in self._in_progress:
            raise _Problem(CONFLICT, "in-progress", "a payment with this key is being worked on: ask again later")
        self._in_progress.add(key)
        try:
            return await self._pay(key, order)
        finally:
            self._in_progress.discard(key)

    async def _pay(self, key: str, order: Order) -> Response:
        faults, strikes = self._dice.faults, self._dice.strike(key)
        await asyncio.sleep(faults.delay_seconds)
        if strikes.fail_before:
            raise _Problem(FAILED, "failed", "told to fail before booking")
        booking, status = self._book(key, order, faults)
        await asyncio.sleep(faults.reply_delay_seconds)
        if strikes.fail_after:
            raise _Problem(FAILED, "failed", "told to fail after booking")
        if strikes.drop_reply:
            return _CutOff()
        rejected = booking.status is BookingStatus.REJECTED
        answer = {
            "provider_ref": booking.provider_ref,
            "reference": booking.order.reference,
            "status": (BookingStatus.REJECTED if rejected else BookingStatus.BOOKED).value,
            "reason_code": booking.reason_code if rejected else None,
        }
        return JSONResponse(answer, status)

    def _book(self, key: str, order: Order, faults: Faults) -> tuple[Booking, int]:
        """No await in here: what is looked up is still true when it is booked."""
        now_ms = self._now_ms()
        known = self._store.by_key(key, now_ms)
        if known is not None:
            if known.order != order:
                raise _Problem(CONFLICT, "key-reused", "this key was used for another payment")
            return known, KNOWN
        if self._unique_references and (earlier := self._store.by_reference(order.reference)):
            if earlier[0].order != order:
                raise _Problem(CONFLICT, "reference-reused", "this reference was used for another payment")
            return earlier[0], KNOWN
        closed = order.account in faults.refuse_accounts
        booking = self._store.book(
            order,
            BookingStatus.REJECTED if closed else BookingStatus.BOOKED,
            "account-closed" if closed else None,
            key=key,
            now_ms=now_ms,
            key_until_ms=now_ms + self._key_life_ms,
        )
        return booking, BOOKED

    async def _get_payment(self, request: Request) -> Response:
        self._refuse_if_down()
        reference = request.query_params.get("reference", "")
        if not reference:
            raise _Problem(INVALID, "invalid", "ask with ?reference=...")
        found = self._store.by_reference(reference)
        if not found:
            raise _Problem(NOT_FOUND, "unknown-reference", "no payment has this reference")
        return JSONResponse({**_entry(found[0]), "bookings": len(found)})

    async def _get_report(self, request: Request) -> Response:
        self._refuse_if_down()
        query = _validated(lambda: ReportQuery.model_validate(dict(request.query_params)))
        after = int(query.after.removeprefix("bank-"))
        return StreamingResponse(
            self._report(query.period.isoformat(), after, query.limit), media_type="application/json"
        )

    async def _report(self, period: str, after: int, limit: int | None) -> AsyncIterator[str]:
        """A JSON array, page by page, so that a million bookings take no memory."""
        opening = "["
        while True:
            page = self._store.moved(period, after, limit or REPORT_PAGE_ROWS)
            for booking in page:
                yield opening + json.dumps(_entry(booking))
                opening = ",\n"
            if limit is not None or len(page) < REPORT_PAGE_ROWS:
                break
            after = page[-1].number
            await asyncio.sleep(0)
        yield "[]\n" if opening == "[" else "]\n"

    async def _get_faults(self, request: Request) -> Response:
        _only_from_here(request)
        return JSONResponse(self._dice.faults.model_dump(mode="json"))

    async def _put_faults(self, request: Request) -> Response:
        _only_from_here(request)
        self._dice = FaultDice(await _read(request, Faults))
        return JSONResponse(self._dice.faults.model_dump(mode="json"))

    async def _post_return(self, request: Request) -> Response:
        _only_from_here(request)
        body = await _read(request, ReturnBody)
        found = self._store.by_reference(body.reference)
        if not found:
            raise _Problem(NOT_FOUND, "unknown-reference", "no payment has this reference")
        booked = [booking for booking in found if booking.status is BookingStatus.BOOKED]
        if not booked:
            raise _Problem(CONFLICT, "not-booked", f"the payment is {found[0].status.value}")
        self._store.give_back(booked[-1].number, body.reason_code, self._now_ms())
        return JSONResponse(_entry(self._store.by_reference(body.reference)[found.index(booked[-1])]))

    def _refuse_if_down(self) -> None:
        if self._dice.faults.down:
            raise _Problem(DOWN, "down", "told to be down")


class _CutOff(Response):
    """Begins an answer and ends the connection: the client learns nothing."""

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": BOOKED, "headers": headers})


async def _read(request: Request, kind: type[Body]) -> Body:
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > BODY_MAX_BYTES:
            raise _Problem(INVALID, "invalid", f"the body has more than {BODY_MAX_BYTES} bytes")
    return _validated(lambda: kind.model_validate_json(bytes(raw)))


def _validated(validate: Callable[[], Body]) -> Body:
    try:
        return validate()
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in one['loc']) or 'body'}: {one['msg']}"
            for one in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise _Problem(INVALID, "invalid", "; ".join(problems)) from None


def _only_from_here(request: Request) -> None:
    host = request.client.host if request.client is not None else ""
    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = host in CONTROL_HOSTS
    if not here:
        raise _Problem(FORBIDDEN, "not-allowed", "only from the machine on which the bank runs")


async def _answer_problem(_request: Request, problem: Exception) -> Response:
    assert isinstance(problem, _Problem), "it is registered for nothing else"
    return problem.response


def _entry(booking: Booking) -> dict[str, Any]:
    return {
        "provider_ref": booking.provider_ref,
        "reference": booking.order.reference,
        "account": booking.order.account,
        "period": booking.order.period,
        "amount_minor": booking.order.amount_minor,
        "currency": booking.order.currency,
        "status": booking.status.value,
        "reason_code": booking.reason_code,
        "booked_at": datetime.fromtimestamp(booking.booked_at_ms / 1000, UTC).isoformat(timespec="milliseconds"),
    }
