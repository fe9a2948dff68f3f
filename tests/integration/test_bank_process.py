"""`payday bank` as a process: its word holds across kill -9, and a lost reply is a lost reply."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.integration.processes import Home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PERIOD = "2026-11-22"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path) as home:
        yield home


def order(reference: str) -> dict[str, Any]:
    return {"reference": reference, "account": "ada", "period": PERIOD, "amount_minor": 5, "currency": "USD"}


def pay(client: httpx.Client, reference: str) -> httpx.Response:
    return client.post("/payments", json=order(reference), headers={"Idempotency-Key": reference})


def test_what_was_answered_with_201_survives_kill_9(home: Home) -> None:
    """Also a booking whose reply was cut off on purpose; and no key books twice."""
    bank = home.start("bank")
    with closing(httpx.Client(base_url=bank.wait_for_first_line(30))) as client:
        first = [pay(client, f"p{number}") for number in range(20)]
        assert [response.status_code for response in first] == [201] * 20
        client.put("/faults", json={"drop_reply": 1})
        with pytest.raises(httpx.RemoteProtocolError):
            pay(client, "lost")
        bank.kill()
    again = home.start("bank", "--fail", "fail_first=1")
    with closing(httpx.Client(base_url=again.wait_for_first_line(30))) as client:
        assert client.get("/faults").json()["fail_first"] == 1
        assert [pay(client, f"p{number}").status_code for number in range(20)] == [500] * 20
        repeated = [pay(client, f"p{number}") for number in range(20)]
        assert [(one.status_code, one.json()) for one in repeated] == [(200, one.json()) for one in first]
        references = [entry["reference"] for entry in client.get("/report", params={"period": PERIOD}).json()]
    assert references == [*(f"p{number}" for number in range(20)), "lost"]
    assert again.stop() == 0


@pytest.mark.parametrize("option", ["explode=1", "fail_before", "fail_before=2"])
def test_a_senseless_fault_is_wrong_use(home: Home, option: str) -> None:
    bank = home.start("bank", "--fail", option)
    assert bank.wait(30) == 2
    assert "--fail" in bank.errors
