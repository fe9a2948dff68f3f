"""The contract tests notice what they are there to notice: each planted fault turns a test red, in memory and on the
wire, with a message that shows expected and actual and what else was emitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from contracts.accounting import TransactionApplied
from streams.contract_kit.report import ContractBroken
from tests.contract import faulty_service
from tests.contract.accounting import adjust
from tests.contract.cast import ACE, ADA, worker

if TYPE_CHECKING:
    from streams.contract_kit.scenario import Scenario

pytestmark = [pytest.mark.slices("accounting"), pytest.mark.launcher("tests.contract.faulty_service")]

SAID = {
    faulty_service.WRONG_AMOUNT: (
        r"no accounting\.transaction-applied\.v1 is as expected",
        r"! amount_minor +500 +501\n",
        r"emitted besides:\n +1\. accounting\.transaction-applied\.v1 on accounting\.events",
    ),
    faulty_service.WRONG_KEY: (
        r"accounting\.transaction-applied\.v1 in a wrong envelope",
        rf"! key +b'{ADA}' +b'somebody else'\n",
        r"emitted since the last step:\n +1\. accounting\.transaction-applied\.v1 on accounting\.events key=somebody",
    ),
    faulty_service.WRONG_TOPIC: (
        r"accounting\.transaction-applied\.v1 in a wrong envelope",
        r"! topic +accounting\.events +tasks\.events\n",
    ),
    faulty_service.NO_CAUSATION: (
        r"accounting\.transaction-applied\.v1 in a wrong envelope",
        r"! ce_causationid +the id of a message that was sent or emitted +missing\n",
        r"caused by nothing",
    ),
    faulty_service.EXTRA_EVENT: (
        r"more happened than was expected",
        r"as expected so far:\n +1\. accounting\.transaction-applied\.v1 on accounting\.events",
        r"emitted besides:\n +1\. accounting\.period-closed\.v1 .* caused by the accounting\.adjust-balance\.v1",
    ),
}


@pytest.fixture(autouse=True)
def faults(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory the service is in this process; on the wire its launcher plants them."""
    if request.config.getoption("--contract-mode") == "memory":
        faulty_service.plant(monkeypatch)


async def _adjusted(contract: Scenario, fault: str) -> None:
    """A contract test of an adjustment, as it stands among the others."""
    await contract.when(adjust(500), correlation_id=fault)
    contract.then(TransactionApplied, worker_id=ADA, amount_minor=500, key=ADA)
    contract.then_nothing_else()


@pytest.mark.parametrize("fault", SAID)
async def test_a_planted_fault_turns_a_test_red(contract: Scenario, fault: str) -> None:
    """The same test is green without the fault."""
    await contract.given(worker(ADA), worker(ACE, "accountant"))
    await _adjusted(contract, "no fault")
    with pytest.raises(ContractBroken) as broken:
        await _adjusted(contract, fault)
    for part in SAID[fault]:
        broken.match(part)
