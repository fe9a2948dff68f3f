"""Payout runs over HTTP: for an outside scheduler, which may ask twice, and several instances at once."""

from __future__ import annotations

import hmac
import json
from datetime import date
from typing import TYPE_CHECKING, assert_never

from pydantic import TypeAdapter, ValidationError
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from contracts.fields import Period
from contracts.message import InvalidMessage
from contracts.payouts import StartRun
from streams.payouts.domain import Known, NewRun, Refused, RunStatus, Trigger
from streams.storage.errors import StorageError

if TYPE_CHECKING:
    from starlette.requests import Request

    from streams.payouts.runs import Runs

__all__ = ["payout_routes"]

OK, ACCEPTED, UNAUTHORIZED, NOT_FOUND, CONFLICT, TOO_LARGE, INVALID, UNAVAILABLE = (
    200,
    202,
    401,
    404,
    409,
    413,
    422,
    503,
)
BODY_MAX_BYTES = 1000
CHALLENGE = {"WWW-Authenticate": "Bearer"}
_PERIOD: TypeAdapter[date] = TypeAdapter(Period)


def payout_routes(runs: Runs, token: str | None) -> list[Route]:
    """`POST /payout-runs` and `GET /payout-runs/{period}`.

    Args:
        runs: registers and reports.
        token: what a request that starts a run must carry; None: every such request is refused.
    """

    async def start(request: Request) -> Response:
        return _unauthorized(request, token) or await _start(request, runs)

    async def look(request: Request) -> Response:
        return await _look(request.path_params["period"], runs)

    return [
        Route("/payout-runs", start, methods=["POST"]),
        Route("/payout-runs/{period}", look, methods=["GET"]),
    ]


async def _start(request: Request, runs: Runs) -> Response:
    period = await _period_in(request)
    if not isinstance(period, date):
        return period
    try:
        outcome = await runs.register(period, Trigger.HTTP)
    except StorageError as error:
        return _error(UNAVAILABLE, f"nothing was registered: {error}")
    match outcome:
        case NewRun():
            return _run(period, RunStatus.REGISTERED, ACCEPTED)
        case Known(status):
            return _run(period, status, OK)
        case Refused(reason_code, message):
            return JSONResponse({"reason_code": reason_code, "message": message}, CONFLICT)
        case _:
            assert_never(outcome)


async def _period_in(request: Request) -> date | Response:
    """What the body says, or why it says nothing."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_MAX_BYTES:
            return _error(TOO_LARGE, f"the body is longer than {BODY_MAX_BYTES} bytes")
    try:
        return StartRun.model_validate_json(bytes(body)).period  # the same body as that of the command
    except InvalidMessage as error:
        return _error(INVALID, "; ".join(map(str, error.problems)))


async def _look(text: str, runs: Runs) -> Response:
    try:
        period = _PERIOD.validate_json(json.dumps(text))
    except ValidationError:
        return _error(INVALID, "the period should be a date such as 2026-11-22")
    try:
        report = await runs.report(period)
    except StorageError as error:
        return _error(UNAVAILABLE, str(error))
    if report is None:
        return _error(NOT_FOUND, f"there is no run of {period}")
    return JSONResponse(report.as_json())


def _unauthorized(request: Request, token: str | None) -> Response | None:
    """None for a request that carries the token; compared in a time that says nothing about it."""
    if token is None:
        return JSONResponse(
            {"error": "PAYDAY_HTTP_TOKEN is not set, so nothing may be started"}, UNAUTHORIZED, CHALLENGE
        )
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    sound = scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())
    return None if sound else JSONResponse({"error": "a bearer token is needed"}, UNAUTHORIZED, CHALLENGE)


def _run(period: date, status: RunStatus, code: int) -> Response:
    url = f"/payout-runs/{period}"
    headers = {"Location": url}
    return JSONResponse({"period": str(period), "status": status.value, "url": url}, code, headers)


def _error(code: int, text: str) -> Response:
    return JSONResponse({"error": text}, code)
